use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, Fingerprint};

/// How long a self-signed certificate is valid: just under 14 days, because both ends are rounded to seconds.
const VALIDITY: Duration = Duration::from_secs(14 * 86_400 - 60);

/// The certificate chain of a server and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Takes a chain in DER, the server's own certificate first, and its key.
    ///
    /// # Errors
    ///
    /// [`Error::NoCertificate`] for an empty chain.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        if chain.is_empty() { Err(Error::NoCertificate) } else { Ok(Self { chain, key }) }
    }

    /// Reads PEM files: the chain, the server's own certificate first, and the key.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] and [`Error::Pem`], which name the file.
    pub fn from_pem_files(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let chain = read(cert.as_ref(), "certificate chain", |pem| {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
            if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
        })?;
        Self::new(chain, read(key.as_ref(), "private key", PrivateKeyDer::from_pem_slice)?)
    }

    /// A new self-signed certificate (ECDSA P-256) for DNS names or IP addresses.
    ///
    /// For development: clients must pin its [`fingerprint`](Self::fingerprint). Nothing is stored. It is valid for 14
    /// days in all, from an hour ago, because browsers accept no more of a certificate that they know by its hash
    /// (WebTransport, `serverCertificateHashes`). [`Trust::Pinned`](crate::Trust::Pinned) does not look at the dates.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] for a name that can't be in a certificate.
    pub fn self_signed(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let made = make_self_signed(&names);
        let (certificate, key) = made.map_err(|source| Error::Certificate { names, source })?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        Self::new(vec![certificate], key.into())
    }

    /// The chain in DER, the server's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key in DER.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The fingerprint of the certificate, for clients that pin it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.chain[0])
    }
}

#[expect(clippy::disallowed_methods, reason = "a certificate is valid from now on")]
fn make_self_signed(names: &[String]) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "smoq development");
    // The clock of a browser may be late.
    let from = SystemTime::now() - Duration::from_secs(3_600);
    (params.not_before, params.not_after) = (from.into(), (from + VALIDITY).into());
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.into(), key))
}

/// Reads a file with `parse`. Errors name the file.
fn read<T>(
    file: &Path,
    item: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, Error> {
    let text =
        std::fs::read(file).map_err(|source| Error::Read { item, file: file.into(), source })?;
    parse(&text).map_err(|source| Error::Pem { item, file: file.into(), source })
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}
