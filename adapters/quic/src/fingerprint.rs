use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;

/// The SHA-256 of a certificate in DER, as `serverCertificateHashes` of WebTransport takes it too.
///
/// The text form is 64 hexadecimal digits. Upper case and colons between bytes are accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is not a SHA-256 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let mut digits = text.chars().filter(|&c| c != ':').map(|c| c.to_digit(16));
        let mut digit = || digits.next().flatten().ok_or(InvalidFingerprint);
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            *byte = (digit()? << 4 | digit()?) as u8;
        }
        if digits.next().is_some() { Err(InvalidFingerprint) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_known_bytes() {
        // SHA-256 of the empty string (FIPS 180-4 examples).
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::of(&CertificateDer::from(Vec::new())).to_string(), empty);
        assert_eq!(empty.parse(), Ok(Fingerprint::of(&CertificateDer::from(Vec::new()))));
    }

    #[test]
    fn text_is_read_in_the_usual_forms_only() {
        let plain = "0123456789abcdef".repeat(4);
        let parsed: Fingerprint = plain.parse().unwrap();
        assert_eq!(plain.to_uppercase().parse(), Ok(parsed));
        let colons: Vec<_> = parsed.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(colons.join(":").parse(), Ok(parsed));
        for wrong in ["", "0", &plain[1..], &format!("{plain}0"), &plain.replace('f', "g")] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(InvalidFingerprint), "{wrong}");
        }
    }
}
