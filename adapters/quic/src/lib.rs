//! Everything that the QUIC adapters of [smoq](https://crates.io/crates/smoq) share.
//!
//! - [`config`] and [`tls`]: QUIC and TLS configurations from an [`Identity`] or a [`Trust`];
//! - dialing: [`Url`], [`Race`] (RFC 8305, "Happy Eyeballs"), [`Redial`] (when to dial again, and where) and [`bind`], a UDP
//!   socket with large buffers;
//! - [`bind_workers`]: sockets of one port for several threads;
//! - the rules of a session on a connection: [`agreed`], [`Carrier`], [`SendWindow`], [`StreamAllowance`],
//!   [`FLUSH_TIMEOUT`], how codes and errors are mapped, and the events of [`log`] (feature `tracing`);
//! - [`http3`]: the state machine of WebTransport over HTTP/3.

pub mod config;
mod congestion;
mod fingerprint;
mod identity;
pub mod log;
mod race;
mod redial;
mod send_window;
mod session;
mod socket;
pub mod tls;
mod trust;
mod url;
mod workers;

use std::io;
use std::path::PathBuf;

pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use identity::Identity;
pub use quinn_proto;
pub use race::{ATTEMPT_DELAY, Race, Unreachable};
pub use redial::{MAX_LEAVING, Redial, Redialing, Redirect};
pub use rustls;
use rustls::pki_types::pem;
pub use send_window::{SendWindow, Sent};
pub use session::{
    CAPSULE_TIMEOUT, Carrier, FLUSH_TIMEOUT, HTTP_TIMEOUT, LINGER_TIMEOUT, StreamAllowance, agreed,
    quic_code, quic_stream_code, quic_stream_id, stream_code, stream_id,
};
pub use smoq_http3 as http3;
pub use socket::{Buffers, SOCKET_BUFFER, bind};
pub use trust::Trust;
pub use url::{InvalidUrl, Scheme, Url};
pub use workers::{MAX_WORKERS, WorkerSocket, bind_workers};

/// Why a TLS configuration could not be made. [`source`](std::error::Error::source) has the details.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A self-signed certificate could not be made, most likely because a name is not a DNS name.
    #[error("can't make a self-signed certificate for {}", .names.join(", "))]
    Certificate {
        /// The names of the certificate.
        names: Vec<String>,
        /// The cause.
        source: rcgen::Error,
    },
    /// A certificate or key file could not be read.
    #[error("can't read the {item} from {}", .file.display())]
    Read {
        /// "certificate chain" or "private key".
        item: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate or key file is not PEM, or does not contain the item.
    #[error("no {item} in PEM form in {}", .file.display())]
    Pem {
        /// "certificate chain" or "private key".
        item: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// [`Identity::new`] was given an empty chain.
    #[error("the certificate chain is empty")]
    NoCertificate,
    /// [`Trust::Roots`] has no root.
    #[error("no root certificate to trust")]
    NoRoots(#[from] rustls::client::VerifierBuilderError),
    /// A URL with this scheme is not dialed by QUIC.
    #[error("{0}:// is not dialed by QUIC")]
    NotQuic(Scheme),
    /// The certificates and the key do not match, or can't be used for TLS.
    #[error("the certificate chain and its private key can't be used together")]
    Tls(#[from] rustls::Error),
}

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
