//! Tests of the socket and of the streams of connections, which are private to an endpoint.

use quinn_proto::Dir;
use smoq::{Origin, Subscription, Track};
use smoq_quic::{Identity, Trust};

use super::*;
use crate::config;

#[test]
fn a_connection_continues_when_the_socket_takes_packets_again() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server = Server::new();
    let listen = config::server(&identity, server.versions()).unwrap();
    let dial = config::client(&Trust::from(identity.fingerprint()), server.versions()).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut endpoint = Endpoint::bind(local, listen, &server).unwrap();
    let addr = endpoint.local_addr().unwrap();
    endpoint.dial(addr, "localhost", dial, &Client::new()).unwrap();
    let begun = clock();
    for _ in 0..2 {
        let event = loop {
            if !endpoint.socket.is_stuck() {
                endpoint.socket.refusals = 2;
            }
            endpoint.step(Budget::items(1)).unwrap();
            if let Some(event) = endpoint.poll_event() {
                break event;
            }
            endpoint.wait(None).unwrap();
        };
        assert!(matches!(event, Event::Connected { .. }), "{event:?}");
    }
    // Not by repeating what was lost: nothing was.
    assert!(clock() - begun < Duration::from_secs(1));
    for connection in endpoint.connections.iter().flatten() {
        assert_eq!(connection.quic.stats().path.lost_packets, 0);
    }
}

/// An endpoint that has dialed itself, stepped by hand.
struct Loop(Endpoint);

impl Loop {
    fn new(server: &Server, client: &Client) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let listen = config::server(&identity, server.versions()).unwrap();
        let trust = Trust::from(identity.fingerprint());
        let dial = config::client(&trust, client.versions()).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = Endpoint::bind(local, listen, server).unwrap();
        let addr = endpoint.local_addr().unwrap();
        endpoint.dial(addr, "localhost", dial, client).unwrap();
        Self(endpoint)
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Endpoint) -> Option<T>) -> T {
        let begun = clock();
        loop {
            self.0.step(Budget::items(100)).unwrap();
            if let Some(done) = done(&mut self.0) {
                return done;
            }
            assert!(clock() - begun < Duration::from_secs(20), "it hangs");
        }
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// quinn keeps a stream that was stopped until that is answered by a reset, also if it was finished
/// meanwhile, and gives no other one in its place.
#[test]
fn streams_leave_nothing_however_they_end() {
    for version in smoq::Version::ALL.into_iter().chain(smoq::Version::WIP) {
        let (near, far) = (Origin::default().produce(), Origin::default().produce());
        let server = Server::new().with_publish(near.consume()).with_versions(version);
        let client = Client::new().with_consume(far.clone()).with_versions(version);
        let mut net = Loop::new(&server, &client);
        let mut live = near.create_broadcast("live").unwrap();
        let mut track = live.create_track(Track::new("video")).unwrap();
        let mut seen = far.consume();
        let live = net.until(|_| ready(seen.try_announced_broadcast("live"))).unwrap();
        let open = |endpoint: &mut Endpoint| {
            let connections = endpoint.connections.iter_mut().flatten();
            let count = connections.map(|it| {
                let streams = it.quic.streams();
                let theirs = [Dir::Bi, Dir::Uni].map(|dir| streams.remote_open_streams(dir));
                streams.send_streams() as u64 + theirs.iter().sum::<u64>()
            });
            count.sum::<u64>()
        };
        // The streams that are open while there is no request.
        let mut idle = u64::MAX;
        for n in 0..30_u64 {
            let want = Subscription::default();
            let mut refused = live.subscribe_track("no such track", want.clone()).unwrap();
            assert!(net.until(|_| ready(refused.try_next_group())).is_err());
            let mut wanted = live.subscribe_track("video", want).unwrap();
            net.until(|_| ready(track.try_used())).unwrap();
            let mut group = track.append_group().unwrap();
            group.write_frame(n, "frame").unwrap();
            let mut there = net.until(|_| ready(wanted.try_next_group())).unwrap().unwrap();
            net.until(|_| ready(there.try_read_frame())).unwrap().unwrap();
            match n % 3 {
                0 => group.finish().unwrap(),
                1 => group.abort(smoq::Error::App(7)),
                // The reader stops it.
                _ => {}
            }
            drop((there, wanted));
            net.until(|_| ready(track.try_unused())).unwrap();
            drop(group);
            // Acknowledgements come late: the first rounds find out what stays.
            let begun = clock();
            net.until(|net| {
                let now = open(net);
                let is_idle = now <= idle && n >= 3;
                idle = idle.min(now);
                (is_idle || n < 3 && clock() - begun > Duration::from_millis(60)).then_some(())
            });
        }
    }
}
