//! Hosts with several addresses, many clients at once, and certificates that are replaced meanwhile, over loopback.

use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quinn::{ConnectionError, Endpoint};
use smoq::{Client, Origin, Server, Subscription, TrackConsumer};
use smoq_quinn::smoq_quic::{Buffers, Identity, Trust};
use smoq_quinn::{DialError, config, dial, listen};

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs");
    });
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn serve(identity: &Identity) -> (Endpoint, SocketAddr, Buffers) {
    let config = config::server(identity, Server::new().versions()).unwrap();
    let (endpoint, buffers) = listen(loopback(), config).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr, buffers)
}

/// Accepts all that comes.
fn accept(endpoint: Endpoint) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            kept.push(tokio::spawn(async {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            }));
        }
    })
}

/// A client that gives an address up after so long, or never.
fn client(identity: &Identity, patience: Option<Duration>) -> quinn::ClientConfig {
    let mut transport = config::transport();
    transport.max_idle_timeout(patience.map(|time| time.try_into().unwrap()));
    let trust = Trust::from(identity.fingerprint());
    let mut config = config::client(&trust, Client::new().versions()).unwrap();
    config.transport_config(Arc::new(transport));
    config
}

/// An address where nobody answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Attempts that nobody answers never fail here: only one that begins beside them gets through. Nobody
/// listens on IPv6, or the machine does not know it.
#[test]
fn the_next_address_is_dialed_when_one_does_not_answer() {
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let ((server, alive, _), dead) = (serve(&identity), silent());
        accept(server);
        let v6 = SocketAddr::new("::1".parse().unwrap(), alive.port());
        let (endpoint, connection) =
            dial("localhost", [dead.1, alive, v6], client(&identity, None)).await.unwrap();
        assert_eq!(connection.remote_address(), alive);
        assert!(endpoint.local_addr().unwrap().is_ipv4());
        while endpoint.open_connections() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(connection.close_reason().is_none());
    });
}

#[test]
fn the_error_lists_all_addresses_if_none_answers() {
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let dead = [silent(), silent()];
        let addresses = [dead[0].1, dead[1].1, "127.0.0.1:0".parse().unwrap()];
        let config = client(&identity, Some(Duration::from_millis(100)));
        let error = dial("relay.example", addresses, config.clone()).await.unwrap_err();
        let mut tried: Vec<_> = error.tried.iter().map(|(address, _)| *address).collect();
        tried.sort_by_key(|tried| addresses.iter().position(|it| it == tried));
        assert_eq!(tried, addresses);
        for (address, error) in &error.tried {
            match error {
                DialError::Connection(ConnectionError::TimedOut) => assert_ne!(address.port(), 0),
                DialError::Connect(_) => assert_eq!(address.port(), 0),
                other => panic!("{other}"),
            }
        }
        let text = error.to_string();
        assert!(text.starts_with("can't reach relay.example: 127.0.0.1:"), "{text}");
        assert!(text.contains(&format!(" {}: timed out", dead[1].1)), "{text}");
        let error = dial("nowhere.example", [], config).await.unwrap_err();
        assert_eq!(error.to_string(), "nowhere.example has no address");
    });
}

#[test]
fn without_a_runtime_there_is_an_error() {
    if cfg!(feature = "runtime-smol") {
        // There always is one.
        return;
    }
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let mut dialing = pin!(dial("localhost", [silent().1], client(&identity, None)));
    let polled =
        dialing.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    let Poll::Ready(Err(error)) = polled else { panic!("it waits for nothing") };
    assert!(error.to_string().contains("no async runtime"), "{error}");
    let config = config::server(&identity, Server::new().versions()).unwrap();
    assert!(listen(loopback(), config).is_err());
}

/// A dropped attempt sends no more handshake packets: the server, which accepts only then, sees it closed.
#[test]
fn a_dial_that_is_dropped_is_given_up() {
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let ((server, alive, _), dead) = (serve(&identity), silent());
        {
            let addresses = [alive, dead.1];
            let mut dialing = pin!(dial("localhost", addresses, client(&identity, None)));
            let waits = poll_fn(|cx| Poll::Ready(dialing.as_mut().poll(cx).is_pending())).await;
            assert!(waits);
        }
        let incoming = server.accept().await.unwrap();
        let refused = incoming.await.unwrap_err();
        assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused}");
    });
}

/// The first address answers, but too late.
#[test]
fn the_slower_of_two_is_given_up() {
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let ((slow, first, _), (fast, second, _)) = (serve(&identity), serve(&identity));
        accept(fast);
        let (_endpoint, connection) =
            dial("localhost", [first, second], client(&identity, None)).await.unwrap();
        assert_eq!(connection.remote_address(), second);
        assert!(slow.accept().await.unwrap().await.is_err());
        assert!(connection.close_reason().is_none());
    });
}

/// Their first packets all lie in the listening socket before it is read: the 208 KiB that Linux gives a
/// socket unasked hold fewer than a hundred.
#[test]
fn many_clients_that_dial_at_once_all_get_in() {
    const CLIENTS: usize = 150;
    on_tokio(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let (server, addr, buffers) = serve(&identity);
        accept(server);
        let config = client(&identity, None);
        let endpoint = Endpoint::client(loopback()).unwrap();
        let dialing: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let connecting = endpoint.connect_with(config.clone(), addr, "localhost").unwrap();
                tokio::spawn(connecting)
            })
            .collect();
        let mut kept = Vec::new();
        for connecting in dialing {
            kept.push(connecting.await.unwrap().unwrap());
        }
        if !buffers.is_short() {
            assert_eq!(dropped(addr.port()), 0);
        }
    });
}

/// Datagrams that found no room in the socket on this port, where the system reports them.
fn dropped(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let ours = |line: &&str| {
        let local = line.split_whitespace().nth(1).and_then(|local| local.split_once(':'));
        local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
    };
    let dropped = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
    sockets.lines().filter(ours).filter_map(dropped).sum()
}

/// Each time in the middle of a handshake, which ends as it began. Sessions that are there go on.
#[test]
fn certificates_are_replaced_while_clients_dial() {
    on_tokio(async {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let mut track = broadcast.create_track("count").unwrap();
        let server = Server::new().with_publish(origin.consume());
        let mut identity = Identity::self_signed(["localhost"]).unwrap();
        let (listening, address, _) = serve(&identity);
        let dialing = Endpoint::client(loopback()).unwrap();
        let mut readers = Vec::<(TrackConsumer, _)>::new();
        for n in 0..20_u64 {
            let trust = Trust::from(identity.fingerprint());
            let (raw, web) =
                (config::client(&trust, server.versions()), config::webtransport_client(&trust));
            let config = if n % 2 == 0 { web } else { raw }.unwrap();
            let near = dialing.connect_with(config, address, "localhost").unwrap();
            let far = listening.accept().await.unwrap().accept().unwrap();
            identity = Identity::self_signed(["localhost"]).unwrap();
            let next = config::server(&identity, server.versions()).unwrap();
            listening.set_server_config(Some(next));
            let received = Origin::default().produce();
            let client = Client::new().with_consume(received.clone());
            let near = async { smoq_quinn::connect(near.await.unwrap(), &client).await };
            let far = async { smoq_quinn::accept(far.await.unwrap(), &server).await };
            let (near, far) = tokio::join!(near, far);
            let ((near, near_driving), (far, far_driving)) = (near.unwrap(), far.unwrap());
            tokio::spawn(near_driving);
            tokio::spawn(far_driving);

            // A client that knows the old certificate alone sees that it is gone.
            let config = config::client(&trust, server.versions()).unwrap();
            let refusing = dialing.connect_with(config, address, "localhost").unwrap();
            let refused = async { listening.accept().await.unwrap().await };
            let (refusing, refused) = tokio::join!(refusing, refused);
            assert!(matches!(refusing, Err(ConnectionError::TransportError(_))), "{refusing:?}");
            assert!(refused.is_err());

            let live = received.consume().announced_broadcast("live").await.unwrap();
            let mut reader = live.subscribe_track("count", Subscription::default()).unwrap();
            while far.gauges().serving == 0 {
                tokio::task::yield_now().await;
            }
            track.write_frame(n, n.to_be_bytes().to_vec()).unwrap();
            // The frame before it may come first.
            while reader.read_frame().await.unwrap().unwrap().payload() != n.to_be_bytes() {}
            for (reader, ..) in &mut readers {
                let frame = reader.read_frame().await.unwrap().unwrap();
                assert_eq!(frame.payload(), n.to_be_bytes());
            }
            readers.push((reader, (near, far, received)));
        }
    });
}
