use std::fmt;
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, Fingerprint};

/// Who a server is: its certificate chain and the key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A chain in DER, the server's own certificate first, and its key.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        if chain.is_empty() { Err(Error::NoCertificate) } else { Ok(Self { chain, key }) }
    }

    /// Reads PEM files: the chain, the server's own certificate first, and the key.
    pub fn from_pem_files(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
        Self::new(chain, PrivateKeyDer::from_pem_file(key)?)
    }

    /// A new self-signed certificate (ECDSA P-256) for DNS names or IP addresses.
    ///
    /// For development: clients must pin its [`fingerprint`](Self::fingerprint), and it lives as long
    /// as this value.
    pub fn self_signed(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "smoq development");
        let key = KeyPair::generate()?;
        let chain = vec![params.self_signed(&key)?.into()];
        Self::new(chain, rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// In DER, the server's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key in DER.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// What a client pins.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.chain[0])
    }
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
