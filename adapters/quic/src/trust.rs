use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use crate::{Error, Fingerprint};

/// The servers that a client accepts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Servers with a certificate for their name from one of Mozilla's roots, which are compiled in.
    #[default]
    WebRoots,
    /// Servers with a certificate for their name from one of these roots.
    Roots(RootCertStore),
    /// Servers whose certificate has one of these fingerprints, whatever its names and dates.
    Pinned(Vec<Fingerprint>),
    /// Any server. The connection is encrypted, but the server is not authenticated. For development.
    Insecure,
}

impl From<Fingerprint> for Trust {
    fn from(fingerprint: Fingerprint) -> Self {
        Self::Pinned(vec![fingerprint])
    }
}

impl Trust {
    pub(crate) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let pinned = match self {
            Self::WebRoots => {
                let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
                return Self::Roots(roots).verifier(provider);
            }
            Self::Roots(roots) => {
                let roots = Arc::new(roots.clone());
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
                return Ok(builder.build()?);
            }
            Self::Pinned(fingerprints) => Some(fingerprints.clone()),
            Self::Insecure => None,
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Arc::new(Pins { pinned, algorithms }))
    }
}

/// The certificate is not one of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("the certificate with the fingerprint {0} is not one of those that are pinned")]
struct NotPinned(Fingerprint);

/// Compares fingerprints only; `None` accepts any certificate.
#[derive(Debug)]
struct Pins {
    pinned: Option<Vec<Fingerprint>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.pinned {
            Some(pinned) if !pinned.contains(&Fingerprint::of(end_entity)) => {
                let reason = NotPinned(Fingerprint::of(end_entity));
                // rustls would print a certificate error in its `Debug` form.
                Err(OtherError(Arc::new(reason)).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    // Without the signature checks anyone could show the pinned certificate without having its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
