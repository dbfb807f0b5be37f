//! What the QUIC adapters of [smoq](https://crates.io/crates/smoq) share. TLS 1.3: who a server says that
//! it is ([`Identity`]) and whom a client believes ([`Trust`]). Dialing: what ([`Url`]), which of its
//! addresses when ([`Race`]), and from which socket ([`bind`]).
//!
//! [`client`] and [`server`] make the rustls configurations that any QUIC stack on rustls takes.
//! The cryptography is *ring*'s.

mod fingerprint;
mod identity;
mod race;
mod socket;
mod trust;
mod url;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use identity::Identity;
pub use race::{ATTEMPT_DELAY, Race, Unreachable};
pub use rustls;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem;
use rustls::version::TLS13;
pub use socket::{Buffers, SOCKET_BUFFER, bind};
pub use trust::Trust;
pub use url::{InvalidUrl, Url};

/// Why there is no TLS configuration. [`source`](std::error::Error::source) has the details.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A development certificate could not be made, most likely for a name that is no DNS name.
    #[error("can't make a self-signed certificate for {}", .names.join(", "))]
    Certificate {
        /// What it was to be for.
        names: Vec<String>,
        /// Why not.
        source: rcgen::Error,
    },
    /// A certificate or key file could not be read.
    #[error("can't read the {item} from {}", .file.display())]
    Read {
        /// "certificate chain" or "private key".
        item: &'static str,
        /// Where it should be.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or key file is no PEM, or nothing of the kind is in it.
    #[error("no {item} in PEM form in {}", .file.display())]
    Pem {
        /// "certificate chain" or "private key".
        item: &'static str,
        /// Where it should be.
        file: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// [`Identity::new`] was given an empty chain.
    #[error("the certificate chain is empty")]
    NoCertificate,
    /// [`Trust::Roots`] has no root.
    #[error("no root certificate to trust")]
    NoRoots(#[from] rustls::client::VerifierBuilderError),
    /// The certificates and the key do not fit together, or are of no use for TLS.
    #[error("the certificate chain and its private key can't be used together")]
    Tls(#[from] rustls::Error),
}

/// The configuration of a client that offers `alpns`, the most wanted first.
pub fn client<'a>(
    trust: &Trust,
    alpns: impl IntoIterator<Item = &'a str>,
) -> Result<rustls::ClientConfig, Error> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier(&provider())?);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = wire(alpns);
    Ok(config)
}

/// The configuration of a server that chooses among `alpns`, the most wanted first.
pub fn server<'a>(
    identity: &Identity,
    alpns: impl IntoIterator<Item = &'a str>,
) -> Result<rustls::ServerConfig, Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key().clone_key())?;
    config.alpn_protocols = wire(alpns);
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn wire<'a>(alpns: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    alpns.into_iter().map(|alpn| alpn.as_bytes().to_vec()).collect()
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
