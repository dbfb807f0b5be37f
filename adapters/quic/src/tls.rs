//! [rustls](https://docs.rs/rustls) configurations for any QUIC implementation on rustls. They speak TLS 1.3
//! only; the cryptography is *ring*'s.
//!
//! If the environment variable `SSLKEYLOGFILE` is set, the secrets of all connections are appended to that file, for
//! programs such as Wireshark. A reader of the file can read the connections.

use std::sync::Arc;

use rustls::KeyLogFile;
use rustls::crypto::CryptoProvider;
use rustls::version::TLS13;

use crate::{Error, Identity, Trust};

/// The configuration of a client that offers `alpns`, the preferred one first.
///
/// # Errors
///
/// [`Error::NoRoots`] if `trust` is [`Trust::Roots`] without a root.
pub fn client<'a>(
    trust: &Trust,
    alpns: impl IntoIterator<Item = &'a str>,
) -> Result<rustls::ClientConfig, Error> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier(&provider())?);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = protocols(alpns);
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

/// The configuration of a server that chooses among `alpns`, the preferred one first.
///
/// # Errors
///
/// [`Error::Tls`] if the private key is not that of the certificate.
pub fn server<'a>(
    identity: &Identity,
    alpns: impl IntoIterator<Item = &'a str>,
) -> Result<rustls::ServerConfig, Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key().clone_key())?;
    config.alpn_protocols = protocols(alpns);
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols<'a>(alpns: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    alpns.into_iter().map(|alpn| alpn.as_bytes().to_vec()).collect()
}
