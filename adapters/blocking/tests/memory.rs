//! The heap that an idle connection takes, in bytes, and what many sessions leave behind.
#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

use std::net::Ipv4Addr;
use std::task::Poll;
use std::time::{Duration, Instant};

use smoq::{
    Client, CloseReason, Origin, OriginProducer, Server, Session, SessionGauges, Subscription,
};
use smoq_blocking::quinn_proto::ClientConfig;
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, Endpoint, Event, config};

/// Both ends of a connection are here, and both have the same limits: each is below 100 KiB. With all
/// streams that a peer may have open allowed at once it would be 600.
#[test]
fn an_idle_connection_is_small() {
    const CONNECTIONS: i64 = 8;
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let (server, client) = (Server::new(), Client::new());
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listen = config::server(&identity, server.versions()).unwrap();
    let mut listening = Endpoint::bind(any, listen, &server).unwrap();
    let addr = listening.local_addr().unwrap();
    let mut dialing = Endpoint::new(any).unwrap();
    let dial = config::client(&Trust::from(identity.fingerprint()), client.versions()).unwrap();
    let mut kept: Vec<Session> = Vec::with_capacity(2 * CONNECTIONS as usize);
    let info = allocation_counter::measure(|| {
        for _ in 0..CONNECTIONS {
            dialing.dial(addr, "localhost", dial.clone(), &client).unwrap();
        }
        let limit = Instant::now() + Duration::from_secs(30);
        while kept.len() < 2 * CONNECTIONS as usize
            || kept.iter().any(|session| session.stats().bytes_received == 0)
        {
            for endpoint in [&mut listening, &mut dialing] {
                endpoint.step(Budget::items(1_000)).unwrap();
                while let Some(event) = endpoint.poll_event() {
                    let Event::Connected { session, .. } = event else { panic!("{event:?}") };
                    kept.push(session);
                }
            }
            assert!(Instant::now() < limit, "it hangs");
        }
    });
    let each = info.bytes_current / CONNECTIONS / 2;
    println!("{each} bytes");
    assert!(each < 100 << 10, "{each} bytes");
    assert!(each > 10 << 10, "{each} bytes: that is not all of it");
}

/// All of them read one track. Half of them are ended by the client and half by the server.
#[test]
fn hundreds_of_sessions_on_webtransport_leave_nothing() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let origin = Origin::default().produce();
    let server = Server::new().with_publish(origin.consume());
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listen = config::server(&identity, server.versions()).unwrap();
    let listening = Endpoint::bind(any, listen, &server).unwrap();
    let dial = config::webtransport_client(&identity.fingerprint().into()).unwrap();
    let mut net = Net { listening, dialing: Endpoint::new(any).unwrap(), dial };
    // Tables grow for the first ones, and stay.
    net.crowd(&origin);
    let info = allocation_counter::measure(|| net.crowd(&origin));
    println!("{} bytes are left of {}", info.bytes_current, info.bytes_max);
    assert!(info.bytes_current < 32 << 10, "{} bytes are left", info.bytes_current);
    assert!(info.bytes_max > 1 << 20, "{} bytes: that is not all of it", info.bytes_max);
}

struct Net {
    listening: Endpoint,
    dialing: Endpoint,
    dial: ClientConfig,
}

impl Net {
    const SESSIONS: usize = 250;

    fn crowd(&mut self, origin: &OriginProducer) {
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let origins: Vec<_> = (0..Self::SESSIONS).map(|_| Origin::default().produce()).collect();
        let [mut near, mut far] = [(); 2].map(|()| Vec::<Session>::new());
        // One after the other, so that no round trip seems long: a closed connection stays for three.
        for origin in &origins {
            let (client, address) = (Client::new().with_consume(origin.clone()), self.address());
            self.dialing.dial(address, "localhost", self.dial.clone(), &client).unwrap();
            for is_far in [false, true] {
                let event = self.until(|net| match is_far {
                    false => net.dialing.poll_event(),
                    true => net.listening.poll_event(),
                });
                let Event::Connected { session, .. } = event else { panic!("{event:?}") };
                if is_far { &mut far } else { &mut near }.push(session);
            }
        }
        let mut readers = Vec::new();
        for origin in &origins {
            let mut origin = origin.consume();
            let live = self.until(|_| ready(origin.try_announced_broadcast("live"))).unwrap();
            readers.push(live.subscribe_track("video", Subscription::default()).unwrap());
        }
        let is_served = |session: &Session| session.gauges().serving == 1;
        self.until(|_| far.iter().all(is_served).then_some(()));
        for n in 0..3_u8 {
            track.write_frame(0_u64, vec![n; 2_000]).unwrap();
            for reader in &mut readers {
                let frame = self.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
                assert!(frame.payload() == [n; 2_000]);
            }
        }
        drop(readers);
        let half = Self::SESSIONS / 2;
        near[..half].iter().for_each(Session::drain);
        // The order in which the server accepted them is another one.
        let open = |session: &&Session| session.gauges().serving == 1;
        self.until(|_| (far.iter().filter(open).count() == 0).then_some(()));
        let mut closed = 0;
        let mut clean = |endpoint: &mut Endpoint| {
            while let Some(event) = endpoint.poll_event() {
                let Event::Closed { reason, .. } = event else { panic!("{event:?}") };
                assert_eq!(reason, CloseReason::Clean);
                closed += 1;
            }
            closed
        };
        self.until(|net| (clean(&mut net.dialing) >= half).then_some(()));
        self.until(|net| {
            clean(&mut net.dialing);
            (clean(&mut net.listening) >= 2 * half).then_some(())
        });
        far.iter().for_each(Session::drain);
        self.until(|net| {
            clean(&mut net.dialing);
            let is_over = clean(&mut net.listening) == 2 * Self::SESSIONS;
            (is_over && net.connections() == 0).then_some(())
        });
        ready(track.try_unused()).unwrap().unwrap();
        for session in near.iter().chain(&far) {
            let SessionGauges { rtt, bitrate, max_datagram, .. } = session.gauges();
            let mut none = SessionGauges::default();
            (none.rtt, none.bitrate, none.max_datagram) = (rtt, bitrate, max_datagram);
            assert_eq!(session.gauges(), none);
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.listening.local_addr().unwrap()
    }

    fn connections(&self) -> usize {
        self.listening.connections() + self.dialing.connections()
    }

    #[track_caller]
    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(Instant::now() < limit, "it hangs");
            // Few at a time, so that no buffer of a socket overflows.
            let budget = Budget::items(100);
            let (far, near) = (self.listening.step(budget), self.dialing.step(budget));
            if far.unwrap().items + near.unwrap().items == 0 {
                self.dialing.wait(Some(Duration::from_millis(1))).unwrap();
            }
        }
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
