//! Two connected sessions of each carrier.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use qmux::ws;
use smoq::Versions;
use smoq_quic::{Identity, Trust, config};
use smoq_web_transport::web_transport_trait::Session;
use smoq_web_transport::{Reliable, choose};
use tokio::net::TcpListener;
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse};

/// What must live as long as a session.
pub(crate) type Kept = Box<dyn Any + Send>;

/// Two connected sessions, and what must live as long as they do.
pub(crate) type Pair<S> = (S, S, Kept);

/// A carrier that is tested.
pub(crate) trait Tested: Sized {
    type Session: Session;

    /// Listens for a client that offers one of `versions`.
    async fn listen(versions: &Versions) -> Self;

    fn address(&self) -> SocketAddr;

    async fn accept(&self) -> Self::Session;

    fn dial(
        address: SocketAddr,
        versions: &Versions,
    ) -> impl Future<Output = (Self::Session, Kept)> + Send;
}

/// Two connected sessions.
pub(crate) async fn pair<T: Tested + Send + 'static>(versions: &Versions) -> Pair<T::Session> {
    let listener = T::listen(versions).await;
    let (near, far) = tokio::join!(T::dial(listener.address(), versions), listener.accept());
    (near.0, far, Box::new((near.1, listener)))
}

/// WebTransport over HTTP/3, by `web-transport-quinn`.
pub(crate) struct Quinn(quinn::Endpoint, Versions);

/// After which a silent peer is given up.
const IDLE: Duration = Duration::from_millis(1_500);

impl Tested for Quinn {
    type Session = web_transport_quinn::Session;

    async fn listen(versions: &Versions) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let mut server = config::server(&identity, versions).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(IDLE.try_into().unwrap()));
        transport.keep_alive_interval(Some(IDLE / 4));
        server.transport_config(Arc::new(transport));
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Self(quinn::Endpoint::server(server, any).unwrap(), versions.clone())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let connection = self.0.accept().await.unwrap().await.unwrap();
        let request = web_transport_quinn::Request::accept(connection).await.unwrap();
        let offered = request.protocols.iter().map(String::as_str);
        let response = match choose(&self.1, offered) {
            Some(protocol) => ConnectResponse::OK.with_protocol(protocol),
            None => ConnectResponse::OK,
        };
        request.respond(response).await.unwrap()
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let config = config::webtransport_client(&Trust::Insecure).unwrap();
        let connection =
            endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap();
        let url: url::Url = format!("https://{address}/room").parse().unwrap();
        let request = ConnectRequest::new(url).with_protocols(versions.alpns().map(String::from));
        let session = web_transport_quinn::Session::connect(connection, request).await.unwrap();
        (session, Box::new(endpoint))
    }
}

/// `qmux` over TCP.
pub(crate) struct Tcp(TcpListener, qmux::tcp::Config);

impl Tcp {
    pub(crate) fn config(versions: &Versions) -> qmux::tcp::Config {
        qmux::tcp::Config::new(qmux::Version::QMux02).protocols(versions.alpns())
    }

    pub(crate) async fn with(config: qmux::tcp::Config) -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), config)
    }
}

impl Tested for Tcp {
    type Session = Reliable<qmux::Session>;

    async fn listen(versions: &Versions) -> Self {
        Self::with(Self::config(versions)).await
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let (stream, _) = self.0.accept().await.unwrap();
        Reliable(self.1.clone().accept(stream).await.unwrap())
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        let session = Self::config(versions).connect(address).await.unwrap();
        (Reliable(session), Box::new(()))
    }
}

/// `qmux` over a WebSocket.
pub(crate) struct WebSocket(TcpListener, ws::Server);

type Entry = (&'static str, &'static [qmux::Version]);

fn entries(versions: &Versions) -> Vec<Entry> {
    versions.alpns().map(|alpn| (alpn, &[][..])).collect()
}

impl Tested for WebSocket {
    type Session = Reliable<qmux::Session>;

    async fn listen(versions: &Versions) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self(listener, ws::Server::new().with_protocols(entries(versions)).require_protocol())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let (stream, _) = self.0.accept().await.unwrap();
        Reliable(self.1.accept(stream).await.unwrap())
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        let client = ws::Client::new().with_protocols(entries(versions)).require_protocol();
        let session = client.connect(&format!("ws://{address}/room")).await.unwrap();
        (Reliable(session), Box::new(()))
    }
}
