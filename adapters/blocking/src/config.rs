//! Configurations of quinn-proto that suit live media, for applications that have none of their own.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, ServerConfig, TransportConfig};
use smoq::Versions;
use smoq_tls::{Error, Identity, Trust, rustls};

/// A client that believes whom `trust` says and offers `versions`, with [`transport`].
pub fn client(trust: &Trust, versions: &Versions) -> Result<ClientConfig, Error> {
    let tls = smoq_tls::client(trust, versions.alpns())?;
    let crypto = QuicClientConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// A server that is `identity` and chooses among `versions`, with [`transport`].
pub fn server(identity: &Identity, versions: &Versions) -> Result<ServerConfig, Error> {
    let tls = smoq_tls::server(identity, versions.alpns())?;
    let crypto = QuicServerConfig::try_from(tls).map_err(unsuitable)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// How QUIC should move live media. A connection is given up after 10 s of silence; an idle one says
/// something every 3 s.
pub fn transport() -> TransportConfig {
    let idle = Duration::from_secs(10).try_into().expect("10 s fit a varint");
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(Duration::from_secs(3)))
        // A group is a stream: quinn's 100 would stall a few tracks of short groups. Each costs
        // some memory before it is used.
        .max_concurrent_uni_streams(1_024_u32.into())
        .max_concurrent_bidi_streams(1_024_u32.into())
        // Datagrams in there are out of reach for priorities and expiry; quinn's megabyte is a lot.
        .datagram_send_buffer_size(64 << 10)
        // What was begun is finished first, as groups should be. The send window, which matters
        // even more, follows the path: see `connection.rs`.
        .send_fairness(false);
    transport
}

fn unsuitable(error: NoInitialCipherSuite) -> Error {
    rustls::Error::General(error.to_string()).into()
}
