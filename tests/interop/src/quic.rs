//! quinn endpoints on loopback, with the version as ALPN.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};

use crate::certs;

/// How long a connection stays up without a sign of life.
pub const IDLE: Duration = Duration::from_secs(10);

/// How many streams of each direction a side may have open at once.
pub const STREAMS: u32 = 4096;

/// The transport parameters of both sides.
pub fn transport() -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    config
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(STREAMS.into())
        .keep_alive_interval(Some(IDLE / 4))
        .max_idle_timeout(Some(IDLE.try_into().expect("a short timeout")));
    config
}

/// A server's configuration for `versions`, most wanted first, under a new certificate.
pub fn server_config(versions: &[&str]) -> quinn::ServerConfig {
    let identity = certs::self_signed();
    let mut tls = rustls::ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .expect("a matching key");
    tls.alpn_protocols = alpns(versions);
    let tls = QuicServerConfig::try_from(tls).expect("a cipher suite for QUIC");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    config
}

/// A client's configuration for `versions`, most wanted first, that trusts every server.
pub fn client_config(versions: &[&str]) -> quinn::ClientConfig {
    let provider = certs::provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(certs::AcceptAny(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = alpns(versions);
    let tls = QuicClientConfig::try_from(tls).expect("a cipher suite for QUIC");
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    config
}

/// A server on a free port of 127.0.0.1.
pub fn server(config: quinn::ServerConfig) -> std::io::Result<quinn::Endpoint> {
    quinn::Endpoint::server(config, loopback())
}

/// A client on a free port of 127.0.0.1.
pub fn client(config: quinn::ClientConfig) -> std::io::Result<quinn::Endpoint> {
    let mut endpoint = quinn::Endpoint::client(loopback())?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// The ALPN that a connection agreed on.
pub fn alpn(connection: &quinn::Connection) -> Option<String> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    String::from_utf8(data.protocol?).ok()
}

fn alpns(versions: &[&str]) -> Vec<Vec<u8>> {
    let mut alpns: Vec<_> = versions.iter().map(|name| alpn_of(name).as_bytes().to_vec()).collect();
    alpns.dedup();
    alpns
}

/// The ALPN of 01 and 02.
const MOQL: &str = "moql";

/// The ALPN of moq-transport 14.
const MOQ_00: &str = "moq-00";

/// The ALPN of a version.
pub fn alpn_of(name: &str) -> &str {
    match name {
        "moq-lite-01" | "moq-lite-02" => MOQL,
        "moqt-14" => MOQ_00,
        name => name,
    }
}

/// The name of a version: its ALPN, unless that is not its alone.
pub fn name(alpn: &str, own: &str) -> String {
    match alpn {
        MOQL => own.to_owned(),
        MOQ_00 => "moqt-14".to_owned(),
        alpn => alpn.to_owned(),
    }
}

/// A free port of 127.0.0.1.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
