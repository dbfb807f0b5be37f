//! QUIC configurations that suit live media.
//!
//! quinn and quinn-proto share these types: `quinn::ClientConfig` is [`quinn_proto::ClientConfig`]. Both adapters have the
//! same defaults:
//!
//! | setting | default | to change it, set on [`transport`] |
//! |---|---|---|
//! | idle timeout | [`IDLE_TIMEOUT`], 10 s | `max_idle_timeout` |
//! | keep-alive | [`KEEP_ALIVE`], 4 s, of a server [`SERVER_KEEP_ALIVE`], 5 s | `keep_alive_interval` |
//! | congestion controller | Cubic that tolerates random loss | `congestion_controller_factory` |
//! | largest UDP payload | found between 1,200 and 1,452 bytes | `mtu_discovery_config`, `initial_mtu` |
//! | send and receive windows | [`SEND_WINDOW`], [`RECEIVE_WINDOW`] | `send_window`, `receive_window` |
//!
//! ```
//! use std::sync::Arc;
//! use smoq_quic::{Trust, config, quinn_proto::congestion::BbrConfig};
//!
//! let mut transport = config::transport();
//! transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
//! let client = smoq::Client::new();
//! let mut tls = config::client(&Trust::WebRoots, client.versions())?;
//! tls.transport_config(Arc::new(transport));
//! # Ok::<(), smoq_quic::Error>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, ServerConfig, TransportConfig};
use smoq::Versions;

use crate::congestion::TolerantCubicFactory;
use crate::{Error, Identity, Scheme, Trust, Url, http3, tls};

/// Bytes per connection that QUIC may hold unacknowledged before the session measures the path: 2 MiB.
///
/// The session can neither reorder nor drop bytes that QUIC has taken, so the window should be about two
/// bandwidth-delay products. 2 MiB are two of 80 Mbit/s at 100 ms; quinn's default is 10 MB. During a session
/// [`SendWindow`](crate::SendWindow) decides instead.
pub const SEND_WINDOW: u64 = 2 << 20;

/// Bytes that a peer may send ahead on one connection: 8 MiB. One stream may use a quarter of it.
pub const RECEIVE_WINDOW: u32 = 8 << 20;

/// Bytes of datagrams that QUIC queues before it sends them: 64 KiB. quinn's default is 1 MiB.
pub const DATAGRAM_BUFFER: usize = 64 << 10;

/// Streams of one direction that a peer may have open at most: 4,096, the default of
/// [`Limits::group_streams`](smoq::Limits::group_streams).
///
/// QUIC allocates memory for each stream that a peer may open, so a connection starts with
/// [`FIRST_UNI_STREAMS`] and [`FIRST_BIDI_STREAMS`]. [`StreamAllowance`](crate::StreamAllowance) raises them.
pub const STREAMS: u32 = 4_096;

/// Unidirectional streams that a peer may have open on a new connection: 512. Each carries one group.
pub const FIRST_UNI_STREAMS: u32 = 512;

/// Bidirectional streams that a peer may have open on a new connection: 256. Each carries one request.
pub const FIRST_BIDI_STREAMS: u32 = 256;

/// A connection that receives nothing for this long is lost: 10 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// An idle connection sends a packet this often, so that it does not time out: 4 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// A server sends a packet after this long without one of the client: 5 s.
///
/// It is longer than [`KEEP_ALIVE`], so that a client that keeps its connection alive spares the server its own packets.
pub const SERVER_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The transport parameters of both adapters: the constants of this module. [`server`] uses them with
/// [`SERVER_KEEP_ALIVE`].
///
/// `send_fairness` is off, so that QUIC finishes the stream that it began before it starts the next one of
/// the same priority.
pub fn transport() -> TransportConfig {
    let idle = IDLE_TIMEOUT.try_into().expect("10 s fit a varint");
    let mut transport = TransportConfig::default();
    transport
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .receive_window(RECEIVE_WINDOW.into())
        .stream_receive_window((RECEIVE_WINDOW / 4).into())
        .max_concurrent_bidi_streams(FIRST_BIDI_STREAMS.into())
        .max_concurrent_uni_streams(FIRST_UNI_STREAMS.into())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .congestion_controller_factory(Arc::new(TolerantCubicFactory::default()));
    transport
}

/// A client for raw QUIC that accepts the servers that `trust` names and offers the ALPNs of `versions`, with
/// [`transport`].
///
/// # Errors
///
/// As [`tls::client`].
pub fn client(trust: &Trust, versions: &Versions) -> Result<ClientConfig, Error> {
    client_with(trust, versions.alpns())
}

/// A client for WebTransport, whose only ALPN is that of HTTP/3. Versions are offered in the request.
///
/// # Errors
///
/// As [`tls::client`].
pub fn webtransport_client(trust: &Trust) -> Result<ClientConfig, Error> {
    client_with(trust, [http3::ALPN])
}

/// A client for the scheme of `url`: [`webtransport_client`] for `https://`, [`client`] for `moqt://`.
///
/// # Errors
///
/// [`Error::NotQuic`] for the URL of a WebSocket. Otherwise as [`tls::client`].
pub fn client_for(url: &Url, trust: &Trust, versions: &Versions) -> Result<ClientConfig, Error> {
    match url.scheme() {
        Scheme::Moqt => client(trust, versions),
        Scheme::Https => webtransport_client(trust),
        scheme @ (Scheme::Ws | Scheme::Wss) => Err(Error::NotQuic(scheme)),
    }
}

fn client_with<'a>(
    trust: &Trust,
    alpns: impl IntoIterator<Item = &'a str>,
) -> Result<ClientConfig, Error> {
    let tls = tls::client(trust, alpns)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// A server with the certificate of `identity` that chooses among the ALPNs of `versions` and, after them, that of
/// HTTP/3 for clients on WebTransport, with [`transport`]. Without a version it offers none, so that clients without
/// ALPN can connect.
///
/// # Errors
///
/// As [`tls::server`].
pub fn server(identity: &Identity, versions: &Versions) -> Result<ServerConfig, Error> {
    let http = versions.alpns().next().map(|_| http3::ALPN);
    let tls = tls::server(identity, versions.alpns().chain(http))?;
    let crypto = QuicServerConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport();
    transport.keep_alive_interval(Some(SERVER_KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn unsuitable(error: NoInitialCipherSuite) -> Error {
    rustls::Error::General(error.to_string()).into()
}
