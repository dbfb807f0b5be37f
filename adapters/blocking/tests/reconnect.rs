//! Clients that dial again as part of a loop's steps, over loopback.
#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smoq::{
    BroadcastProducer, Client, CloseReason, Error, Goaway, Hop, LimitKind, Limits, Origin,
    OriginProducer, Server, Session, Subscription, TrackConsumer, TrackProducer,
};
use smoq_blocking::smoq_quic::{Identity, MAX_LEAVING, Redial, Redirect, Trust, Url};
use smoq_blocking::{Budget, Endpoint, Event, ReconnectId, config};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn url(address: SocketAddr) -> Url {
    format!("moqt://{address}/").parse().unwrap()
}

/// A client in its loop, servers, and a track of theirs.
struct World {
    identity: Identity,
    origin: OriginProducer,
    seen: OriginProducer,
    net: Endpoint,
    servers: Vec<Endpoint>,
    track: TrackProducer,
    _broadcast: BroadcastProducer,
}

impl World {
    fn new() -> Self {
        let identity = Identity::self_signed(["127.0.0.1"]).unwrap();
        let [origin, seen] = [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce());
        let net = Endpoint::new(loopback()).unwrap();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let track = broadcast.create_track("video").unwrap();
        Self { identity, origin, seen, net, servers: vec![], track, _broadcast: broadcast }
    }

    fn listen(&mut self, address: SocketAddr) -> Url {
        let server = Server::new().with_publish(self.origin.consume());
        self.serve(address, &server)
    }

    fn serve(&mut self, address: SocketAddr, server: &Server) -> Url {
        let tls = config::server(&self.identity, server.versions()).unwrap();
        let endpoint = Endpoint::bind(address, tls, server).unwrap();
        let url = url(endpoint.local_addr().unwrap());
        self.servers.push(endpoint);
        url
    }

    fn reconnect(&mut self, redial: Redial) -> ReconnectId {
        self.reconnect_as(redial, &Client::new().with_consume(self.seen.clone()))
    }

    fn reconnect_as(&mut self, redial: Redial, client: &Client) -> ReconnectId {
        let (trust, versions) =
            (Trust::from(self.identity.fingerprint()), client.versions().clone());
        self.net.reconnect(redial, client, move |url| {
            let address = format!("{}:{}", url.host(), url.port()).parse()?;
            let mut tls = config::client_for(url, &trust, &versions)?;
            // QUIC forgets a connection sooner.
            let mut transport = config::transport();
            transport.initial_rtt(10 * MS);
            tls.transport_config(Arc::new(transport));
            Ok((vec![address], tls))
        })
    }

    /// Steps all endpoints until `done` has something. Only the client waits, so its deadlines have to be those of
    /// the wait.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            for endpoint in self.servers.iter_mut().chain([&mut self.net]) {
                endpoint.step(Budget::items(10_000)).unwrap();
            }
            if let Some(done) = done(self) {
                return done;
            }
            assert!(Instant::now() < limit, "it hangs");
            self.net.wait(Some(MS)).unwrap();
        }
    }

    fn next(&mut self) -> Event {
        self.until(|it| it.net.poll_event())
    }

    /// An attempt that leads to a session, and its URL.
    fn connected(&mut self) -> (Url, Session) {
        let Event::Dialing { id: dialed, url, .. } = self.next() else { panic!("no attempt") };
        match self.next() {
            Event::Connected { id, session, .. } if id == dialed => (url, session),
            other => panic!("{other:?}"),
        }
    }

    fn reader(&mut self) -> TrackConsumer {
        let live = self.until(|it| it.seen.consume().broadcast("live"));
        live.subscribe_track("video", Subscription::default()).unwrap()
    }

    fn read(&mut self, reader: &mut TrackConsumer) -> u64 {
        self.until(|_| match reader.try_read_frame() {
            Poll::Ready(frame) => Some(frame.unwrap().expect("a frame").timestamp().units()),
            Poll::Pending => None,
        })
    }

    /// The only session of a server.
    fn session(&mut self, server: usize) -> Session {
        self.until(|it| match it.servers[server].poll_event() {
            Some(Event::Connected { session, .. }) => Some(session),
            Some(other) => panic!("{other:?}"),
            None => None,
        })
    }
}

#[test]
fn a_reader_goes_on_when_the_server_comes_back() {
    let mut world = World::new();
    let near = world.listen(loopback());
    let address = world.servers[0].local_addr().unwrap();
    let redial = Redial::new(near).pauses(MS, 20 * MS).lasting(Duration::ZERO);
    let id = world.reconnect(redial);
    world.connected();
    let mut reader = world.reader();
    for n in 0..3 {
        world.track.write_frame(2 * n, "x").unwrap();
        assert_eq!(world.read(&mut reader), 2 * n);
        world.servers.clear();
        assert!(matches!(world.next(), Event::Closed { reason: CloseReason::Clean, .. }));
        match world.next() {
            Event::Waiting { reconnect, error: None, pause, .. } if reconnect == id => {
                assert!(pause <= MS, "{pause:?}");
            }
            other => panic!("{other:?}"),
        }
        // In the gap.
        world.track.write_frame(2 * n + 1, "x").unwrap();
        world.listen(address);
        world.connected();
        assert_eq!(world.read(&mut reader), 2 * n + 1);
    }
}

#[test]
fn the_next_url_is_dialed_when_one_is_dead() {
    let mut world = World::new();
    let silent = UdpSocket::bind(loopback()).unwrap();
    let (dead, absurd) = (url(silent.local_addr().unwrap()), "moqt://not-an-address");
    let alive = world.listen(loopback());
    let redial = Redial::new(absurd.parse().unwrap()).or(dead.clone()).or(alive.clone());
    world.reconnect(redial.attempt_timeout(300 * MS));
    match world.next() {
        Event::Waiting { error: Some(error), pause: Duration::ZERO, .. } => {
            assert!(error.is::<std::net::AddrParseError>());
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.next(), Event::Dialing { url, .. } if url == dead));
    match world.next() {
        Event::Waiting { url, error: None, pause: Duration::ZERO, .. } => assert_eq!(url, dead),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.connected().0, alive);
    // Nothing is left of the attempt that was given up.
    world.until(|it| (it.net.connections() == 1).then_some(()));
}

#[test]
fn a_redirect_is_followed_if_the_application_allows_it() {
    for (follows, to, expected) in [
        (true, "", Redirect::Followed),
        (false, "", Redirect::Refused),
        (true, "moqt://elsewhere.example/", Redirect::Refused),
        (true, "moqt://[::1/\u{0}\u{1f980}", Redirect::Invalid),
    ] {
        let mut world = World::new();
        let (near, far) = (world.listen(loopback()), world.listen(loopback()));
        let to = if to.is_empty() { far.to_string() } else { to.into() };
        let mut redial = Redial::new(near.clone()).pauses(MS, 20 * MS).lasting(Duration::ZERO);
        if follows {
            redial = redial.follow(|url| url.host() == "127.0.0.1");
        }
        world.reconnect(redial);
        assert_eq!(world.connected().0, near);
        let mut reader = world.reader();
        world.track.write_frame(1, "x").unwrap();
        assert_eq!(world.read(&mut reader), 1);
        let leaving = world.session(0);
        leaving.go_away(Goaway::default().uri(&*to)).unwrap();
        match world.next() {
            Event::GoingAway { goaway, redirect, .. } => {
                assert_eq!((redirect, goaway.uri.as_deref()), (expected, Some(&*to)));
            }
            other => panic!("{other:?}"),
        }
        let next = if expected == Redirect::Followed { far } else { near };
        assert_eq!(world.connected().0, next, "{to}");
        // The old session ends because its reader has moved, and nothing is dialed for it.
        assert!(matches!(world.next(), Event::Closed { reason: CloseReason::Clean, .. }));
        world.track.write_frame(2, "x").unwrap();
        assert_eq!(world.read(&mut reader), 2);
        assert!(world.net.poll_event().is_none());
    }
}

impl World {
    /// Reads the track of a client up to the beginning of a group, in the origin of its server.
    fn reader_of(&mut self, taken: &OriginProducer) -> TrackConsumer {
        let up = self.until(|_| taken.consume().broadcast("up"));
        let mut reader = up.subscribe_track("video", Subscription::default()).unwrap();
        self.until(|_| match reader.try_recv_group() {
            Poll::Ready(group) => group.unwrap(),
            Poll::Pending => None,
        });
        reader
    }
}

/// The reader of the first session can't move. When the second one is asked to leave, the first is drained: all that it
/// owes is still sent.
#[test]
fn an_older_session_that_leaves_is_drained() {
    let mut world = World::new();
    let taken = Origin::default().produce();
    let first = world.serve(loopback(), &Server::new().with_consume(taken.clone()));
    let (second, third) = (world.listen(loopback()), world.listen(loopback()));
    let own = Origin::default().produce();
    let mut up = own.create_broadcast("up").unwrap();
    let mut track = up.create_track("video").unwrap();
    track.write_frame(0, "first").unwrap();
    let client = Client::new().with_consume(world.seen.clone()).with_publish(own.consume());
    let redial = Redial::new(first.clone()).pauses(MS, 20 * MS).lasting(Duration::ZERO);
    world.reconnect_as(redial.follow(|_| true), &client);
    let Event::Dialing { id: near, .. } = world.next() else { panic!("no attempt") };
    assert!(matches!(world.next(), Event::Connected { id, .. } if id == near));
    let mut reader = world.reader_of(&taken);
    let leaving = world.session(0);
    leaving.go_away(Goaway::default().timeout(HOUR).uri(second.to_string())).unwrap();
    assert!(matches!(world.next(), Event::GoingAway { id, .. } if id == near));
    let Event::Dialing { id: far, url, .. } = world.next() else { panic!("no attempt") };
    assert_eq!(url, second);
    assert!(matches!(world.next(), Event::Connected { id, .. } if id == far));
    assert!(!leaving.is_closed());

    let big = vec![7; 1 << 20];
    track.write_frame(1, big.clone()).unwrap();
    let session = world.session(1);
    session.go_away(Goaway::default().uri(third.to_string())).unwrap();
    let (mut lost, mut connected) = (Vec::new(), false);
    while lost.len() < 2 || !connected {
        match world.next() {
            Event::Closed { id, reason: CloseReason::Clean } => lost.push(id),
            Event::Connected { .. } => connected = true,
            Event::GoingAway { id, .. } => assert_eq!(id, far),
            Event::Dialing { url, .. } => assert_eq!(url, third),
            other => panic!("{other:?}"),
        }
    }
    lost.sort();
    let mut expected = [near, far];
    expected.sort();
    assert_eq!(lost, expected);
    let frame = world.until(|_| match reader.try_read_frame() {
        Poll::Ready(frame) => Some(frame.unwrap().expect("a frame")),
        Poll::Pending => None,
    });
    assert_eq!(frame.payload(), big);
    assert!(leaving.is_closed());
}

/// The peers read nothing, so that no session ends in time. Past the bound the oldest is closed.
#[test]
fn sessions_that_leave_are_bounded_and_each_end_is_told() {
    let mut world = World::new();
    let own = Origin::default().produce();
    let mut up = own.create_broadcast("up").unwrap();
    let mut track = up.create_track("video").unwrap();
    // More than QUIC takes for a peer that does not read.
    track.write_frame(0, vec![7; 8 << 20]).unwrap();
    let mut limits = Limits::default();
    limits.close_timeout = HOUR;
    let client = Client::new().with_publish(own.consume()).with_limits(limits);
    let serve = |world: &mut World| {
        let taken = Origin::default().produce();
        (world.serve(loopback(), &Server::new().with_consume(taken.clone())), taken)
    };
    let (near, mut taken) = serve(&mut world);
    let redial = Redial::new(near).pauses(MS, 20 * MS).lasting(Duration::ZERO);
    world.reconnect_as(redial.follow(|_| true), &client);
    let (mut silent, mut leaving, mut lost) = (Vec::new(), Vec::<(_, Session)>::new(), 0);
    while lost < 3 {
        match world.next() {
            Event::Connected { id, session, .. } => {
                let reader = world.reader_of(&taken);
                let there = world.session(0);
                let next;
                (next, taken) = serve(&mut world);
                there.go_away(Goaway::default().timeout(HOUR).uri(next.to_string())).unwrap();
                leaving.push((id, session));
                let going = world.next();
                assert!(matches!(going, Event::GoingAway { id: of, .. } if of == id), "{going:?}");
                silent.push((world.servers.remove(0), there, reader));
            }
            Event::Closed { id, reason } => {
                assert_eq!(reason, CloseReason::Error(Error::Limit(LimitKind::LeavingSessions)));
                assert_eq!(id, leaving[lost].0);
                lost += 1;
                assert!(leaving.len() >= MAX_LEAVING + lost);
            }
            Event::Dialing { .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(leaving[lost..].iter().rev().take(MAX_LEAVING).all(|(_, it)| !it.is_closed()));
    }
}

/// Each session is closed with UNAUTHORIZED.
#[test]
fn a_server_that_refuses_is_asked_ever_less_often() {
    let mut world = World::new();
    let near = world.listen(loopback());
    world.servers[0].set_manual_accept(true);
    world.reconnect(Redial::new(near).pauses(8 * MS, HOUR));
    let mut pauses = Vec::new();
    while pauses.len() < 6 {
        let event = world.until(|it| {
            while let Some(event) = it.servers[0].poll_event() {
                if let Event::Incoming { request, .. } = event {
                    request.reject(Error::Unauthorized);
                }
            }
            it.net.poll_event()
        });
        match event {
            Event::Closed { reason, .. } => {
                assert_eq!(reason, CloseReason::Error(Error::Unauthorized));
            }
            Event::Waiting { pause, .. } => pauses.push(pause),
            Event::Dialing { .. } | Event::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    for (n, pause) in pauses.iter().enumerate() {
        assert!(*pause >= 4 * MS * (1 << n), "{pauses:?}");
    }
}

#[test]
fn waiting_and_dialing_can_be_stopped() {
    let mut world = World::new();
    let silent = UdpSocket::bind(loopback()).unwrap();
    let near = url(silent.local_addr().unwrap());
    let redial = Redial::new(near).pauses(HOUR, HOUR).attempt_timeout(50 * MS);

    // During the pause, for which a wait would last.
    let id = world.reconnect(redial.clone());
    while !matches!(world.next(), Event::Waiting { .. }) {}
    world.net.stop(id);
    world.net.stop(id);
    world.until(|it| (it.net.connections() == 0).then_some(()));

    // During an attempt.
    let id = world.reconnect(redial.attempt_timeout(HOUR));
    assert!(matches!(world.next(), Event::Dialing { .. }));
    world.net.stop(id);
    world.until(|it| (it.net.connections() == 0).then_some(()));

    // During a session, which goes on until it is closed.
    let alive = world.listen(loopback());
    let id = world.reconnect(Redial::new(alive));
    let (_, session) = world.connected();
    world.net.stop(id);
    let mut reader = world.reader();
    session.drain();
    assert!(matches!(world.next(), Event::Closed { .. }));
    let end = world.until(|_| match reader.try_recv_group() {
        Poll::Ready(end) => Some(end.err()),
        Poll::Pending => None,
    });
    assert_eq!(end, Some(Error::SessionClosed), "nobody waits for a session that will not come");
    assert!(world.net.poll_event().is_none());
}

/// The client is stopped while its reader waits for the next session.
#[test]
fn readers_that_wait_learn_of_a_stop() {
    let mut world = World::new();
    let near = world.listen(loopback());
    let id = world.reconnect(Redial::new(near).pauses(HOUR, HOUR).hold(HOUR));
    let (_, session) = world.connected();
    let mut reader = world.reader();
    world.servers.clear();
    assert!(matches!(world.next(), Event::Closed { .. }));
    assert!(matches!(world.next(), Event::Waiting { .. }));
    assert!(reader.try_recv_group().is_pending());
    world.net.stop(id);
    let end = world.until(|_| match reader.try_recv_group() {
        Poll::Ready(end) => Some(end.err()),
        Poll::Pending => None,
    });
    assert_eq!(end, Some(Error::SessionClosed));
    drop(session);
}

/// Attempts that the server refuses, and attempts that the application can't make.
#[test]
fn ten_thousand_attempts_keep_no_memory() {
    let mut world = World::new();
    let near = world.listen(loopback());
    world.servers[0].set_max_connections(0);
    let absurd: Url = "moqt://not-an-address".parse().unwrap();
    let mut fail = |others: &Url, times| {
        let urls = (0..999).map(|_| others.clone());
        let redial = urls.fold(Redial::new(near.clone()), Redial::or).pauses(MS, MS);
        let id = world.reconnect(redial);
        let mut failed = 0;
        world.until(|it| {
            while let Some(event) = it.net.poll_event() {
                failed += usize::from(matches!(event, Event::Waiting { .. }));
            }
            (failed >= times).then_some(())
        });
        world.net.stop(id);
        // QUIC forgets a connection three timeouts after its end.
        world.until(|it| (it.net.connections() == 0).then_some(()));
    };
    // The tables of connections have their size afterwards.
    fail(&near, 30);
    let growth = allocation_counter::measure(|| fail(&absurd, 10_000)).bytes_current;
    assert!(growth < 16 << 10, "{growth} bytes");
}
