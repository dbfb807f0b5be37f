//! Endpoints that dial `ws://` and `wss://`.

use std::net::UdpSocket;
use std::sync::Arc;

use smoq::{CloseReason, Error, Version, Versions};
use smoq_blocking::smoq_quic::{Redial, Url, rustls, tls};
use smoq_blocking::{ConnectionId, DialConfig, DialError, HEAD_START, Unreachable};
use tungstenite::handshake::derive_accept_key;

use super::*;

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn url(scheme: &str, address: SocketAddr) -> Url {
    format!("{scheme}://localhost:{}/room/7?token=abc", address.port()).parse().unwrap()
}

impl Stage {
    fn secure(&mut self) {
        self.net.set_web_socket_tls(tls::server(&self.identity, ["http/1.1"]).unwrap());
    }

    /// With TLS for `wss`.
    fn on(scheme: &str, change: impl FnOnce(Server) -> Server) -> Self {
        let mut stage = Self::with(change);
        if scheme == "wss" {
            stage.secure();
        }
        stage
    }

    /// Dials this address, with the parts of a URL for it.
    fn dial_at(&mut self, scheme: &str, address: SocketAddr, client: &Client) -> ConnectionId {
        let url = url(scheme, address);
        let config = DialConfig::for_url(&url, &self.trust, client.versions()).unwrap();
        let client = client.clone().with_path(url.path()).with_authority(url.authority());
        if self.others.is_empty() {
            self.others.push(Endpoint::new(any()).unwrap());
        }
        self.others[0].dial_any([address], url.host(), config, &client)
    }

    fn dial_by(&mut self, scheme: &str, client: &Client) -> ConnectionId {
        self.dial_at(scheme, self.address, client)
    }

    /// The next event of the first endpoint that dials.
    fn there(&mut self) -> Event {
        self.until(|stage| stage.others[0].poll_event())
    }

    fn unreachable(&mut self, dialed: ConnectionId) -> Unreachable {
        match self.there() {
            Event::Unreachable { id, error } if id == dialed => error,
            event => panic!("{event:?}"),
        }
    }

    fn joined(&mut self, dialed: ConnectionId) -> Session {
        match self.there() {
            Event::Connected { id, session, .. } if id == dialed => session,
            event => panic!("{event:?}"),
        }
    }

    /// Nothing is left of a client that failed.
    fn until_alone(&mut self, here: usize) {
        self.until(|stage| {
            let connections = (stage.net.connections(), stage.others[0].connections());
            (connections == (here, here)).then_some(())
        });
    }
}

/// The error of the only address.
fn only(error: Unreachable) -> DialError {
    let [(_, error)] = <[_; 1]>::try_from(error.tried).unwrap();
    error
}

/// Both sides publish more than their windows at the same time.
#[test]
fn a_client_joins_in_every_version_with_tls_and_without() {
    for (version, scheme) in Version::known().flat_map(|it| [(it, "ws"), (it, "wss")]) {
        let there = Origin::default().produce();
        let every: Versions = Version::known().collect();
        let change = |server: Server| server.with_consume(there.clone()).with_versions(every);
        let mut stage = Stage::on(scheme, change);
        let [near, received] = [(); 2].map(|()| Origin::default().produce());
        let client = Client::new().with_publish(near.consume()).with_consume(received.clone());
        let dialed = stage.dial_by(scheme, &client.with_versions(version));
        let session = stage.connected();
        stage.joined(dialed);
        assert!(stage.others[0].session(dialed).is_some());

        let mut mouse = near.create_broadcast("mouse").unwrap();
        let mut position = mouse.create_track("position").unwrap();
        let mut seen = there.consume();
        let mouse = stage.until(|_| ready(seen.try_announced_broadcast("mouse"))).unwrap();
        let mut here = mouse.subscribe_track("position", Subscription::default()).unwrap();
        stage.until(|_| ready(position.try_used())).unwrap();
        let mut reader = stage.subscribe(&received);
        assert_eq!(session.version(), version);
        for size in [6 << 20, 0, 1, 20_000] {
            stage.track.write_frame(0_u64, vec![7; size]).unwrap();
            position.write_frame(0_u64, vec![8; size]).unwrap();
            for (reader, byte) in [(&mut reader, 7), (&mut here, 8)] {
                let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
                assert!(frame.payload() == vec![byte; size], "{version}, {scheme}, {size}");
            }
        }
        session.drain();
        let Event::Closed { id, reason } = stage.there() else { panic!("no end") };
        assert_eq!((id, reason), (dialed, CloseReason::Clean));
        stage.until_alone(0);
        assert!(stage.others[0].session(dialed).is_none());
    }
}

#[test]
fn the_server_sees_the_request_of_a_client() {
    for scheme in ["ws", "wss"] {
        let mut stage = Stage::on(scheme, |server| server);
        stage.net.set_manual_accept(true);
        let dialed = stage.dial_by(scheme, &Client::new());
        let Event::Incoming { request, .. } = stage.event() else { panic!("no request") };
        assert_eq!((request.path().as_str(), request.query()), ("room/7", "token=abc"));
        assert_eq!(request.authority(), format!("localhost:{}", stage.address.port()));
        assert_eq!(request.http().unwrap().path(), "/room/7?token=abc");
        stage.joined(dialed);
        request.reject(Error::Unauthorized);
        let Event::Closed { reason, .. } = stage.there() else { panic!("no end") };
        assert_eq!(reason, CloseReason::Error(Error::Unauthorized));
        stage.until(|stage| {
            matches!(stage.net.poll_event(), Some(Event::Closed { .. })).then_some(())
        });
        stage.until_alone(0);
    }
}

/// A certificate that is not pinned, one for another name, a client and a server of which one has TLS, and a name that
/// can't be in a certificate. The error names the host, and a session beside it goes on.
#[test]
fn a_refused_certificate_is_a_typed_error() {
    let mut stage = Stage::on("wss", |server| server);
    let received = Origin::default().produce();
    let beside = stage.dial_by("wss", &Client::new().with_consume(received.clone()));
    stage.connected();
    stage.joined(beside);
    let mut reader = stage.subscribe(&received);

    let trusted = stage.trust.clone();
    stage.trust = Identity::self_signed(["localhost"]).unwrap().fingerprint().into();
    let dialed = stage.dial_by("wss", &Client::new());
    let error = stage.unreachable(dialed);
    let (text, host) =
        (error.to_string(), format!("can't reach localhost: {}: TLS: ", stage.address));
    assert!(
        text.starts_with(&host) && text.ends_with("is not one of those that are pinned"),
        "{text}"
    );
    assert!(matches!(only(error), DialError::Tls(rustls::Error::Other(_))));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(stage.identity.chain()[0].clone()).unwrap();
    let other = tls::client(&Trust::Roots(roots), ["http/1.1"]).unwrap();
    let other = DialConfig::web_socket(Some(Arc::new(other)));
    let address = stage.address;
    let dialed =
        stage.others[0].dial_any([address], "other.example", other.clone(), &Client::new());
    let error = only(stage.unreachable(dialed));
    assert!(matches!(error, DialError::Tls(rustls::Error::InvalidCertificate(_))), "{error}");
    let dialed = stage.others[0].dial_any([address], "not a name", other, &Client::new());
    let error = only(stage.unreachable(dialed));
    assert!(matches!(error, DialError::Connect(_)), "{error}");

    stage.trust = trusted;
    let dialed = stage.dial_by("ws", &Client::new());
    // The system may drop the alert of TLS with the connection.
    let error = only(stage.unreachable(dialed));
    assert!(matches!(error, DialError::WebSocket(_) | DialError::Tcp(_)), "{error}");
    let listener = TcpListener::bind(any()).unwrap();
    let plain = listener.local_addr().unwrap();
    let mut server = Endpoint::new(any()).unwrap();
    server.listen_web_socket(listener, &Server::new()).unwrap();
    let dialed = stage.dial_at("wss", plain, &Client::new());
    stage.others.push(server);
    let error = only(stage.unreachable(dialed));
    assert!(matches!(error, DialError::Tls(rustls::Error::InvalidMessage(_))), "{error}");

    stage.until_alone(1);
    assert!(stage.net.poll_event().is_none());
    stage.track.write_frame(0_u64, "news").unwrap();
    let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), b"news");
}

#[test]
fn certificates_are_replaced_while_clients_dial() {
    let mut stage = Stage::on("wss", |server| server);
    let received = Origin::default().produce();
    let before = stage.dial_by("wss", &Client::new().with_consume(received.clone()));
    stage.joined(before);
    let mut reader = stage.subscribe(&received);
    let old = stage.trust.clone();
    stage.identity = Identity::self_signed(["localhost"]).unwrap();
    stage.secure();
    let dialed = stage.dial_by("wss", &Client::new());
    assert!(matches!(only(stage.unreachable(dialed)), DialError::Tls(_)));
    stage.trust = stage.identity.fingerprint().into();
    let dialed = stage.dial_by("wss", &Client::new());
    stage.joined(dialed);
    stage.trust = old;
    stage.track.write_frame(0_u64, "news").unwrap();
    let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), b"news");
}

/// A way to another address that passes on so many bytes at a time, and in all so many of the server.
struct Way {
    listener: TcpListener,
    to: SocketAddr,
    at_a_time: usize,
    left: usize,
    /// Changes a bit of the next bytes of the client.
    is_damaging: bool,
    streams: Option<[TcpStream; 2]>,
}

impl Way {
    fn new(to: SocketAddr, at_a_time: usize, left: usize) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(any()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_damaging, streams) = (false, None);
        (Self { listener, to, at_a_time, left, is_damaging, streams }, address)
    }

    fn step(&mut self) {
        if let (None, Ok((near, _))) = (&self.streams, self.listener.accept()) {
            let streams = [near, TcpStream::connect(self.to).unwrap()];
            streams.iter().for_each(|it| it.set_nonblocking(true).unwrap());
            streams.iter().for_each(|it| it.set_nodelay(true).unwrap());
            self.streams = Some(streams);
        }
        let Some([near, far]) = &mut self.streams else { return };
        let mut bytes = vec![0; self.at_a_time];
        if let Ok(len @ 1..) = near.read(&mut bytes) {
            bytes[len - 1] ^= u8::from(std::mem::take(&mut self.is_damaging));
            far.write_all(&bytes[..len]).unwrap();
        }
        let most = self.at_a_time.min(self.left);
        if let Ok(len @ 1..) = far.read(&mut bytes[..most]) {
            near.write_all(&bytes[..len]).unwrap();
            self.left -= len;
        }
        if self.left == 0 {
            self.streams = None;
        }
    }
}

/// Handshakes and messages arrive byte by byte, or in other parts.
#[test]
fn a_client_joins_however_its_bytes_arrive() {
    for (scheme, at_a_time) in [("ws", 1), ("wss", 1), ("ws", 7), ("wss", 1_500)] {
        let mut stage = Stage::on(scheme, |server| server);
        let (mut way, address) = Way::new(stage.address, at_a_time, usize::MAX);
        let received = Origin::default().produce();
        stage.dial_at(scheme, address, &Client::new().with_consume(received.clone()));
        let mut seen = received.consume();
        let live = stage.until(|_| {
            way.step();
            ready(seen.try_announced_broadcast("live"))
        });
        let live = live.unwrap();
        let mut reader = live.subscribe_track("video", Subscription::default()).unwrap();
        let used = stage.until(|stage| {
            way.step();
            ready(stage.track.try_used())
        });
        used.unwrap();
        stage.track.write_frame(0_u64, vec![3; 2_000]).unwrap();
        let frame = stage.until(|_| {
            way.step();
            ready(reader.try_read_frame())
        });
        assert!(frame.unwrap().unwrap().payload() == [3; 2_000]);
    }
}

/// After each number of bytes of a server, within TLS and within HTTP.
#[test]
fn a_peer_that_vanishes_in_the_middle_of_a_handshake_is_an_error() {
    for (scheme, step) in [("ws", 1), ("wss", 13)] {
        let mut stage = Stage::on(scheme, |server| server);
        let mut failed = 0;
        for cut in (1..).step_by(step) {
            let (mut way, address) = Way::new(stage.address, 4_096, cut);
            let dialed = stage.dial_at(scheme, address, &Client::new());
            let event = stage.until(|stage| {
                way.step();
                stage.others[0].poll_event()
            });
            match event {
                Event::Unreachable { id, error } => {
                    assert_eq!(id, dialed);
                    let error = only(error);
                    assert!(matches!(error, DialError::Tcp(_)), "{cut}: {error}");
                    failed += 1;
                }
                // The handshake was complete.
                Event::Connected { .. } => break,
                event => panic!("{event:?}"),
            }
            assert_eq!(stage.others[0].connections(), 0);
        }
        assert!(failed > 50, "{failed}");
    }
}

/// Somebody on the way changes a bit, which TLS notices.
#[test]
fn a_session_with_a_damaged_record_is_lost_and_no_other() {
    let mut stage = Stage::on("wss", |server| server);
    let received = Origin::default().produce();
    stage.dial_by("wss", &Client::new().with_consume(received.clone()));
    stage.connected();
    stage.there();
    let mut reader = stage.subscribe(&received);
    let (mut way, address) = Way::new(stage.address, 4_096, usize::MAX);
    let near = Origin::default().produce();
    let dialed = stage.dial_at("wss", address, &Client::new().with_publish(near.consume()));
    stage.until(|stage| {
        way.step();
        matches!(stage.net.poll_event(), Some(Event::Connected { .. })).then_some(())
    });
    stage.joined(dialed);
    way.is_damaging = true;
    let _broadcast = near.create_broadcast("mouse").unwrap();
    let event = stage.until(|stage| {
        way.step();
        stage.net.poll_event()
    });
    let Event::Closed { reason, .. } = event else { panic!("{event:?}") };
    assert_eq!(reason, CloseReason::Error(Error::Disconnected));
    stage.track.write_frame(0_u64, "news").unwrap();
    let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), b"news");
}

/// It costs the buffers of the system and of TLS, whatever is published.
#[test]
fn a_client_with_tls_that_reads_nothing_stalls_nobody() {
    let mut stage = Stage::on("wss", |server| server);
    let [received, slow] = [(); 2].map(|()| Origin::default().produce());
    stage.dial_by("wss", &Client::new().with_consume(slow.clone()));
    let mut last = stage.subscribe(&slow);
    let stalled = stage.others.pop().unwrap();
    stage.dial_by("wss", &Client::new().with_consume(received.clone()));
    let mut reader = stage.subscribe(&received);
    stage.until_quiet();
    while stage.net.poll_event().is_some() {}
    let memory = allocation_counter::measure(|| {
        for n in 0..400_u64 {
            stage.track.write_frame(n, vec![0; 50_000]).unwrap();
            let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.payload().len(), 50_000);
        }
    });
    println!("{} bytes, {} at most", memory.bytes_current, memory.bytes_max);
    // The caches of the server and of the reader.
    assert!(memory.bytes_max < 2 * 400 * 50_000 + (1 << 20), "{}", memory.bytes_max);
    assert!(stage.net.poll_event().is_none());
    stage.others.push(stalled);
    stage.track.write_frame(400, "the end").unwrap();
    stage.until(|_| {
        let frame = ready(last.try_read_frame())?.unwrap().unwrap();
        (frame.payload() == b"the end").then_some(())
    });
}

/// Reads a request, and sends what `answer` makes of it.
fn answering(answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(any()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        // The client may have gone in the middle of it.
        let _ = stream.write_all(&answer(std::str::from_utf8(&request).unwrap()));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}

/// The answer of a server that agrees to `protocol`.
fn agreement(request: &str, protocol: &str) -> String {
    let key = request.lines().find_map(|it| it.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
}

const LITE: &str = "qmux-02.moq-lite-05";

/// RFC 6455, section 4.1.
#[test]
fn answers_that_are_not_for_the_request_are_typed_errors() {
    type Answer = fn(&str) -> String;
    let head: [(Answer, &str); 10] = [
        (|_| "HTTP/1.1 401 Unauthorized\r\n\r\n".into(), "with the HTTP status 401"),
        (|_| "HTTP/1.1 200 OK\r\n\r\n".into(), "with the HTTP status 200"),
        (|_| "\x15\x03\x01 this is TLS\r\n\r\n".into(), "the answer is not HTTP/1.1"),
        (|_| "A".repeat(20_000), "TCP: too large a head"),
        (|it| agreement(&it.replace("Key: ", "Key: x"), LITE), "not that to our request"),
        (|it| agreement(it, LITE).replace("Upgrade: w", "Upgrade: W_"), "not that to our request"),
        (|it| agreement(it, LITE).replace("alive, Upgrade", "alive"), "not that to our request"),
        (
            |it| {
                let extension = "Upgrade: websocket\r\nSec-WebSocket-Extensions: deflate";
                agreement(it, LITE).replace("Upgrade: websocket", extension)
            },
            "not that to our request",
        ),
        (|it| agreement(it, "qmux-02.moq-lite-99"), "no version in common"),
        (|it| agreement(it, "qmux-02.moq-lite-05, qmux-01.moq-lite-05"), "no version in common"),
    ];
    let mut stage = Stage::new();
    for (answer, text) in head {
        let address = answering(move |request| answer(request).into_bytes());
        let dialed = stage.dial_at("ws", address, &Client::new());
        let error = only(stage.unreachable(dialed));
        assert!(error.to_string().ends_with(text), "{error}");
        assert_eq!(matches!(error, DialError::Refused(401)), text.ends_with("401"));
    }
    // Nothing is sent for what can't be in a request.
    let client = Client::new().with_authority("localhost\r\nx: y");
    let config = DialConfig::web_socket(None);
    let dialed = stage.others[0].dial_any([stage.address], "localhost", config, &client);
    assert!(matches!(only(stage.unreachable(dialed)), DialError::WebSocket(_)));
    stage.until_alone(0);
}

/// The first records come in one segment with the response: parameters, and an end with code 7.
#[test]
fn what_comes_with_the_response_is_read() {
    let mut stage = Stage::new();
    let address = answering(|request| {
        let records = [&bad_days::PARAMETERS[..], &[0x1d, 0x40, 0x47, 0]];
        let messages = records.iter().flat_map(|it| [&[0x82, it.len() as u8][..], it].concat());
        agreement(request, LITE).bytes().chain(messages).collect()
    });
    let dialed = stage.dial_at("ws", address, &Client::new());
    stage.joined(dialed);
    let Event::Closed { id, reason } = stage.there() else { panic!("no end") };
    assert_eq!((id, reason), (dialed, CloseReason::Error(Error::App(7))));
}

/// One address is silent, one refuses, and one answers.
#[test]
fn the_next_address_is_dialed_when_one_does_not_answer() {
    for scheme in ["ws", "wss"] {
        let mut stage = Stage::on(scheme, |server| server);
        let silent = TcpListener::bind(any()).unwrap();
        let closed = TcpListener::bind(any()).unwrap().local_addr().unwrap();
        let mut net = Endpoint::new(any()).unwrap();
        let (client, begun) = (Client::new(), Instant::now());
        let config = DialConfig::for_url(&url(scheme, closed), &stage.trust, client.versions());
        let remotes = [closed, silent.local_addr().unwrap(), stage.address];
        let dialed = net.dial_any(remotes, "localhost", config.unwrap(), &client);
        stage.others.push(net);
        match stage.there() {
            Event::Connected { id, remote, .. } => {
                assert_eq!((id, remote), (dialed, stage.address))
            }
            event => panic!("{event:?}"),
        }
        assert!(begun.elapsed() >= smoq_blocking::smoq_quic::ATTEMPT_DELAY);
        // The silent one is given up.
        stage.until_alone(1);
        stage.others[0].cancel(dialed);
        assert!(stage.others[0].session(dialed).is_some());
        assert!(stage.others[0].poll_event().is_none());
    }
}

#[test]
fn a_cancelled_dial_is_not_reported() {
    let mut stage = Stage::new();
    let silent = TcpListener::bind(any()).unwrap();
    for scheme in ["ws", "wss"] {
        let dialed = stage.dial_at(scheme, silent.local_addr().unwrap(), &Client::new());
        let dialed_too = stage.dial_by("ws", &Client::new());
        assert_eq!(stage.others[0].connections(), 2);
        stage.others[0].cancel(dialed);
        stage.others[0].cancel(dialed_too);
        assert_eq!(stage.others[0].connections(), 0);
        stage.until_quiet();
        assert!(stage.others[0].poll_event().is_none());
    }
}

/// QUIC answers, is silent, or can't be dialed.
#[test]
fn a_web_socket_is_the_fallback_where_udp_is_dropped() {
    let (mut stage, silent) = loop {
        let stage = Stage::on("wss", |server| server);
        // The same port may be taken for UDP.
        if let Ok(silent) = UdpSocket::bind(stage.address) {
            break (stage, silent);
        }
    };
    let v6 = SocketAddr::new("::1".parse().unwrap(), 1);
    let quic = stage.net.local_addr().unwrap();
    for (remotes, by_quic) in
        [(vec![stage.address], false), (vec![v6, stage.address], false), (vec![quic], true)]
    {
        let client = Client::new();
        let of = |scheme| {
            DialConfig::for_url(&url(scheme, any()), &stage.trust, client.versions()).unwrap()
        };
        let config = of("moqt").or(of("wss"));
        let mut net = Endpoint::new(any()).unwrap();
        let begun = Instant::now();
        let dialed = net.dial_any(remotes, "localhost", config, &client);
        stage.others = vec![net];
        match stage.there() {
            Event::Connected { id, remote, .. } => {
                assert_eq!((id, remote), (dialed, if by_quic { quic } else { stage.address }));
            }
            event => panic!("{event:?}"),
        }
        // Long before QUIC gives up.
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        assert!(by_quic || waited >= HEAD_START, "{waited:?}");
        stage.until(|stage| (stage.others[0].connections() == 1).then_some(()));
        assert!(stage.others[0].poll_event().is_none());
    }
    drop(silent);
    // Where nobody answers the error has both.
    let closed = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let config = DialConfig::for_url(&url("moqt", any()), &stage.trust, &Versions::default());
    let config = config.unwrap().or(DialConfig::web_socket(None));
    let v6 = SocketAddr::new(v6.ip(), closed.port());
    let dialed = stage.others[0].dial_any([v6], "localhost", config, &Client::new());
    let error = stage.unreachable(dialed);
    assert!(matches!(error.tried[0], (_, DialError::Family)), "{error}");
    assert!(matches!(error.tried[1], (_, DialError::Tcp(_))), "{error}");
}

/// The server is restarted at the same port, twice. A reader goes on.
#[test]
fn a_reader_goes_on_when_the_server_comes_back() {
    for scheme in ["ws", "wss"] {
        let mut stage = Stage::on(scheme, |server| server);
        let seen = Origin::new(Hop::new(8)).produce();
        let (client, trust) = (Client::new().with_consume(seen.clone()), stage.trust.clone());
        let (versions, address) = (client.versions().clone(), stage.address);
        let ms = Duration::from_millis(1);
        let redial = Redial::new(url(scheme, address)).pauses(ms, 20 * ms).lasting(Duration::ZERO);
        let mut net = Endpoint::new(any()).unwrap();
        net.reconnect(redial, &client, move |url| {
            Ok((vec![address], DialConfig::for_url(url, &trust, &versions)?))
        });
        stage.others.push(net);
        assert!(matches!(stage.there(), Event::Dialing { .. }));
        assert!(matches!(stage.there(), Event::Connected { .. }));
        let mut reader = stage.subscribe(&seen);
        for n in 0..3_u64 {
            stage.track.write_frame(2 * n, "x").unwrap();
            let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.timestamp().units(), 2 * n);
            stage.net = Endpoint::new(any()).unwrap();
            let Event::Closed { reason, .. } = stage.there() else { panic!("no end") };
            assert_eq!(reason, CloseReason::Clean);
            // Nobody listens.
            stage.until(|stage| {
                let event = stage.others[0].poll_event()?;
                matches!(event, Event::Unreachable { .. }).then_some(())
            });
            stage.track.write_frame(2 * n + 1, "x").unwrap();
            let listener = TcpListener::bind(address).unwrap();
            let server = Server::new().with_publish(stage._origin.consume());
            stage.net.listen_web_socket(listener, &server).unwrap();
            if scheme == "wss" {
                stage.secure();
            }
            stage.until(|stage| {
                let event = stage.others[0].poll_event()?;
                matches!(event, Event::Connected { .. }).then_some(())
            });
            let frame = stage.until(|_| ready(reader.try_read_frame())).unwrap().unwrap();
            assert_eq!(frame.timestamp().units(), 2 * n + 1);
        }
    }
}

/// Both ends of sessions with TLS, of which a third is ended by each side, and a third by nobody.
#[test]
fn sessions_with_tls_leave_nothing() {
    let mut stage = Stage::on("wss", |server| server);
    let crowd = |stage: &mut Stage| {
        stage.others = vec![Endpoint::new(any()).unwrap()];
        let dialed: Vec<_> = (0..60).map(|_| stage.dial_by("wss", &Client::new())).collect();
        let there: Vec<_> = dialed.iter().map(|_| stage.connected()).collect();
        there[..20].iter().for_each(Session::drain);
        let mut near = Vec::new();
        while near.len() < 60 {
            if let Event::Connected { session, .. } = stage.there() {
                near.push(session);
            }
        }
        near[20..40].iter().for_each(|session| session.close(Error::App(3)));
        stage.until(|stage| (stage.others[0].connections() <= 20).then_some(()));
        stage.others.clear();
        stage.until(|stage| {
            while stage.net.poll_event().is_some() {}
            (stage.net.connections() == 0).then_some(())
        });
    };
    // Tables grow for the first ones, and stay. Rustls keeps 256 sessions to resume, two for each.
    (0..3).for_each(|_| crowd(&mut stage));
    let info = allocation_counter::measure(|| crowd(&mut stage));
    println!("{} bytes are left of {}", info.bytes_current, info.bytes_max);
    assert!(info.bytes_current < 8 << 10, "{} bytes are left", info.bytes_current);
    assert!(info.bytes_max > 1 << 20, "{} bytes: that is not all of it", info.bytes_max);
}
