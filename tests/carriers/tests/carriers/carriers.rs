//! Two connected sessions of each carrier.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use qmux::ws;
use qmux::ws::tokio_tungstenite::client_async;
use qmux::ws::tungstenite::client::IntoClientRequest;
use smoq::Versions;
use smoq_quic::{Identity, Trust, config, tls};
use smoq_web_transport::web_transport_trait::Session;
use smoq_web_transport::{Reliable, choose};
use tokio::net::{TcpListener, TcpStream};
use web_transport_noq::noq;
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse};

/// Values that must live as long as a session.
pub(crate) type Kept = Box<dyn Any + Send>;

/// Two connected sessions, and what must live as long as they do.
pub(crate) type Pair<S> = (S, S, Kept);

/// A carrier that is tested.
pub(crate) trait Tested: Sized {
    type Session: Session;

    type Address: Send + 'static;

    /// Whether a session learns the code of a close.
    const TELLS_CLOSE: bool = true;

    /// Listens for a client that offers one of `versions`.
    async fn listen(versions: &Versions) -> Self;

    fn address(&self) -> Self::Address;

    async fn accept(&self) -> Self::Session;

    fn dial(
        address: Self::Address,
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
    type Address = SocketAddr;

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

/// WebTransport over HTTP/3, by `web-transport-noq`.
pub(crate) struct Noq(noq::Endpoint, Versions);

fn on_noq() -> Arc<noq::TransportConfig> {
    let mut transport = noq::TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE.try_into().unwrap()));
    transport.keep_alive_interval(Some(IDLE / 4));
    Arc::new(transport)
}

impl Tested for Noq {
    type Session = web_transport_noq::Session;
    type Address = SocketAddr;

    async fn listen(versions: &Versions) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let tls = tls::server(&identity, ["h3"]).unwrap();
        let tls = noq::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let mut server = noq::ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(on_noq());
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Self(noq::Endpoint::server(server, any).unwrap(), versions.clone())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let connection = self.0.accept().await.unwrap().await.unwrap();
        let request = web_transport_noq::Request::accept(connection).await.unwrap();
        let offered = request.protocols.iter().map(String::as_str);
        let protocol = choose(&self.1, offered).unwrap();
        request.respond(ConnectResponse::OK.with_protocol(protocol)).await.unwrap()
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        let endpoint = noq::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let tls = tls::client(&Trust::Insecure, ["h3"]).unwrap();
        let tls = noq::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut client = noq::ClientConfig::new(Arc::new(tls));
        client.transport_config(on_noq());
        let connection =
            endpoint.connect_with(client, address, "localhost").unwrap().await.unwrap();
        let url: url::Url = format!("https://{address}/room").parse().unwrap();
        let request = ConnectRequest::new(url).with_protocols(versions.alpns().map(String::from));
        let session = web_transport_noq::Session::connect(connection, request).await.unwrap();
        (session, Box::new(endpoint))
    }
}

/// Raw QUIC by `web-transport-iroh`, without relays: the ALPN is the version.
pub(crate) struct Iroh(iroh::Endpoint);

async fn iroh_endpoint(versions: &Versions) -> iroh::Endpoint {
    let alpns = versions.alpns().map(|alpn| alpn.as_bytes().to_vec()).collect();
    let transport = iroh::endpoint::QuicTransportConfig::builder()
        .max_idle_timeout(Some(IDLE.try_into().unwrap()))
        .keep_alive_interval(IDLE / 4)
        .build();
    iroh::Endpoint::builder(iroh::endpoint::presets::Minimal)
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .transport_config(transport)
        .alpns(alpns)
        .bind()
        .await
        .unwrap()
}

impl Tested for Iroh {
    type Session = web_transport_iroh::Session;

    const TELLS_CLOSE: bool = false;

    type Address = iroh::EndpointAddr;

    async fn listen(versions: &Versions) -> Self {
        Self(iroh_endpoint(versions).await)
    }

    fn address(&self) -> iroh::EndpointAddr {
        let sockets = self.0.bound_sockets().into_iter();
        sockets.fold(iroh::EndpointAddr::new(self.0.id()), iroh::EndpointAddr::with_ip_addr)
    }

    async fn accept(&self) -> Self::Session {
        let connection = self.0.accept().await.unwrap().await.unwrap();
        web_transport_iroh::QuicRequest::accept(connection).ok()
    }

    async fn dial(address: iroh::EndpointAddr, versions: &Versions) -> (Self::Session, Kept) {
        let endpoint = iroh_endpoint(versions).await;
        let alpn = versions.alpns().next().unwrap();
        let connection = endpoint.connect(address, alpn.as_bytes()).await.unwrap();
        (web_transport_iroh::Session::raw(connection), Box::new(endpoint))
    }
}

/// A socket that does not delay small packets, which `qmux` does not ask for.
async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) async fn dial_tcp(address: SocketAddr, config: qmux::Config) -> qmux::Session {
    let stream = connect(address).await;
    let stats = Arc::new(qmux::TcpStats::new(&stream).unwrap());
    let stream = qmux::transport::Stream::new(stream, config.version, config.max_record_size);
    qmux::Session::connect(stream.with_socket_stats(stats), config).await.unwrap()
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
    type Address = SocketAddr;

    async fn listen(versions: &Versions) -> Self {
        Self::with(Self::config(versions)).await
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let (stream, _) = self.0.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Reliable(self.1.clone().accept(stream).await.unwrap())
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        let mut config = qmux::Config::new(qmux::Version::QMux02);
        config.protocol = qmux::Protocol::Negotiate(versions.alpns().map(String::from).collect());
        (Reliable(dial_tcp(address, config).await), Box::new(()))
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
    type Address = SocketAddr;

    async fn listen(versions: &Versions) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self(listener, ws::Server::new().with_protocols(entries(versions)).require_protocol())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Self::Session {
        let (stream, _) = self.0.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Reliable(self.1.accept(stream).await.unwrap())
    }

    async fn dial(address: SocketAddr, versions: &Versions) -> (Self::Session, Kept) {
        (dial_web_socket(address, versions, "qmux-02").await, Box::new(()))
    }
}

/// Dials with this format of `qmux`.
pub(crate) async fn dial_web_socket(
    address: SocketAddr,
    versions: &Versions,
    format: &str,
) -> Reliable<qmux::Session> {
    let stream = connect(address).await;
    let mut request = format!("ws://{address}/room").into_client_request().unwrap();
    let offered = versions.alpns().map(|alpn| format!("{format}.{alpn}")).collect::<Vec<_>>();
    let offered = offered.join(", ").parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (socket, response) = client_async(request, stream).await.unwrap();
    let protocol = response.headers()["sec-websocket-protocol"].to_str().unwrap();
    Reliable(ws::Upgraded::new(socket).with_alpn(protocol).connect())
}
