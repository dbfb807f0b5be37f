//! Configurations of quinn that suit live media, for applications that have none of their own.

use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use smoq::Versions;
use smoq_tls::{Identity, Trust};

/// Bytes that a connection may have handed to quinn and not yet seen acknowledged: 2 MiB, until a
/// session follows the path.
///
/// What is in there can't be reordered by priority or dropped by age any more, so it should be about
/// two bandwidth-delay products: this is 80 Mbit/s at 100 ms. quinn's own default is five times that.
pub const SEND_WINDOW: u64 = 2 << 20;

/// Bytes that a peer may send ahead on one connection, and on one stream a quarter of it: 8 MiB.
pub const RECEIVE_WINDOW: u32 = 8 << 20;

/// Bytes of datagrams that wait in quinn: 64 KiB. As with [`SEND_WINDOW`], what is in there is out of
/// reach; quinn's own default is 16 times that.
pub const DATAGRAM_BUFFER: usize = 64 << 10;

/// Streams of each direction that a peer may have open at most: 4,096, as
/// [`Limits::group_streams`](smoq::Limits::group_streams).
///
/// QUIC reserves memory for each stream that a peer may open, so a connection begins with
/// [`FIRST_UNI_STREAMS`] and [`FIRST_BIDI_STREAMS`]. A session raises them fourfold whenever the peer uses
/// more than half, before the peer has to wait. They are not lowered again: that would free nothing.
pub const STREAMS: u32 = 4_096;

/// Unidirectional streams, each a group, that a peer may have open on a new connection: 512.
pub const FIRST_UNI_STREAMS: u32 = 512;

/// Bidirectional streams, each a request, that a peer may have open on a new connection: 256.
pub const FIRST_BIDI_STREAMS: u32 = 256;

/// Silence after which a connection is given up: 10 s. An idle one says something every 3 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How quinn should move live media, see the constants here.
///
/// `send_fairness` is off: what was begun goes out first, as the order of priorities says.
pub fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW / 4))
        .max_concurrent_bidi_streams(VarInt::from_u32(FIRST_BIDI_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(FIRST_UNI_STREAMS))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into()))
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

/// A client that believes whom `trust` says and offers `versions`, with [`transport`].
pub fn client(trust: &Trust, versions: &Versions) -> Result<quinn::ClientConfig, smoq_tls::Error> {
    let tls = smoq_tls::client(trust, versions.alpns())?;
    let crypto = QuicClientConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// A server that is `identity` and speaks `versions`, with [`transport`].
pub fn server(
    identity: &Identity,
    versions: &Versions,
) -> Result<quinn::ServerConfig, smoq_tls::Error> {
    let tls = smoq_tls::server(identity, versions.alpns())?;
    let crypto = QuicServerConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn unsuitable(error: quinn::crypto::rustls::NoInitialCipherSuite) -> smoq_tls::Error {
    smoq_tls::rustls::Error::General(error.to_string()).into()
}
