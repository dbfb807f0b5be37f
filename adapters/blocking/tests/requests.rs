//! Sessions that the application decides on, over real UDP on the loopback interface. Both ends are stepped
//! by this thread.

#![expect(clippy::disallowed_methods, reason = "a deadline instead of a hang")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smoq::{
    Client, CloseReason, Error, IncomingSession, Origin, Role, Server, Session, Subscription, Track,
};
use smoq_blocking::quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use smoq_blocking::quinn_proto::{ClientConfig, ServerConfig};
use smoq_blocking::smoq_quic::rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use smoq_blocking::smoq_quic::rustls::pki_types::{CertificateDer, UnixTime};
use smoq_blocking::smoq_quic::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use smoq_blocking::smoq_quic::rustls::sign::{CertifiedKey, SingleCertAndKey};
use smoq_blocking::smoq_quic::rustls::{
    self, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
};
use smoq_blocking::smoq_quic::{self, Carrier, Identity, Trust};
use smoq_blocking::{Budget, ConnectionId, Endpoint, Event, config};

/// A socket that listens and asks, and one that dials.
struct Pair {
    server: Endpoint,
    client: Endpoint,
    trust: Trust,
    /// The carrier that the client dials.
    carrier: Carrier,
}

/// Requests of a server.
struct Asked {
    id: ConnectionId,
    request: IncomingSession,
    certificates: Vec<CertificateDer<'static>>,
}

impl Pair {
    fn new(server: &Server, config: impl FnOnce(&Identity) -> ServerConfig) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listening = Endpoint::bind(local, config(&identity), server).unwrap();
        listening.set_manual_accept(true);
        let client = Endpoint::new(local).unwrap();
        let (trust, carrier) = (identity.fingerprint().into(), Carrier::RawQuic);
        Self { server: listening, client, trust, carrier }
    }

    /// One whose server asks for no certificates.
    fn plain(server: &Server) -> Self {
        Self::new(server, |identity| config::server(identity, server.versions()).unwrap())
    }

    fn dial(&mut self, client: &Client) {
        let config = match self.carrier {
            Carrier::RawQuic => config::client(&self.trust, client.versions()),
            Carrier::WebTransport => config::webtransport_client(&self.trust),
        };
        self.dial_with(client, config.unwrap());
    }

    fn dial_with(&mut self, client: &Client, config: ClientConfig) {
        let addr = self.server.local_addr().unwrap();
        self.client.dial(addr, "localhost", config, client).unwrap();
    }

    fn connected(&mut self) -> Session {
        match self.until(|pair| pair.client.poll_event()) {
            Event::Connected { session, .. } => session,
            event => panic!("{event:?}"),
        }
    }

    fn asked(&mut self) -> Asked {
        match self.until(|pair| pair.server.poll_event()) {
            Event::Incoming { id, request, remote, certificates } => {
                assert_eq!(remote, self.client.local_addr().unwrap());
                Asked { id, request, certificates }
            }
            event => panic!("{event:?}"),
        }
    }

    fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(Instant::now() < deadline, "nothing for 30 s");
            let budget = Budget::items(64);
            let (server, client) = (self.server.step(budget), self.client.step(budget));
            if server.unwrap().items + client.unwrap().items == 0 {
                self.client.wait(Some(Duration::from_millis(1))).unwrap();
            }
        }
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn an_accepted_client_gets_the_part_that_it_dialed() {
    accept_on(Carrier::RawQuic);
}

#[test]
fn on_webtransport_the_request_tells_the_part_and_the_authority() {
    accept_on(Carrier::WebTransport);
}

fn accept_on(carrier: Carrier) {
    let [mine, received] = [(); 2].map(|()| Origin::default().produce());
    let mut broadcast = mine.create_broadcast("room/alice").unwrap();
    let mut track = broadcast.create_track(Track::new("video")).unwrap();
    let mut pair = Pair::plain(&Server::new());
    pair.carrier = carrier;
    let client = Client::new().with_path("room?token=7").with_authority("relay.example");
    pair.dial(&client.with_consume(received.clone()));
    let mut session = pair.connected();
    let Asked { id, request, certificates } = pair.asked();
    assert_eq!((request.path().as_str(), request.role()), ("room", Role::Subscriber));
    assert_eq!(request.query(), "token=7");
    match request.http() {
        None => assert_eq!(carrier, Carrier::RawQuic),
        Some(http) => {
            assert_eq!(carrier, Carrier::WebTransport);
            assert_eq!((http.authority(), http.origin()), ("relay.example", None));
            assert_eq!(request.authority(), "relay.example");
        }
    }
    assert!(certificates.is_empty(), "nobody asked for one");
    assert!(pair.server.session(id).is_none());
    let part = mine.with_root(request.path()).unwrap();
    let served = request.with_publish(part.consume()).accept();

    let mut consumer = received.consume();
    let alice = pair.until(|_| ready(consumer.try_announced_broadcast("alice"))).unwrap();
    let mut video = alice.subscribe_track("video", Subscription::default()).unwrap();
    pair.until(|_| ready(track.try_used())).unwrap();
    track.write_frame(0_u64, "hello").unwrap();
    let frame = pair.until(|_| ready(video.try_read_frame())).unwrap().unwrap();
    assert_eq!(frame.payload(), b"hello");

    // The session is its decider's.
    drop(served);
    assert_eq!(pair.until(|_| ready(session.try_closed())), CloseReason::Clean);
}

#[test]
fn a_rejected_client_learns_why() {
    let mut pair = Pair::plain(&Server::new());
    for (error, carrier) in [
        (Some(Error::App(7)), Carrier::RawQuic),
        (None, Carrier::RawQuic),
        (Some(Error::App(7)), Carrier::WebTransport),
        (None, Carrier::WebTransport),
    ] {
        pair.carrier = carrier;
        pair.dial(&Client::new());
        let mut session = pair.connected();
        let Asked { id, request, .. } = pair.asked();
        match error.clone() {
            Some(error) => request.reject(error),
            // Forgotten.
            None => drop(request),
        }
        let expected = CloseReason::Error(error.unwrap_or(Error::Unauthorized));
        assert_eq!(pair.until(|_| ready(session.try_closed())), expected);
        let closed = pair.until(|pair| pair.server.poll_event());
        let Event::Closed { id: it, reason } = closed else { panic!("{closed:?}") };
        assert_eq!((it, reason), (id, expected));
        pair.until(|pair| pair.client.poll_event());
    }
}

/// The certificate of a client is part of what is decided on.
#[test]
fn a_client_may_show_a_certificate() {
    let server = Server::new();
    let mut pair = Pair::new(&server, |identity| {
        let tls = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Anyone))
            .with_single_cert(identity.chain().to_vec(), identity.key().clone_key());
        let mut tls = tls.unwrap();
        tls.alpn_protocols = server.versions().alpns().map(|alpn| alpn.into()).collect();
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
    });
    let alice = Identity::self_signed(["alice"]).unwrap();
    let (chain, key) = (alice.chain().to_vec(), alice.key().clone_key());
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).unwrap();
    let mut tls = smoq_quic::tls::client(&pair.trust, server.versions().alpns()).unwrap();
    tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    let tls = QuicClientConfig::try_from(tls).unwrap();
    pair.dial_with(&Client::new(), ClientConfig::new(Arc::new(tls)));
    let asked = pair.asked();
    assert_eq!(asked.certificates, alice.chain());
    let _session = asked.request.accept();
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct Anyone;

impl Anyone {
    fn algorithms() -> WebPkiSupportedAlgorithms {
        ring::default_provider().signature_verification_algorithms
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &Self::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &Self::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::algorithms().supported_schemes()
    }
}
