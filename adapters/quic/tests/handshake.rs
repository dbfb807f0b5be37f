//! TLS handshakes in memory: which servers are accepted, and which protocol is agreed on.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use smoq_quic::{Fingerprint, Identity, Trust, rustls};

/// The agreed ALPN, or why either side gave up.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<Option<Vec<u8>>, rustls::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    assert_eq!(client.alpn_protocol(), server.alpn_protocol());
    Ok(client.alpn_protocol().map(<[u8]>::to_vec))
}

fn is_believed(trust: &Trust, identity: &Identity) -> bool {
    let client = smoq_quic::tls::client(trust, ["a"]).unwrap();
    handshake(client, smoq_quic::tls::server(identity, ["a"]).unwrap()).is_ok()
}

#[test]
fn the_server_chooses_the_protocol() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let agree = |offered: &[&'static str], spoken: &[&'static str]| {
        let client = smoq_quic::tls::client(&Trust::Insecure, offered.iter().copied()).unwrap();
        handshake(client, smoq_quic::tls::server(&identity, spoken.iter().copied()).unwrap())
    };
    assert_eq!(agree(&["a", "b"], &["b", "a"]), Ok(Some(b"b".to_vec())));
    assert_eq!(agree(&["a"], &["b", "a"]), Ok(Some(b"a".to_vec())));
    assert!(agree(&["a"], &["b"]).is_err());
}

#[test]
fn a_pin_is_for_one_certificate() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let other = Identity::self_signed(["localhost"]).unwrap();
    let pin = Trust::from(identity.fingerprint());
    assert!(is_believed(&pin, &identity));
    assert!(!is_believed(&pin, &other));
    let both = Trust::Pinned(vec![identity.fingerprint(), other.fingerprint()]);
    assert!(is_believed(&both, &other));
    assert!(!is_believed(&Trust::Pinned(Vec::new()), &identity));
}

#[test]
fn a_pinned_certificate_is_no_use_without_its_key() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let thief = Identity::self_signed(["localhost"]).unwrap();
    let stolen = Identity::new(identity.chain().to_vec(), thief.key().clone_key()).unwrap();
    assert!(matches!(smoq_quic::tls::server(&stolen, ["a"]), Err(smoq_quic::Error::Tls(_))));

    let key = rustls::crypto::ring::sign::any_supported_type(thief.key()).unwrap();
    let shown = CertifiedKey::new(identity.chain().to_vec(), key);
    let mut server = smoq_quic::tls::server(&identity, ["a"]).unwrap();
    server.cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    for trust in [Trust::from(identity.fingerprint()), Trust::Insecure] {
        let client = smoq_quic::tls::client(&trust, ["a"]).unwrap();
        assert!(handshake(client, server.clone()).is_err(), "{trust:?}");
    }
}

#[test]
fn roots_want_the_name() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let elsewhere = Identity::self_signed(["elsewhere"]).unwrap();
    let mut roots = RootCertStore::empty();
    for identity in [&identity, &elsewhere] {
        roots.add(identity.chain()[0].clone()).unwrap();
    }
    let trust = Trust::Roots(roots);
    assert!(is_believed(&trust, &identity));
    assert!(!is_believed(&trust, &elsewhere));
    assert!(!is_believed(&Trust::WebRoots, &identity));
    assert!(is_believed(&Trust::Insecure, &elsewhere));
}

#[test]
fn no_roots_is_an_error() {
    let trust = Trust::Roots(RootCertStore::empty());
    assert!(matches!(smoq_quic::tls::client(&trust, ["a"]), Err(smoq_quic::Error::NoRoots(_))));
}

#[test]
fn an_identity_is_read_from_files() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [cert_file, key_file] =
        ["identity-cert.pem", "identity-key.pem"].map(|name| dir.join(name));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();

    let identity = Identity::from_pem_files(&cert_file, &key_file).unwrap();
    assert!(is_believed(&Trust::from(Fingerprint::of(certificate.der())), &identity));

    // Each error names the file, and says what should be in it.
    let absent = dir.join("no-such-file");
    for (cert, key, text, reason) in [
        (
            &absent,
            &key_file,
            format!("can't read the certificate chain from {}", absent.display()),
            "",
        ),
        (&cert_file, &absent, format!("can't read the private key from {}", absent.display()), ""),
        (
            &key_file,
            &key_file,
            format!("no certificate chain in PEM form in {}", key_file.display()),
            "no items found",
        ),
        (
            &cert_file,
            &cert_file,
            format!("no private key in PEM form in {}", cert_file.display()),
            "no items found",
        ),
    ] {
        let error = Identity::from_pem_files(cert, key).unwrap_err();
        assert_eq!(error.to_string(), text);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(!source.is_empty() && source.contains(reason), "{source}");
    }
    assert!(matches!(
        Identity::new(Vec::new(), identity.key().clone_key()),
        Err(smoq_quic::Error::NoCertificate)
    ));
}

#[test]
fn an_unpinned_certificate_is_named() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let other = Identity::self_signed(["localhost"]).unwrap();
    let client = smoq_quic::tls::client(&Trust::from(other.fingerprint()), ["a"]).unwrap();
    let error = handshake(client, smoq_quic::tls::server(&identity, ["a"]).unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&identity.fingerprint().to_string()), "{text}");
    assert!(text.contains("is not one of those that are pinned"), "{text}");
}

#[test]
fn an_invalid_name_is_named() {
    let error = Identity::self_signed(["localhost", "no\u{e9}"]).unwrap_err();
    assert!(error.to_string().contains("localhost, no\u{e9}"), "{error}");
}

/// Browsers accept a certificate by its hash only if it is ECDSA and valid for at most 14 days (WebTransport,
/// *serverCertificateHashes*).
#[test]
#[expect(clippy::disallowed_methods, reason = "the certificate is valid now")]
fn browsers_accept_a_self_signed_certificate_by_its_hash() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let der = &identity.chain()[0];
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(der.windows(p256.len()).any(|part| part == p256));
    // Two UTCTimes of 13 bytes: `YYMMDDhhmmssZ`.
    let times =
        der.windows(15).filter(|part| part[..2] == [0x17, 13]).map(|part| seconds(&part[2..]));
    let [from, to] = times.collect::<Vec<_>>()[..] else { panic!("{der:?}") };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(from < now && now < to && to - from <= 14 * 86_400, "{from} {now} {to}");
}

/// Seconds since 1970 of a UTCTime in this century.
fn seconds(time: &[u8]) -> u64 {
    let digits = |at: usize| u64::from(time[at] - b'0') * 10 + u64::from(time[at + 1] - b'0');
    let [year, month, day] = [2_000 + digits(0), digits(2), digits(4)];
    // Years begin in March, so that a leap day is the last day of a year.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    ((days - 719_468) * 24 + digits(6)) * 3_600 + digits(8) * 60 + digits(10)
}
