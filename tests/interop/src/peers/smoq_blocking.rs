//! smoq itself, with its adapter smoq-blocking: a plain thread runs the blocking loop of each socket.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    thread::{self, JoinHandle},
};

use ::smoq_blocking::{Budget, Endpoint, Event, config, smoq_quic as tls};
use smoq::OriginProducer;
use tokio::sync::mpsc;

use super::smoq_model::{self, Broadcast};
use super::{
    Abilities, Announcements, Code, Datagrams, Failure, Group, Link, Listener, Options, Role,
    Subscription, known,
};
use crate::{quic, within};

/// A peer that runs smoq without an async runtime. (The test awaits its handles on tokio.)
pub type Peer = PeerOn<false>;

/// The peer on WebTransport over HTTP/3 (`WEB`), or on raw QUIC.
pub struct PeerOn<const WEB: bool> {
    origin: OriginProducer,
}

impl<const WEB: bool> super::Peer for PeerOn<WEB> {
    const NAME: &'static str = "smoq-blocking";
    const VERSIONS: &'static [&'static str] = &smoq_model::VERSIONS;

    type Broadcast = Broadcast;

    fn new() -> Self {
        Self { origin: smoq_model::origin() }
    }

    fn abilities(version: &str) -> Abilities {
        smoq_model::abilities(version)
    }

    fn refused_with(version: &str, code: u32) -> Option<Code> {
        smoq_model::refused_with(version, code)
    }

    fn reset_with(version: &str, code: u32) -> Code {
        smoq_model::reset_with(version, code)
    }

    fn serve(&self, role: Role, versions: &[&str]) -> Listener {
        known::<Self>(versions);
        let server = smoq_model::server(&self.origin, role, smoq_model::versions(versions));
        let identity = tls::Identity::self_signed(["localhost"]).expect("a certificate");
        let config = config::server(&identity, server.versions()).expect("a configuration");
        let endpoint = Endpoint::bind(quic::loopback(), config, &server).expect("a socket");
        Listener::new(|arrivals| {
            let runtime = tokio::runtime::Handle::current();
            let addr = endpoint.local_addr().expect("a bound socket");
            let socket = Socket::run(endpoint, move |event| {
                // A link waits for its end on the runtime of the test.
                let _guard = runtime.enter();
                match event {
                    Event::Connected { session, .. } => {
                        arrivals.report(Ok(smoq_model::link(session)));
                    }
                    Event::Failed { error, .. } => {
                        arrivals.report(Err(Failure::local(error.to_string())));
                    }
                    _ => {}
                }
            });
            (addr, socket)
        })
    }

    async fn dial(&self, role: Role, addr: SocketAddr, versions: &[&str]) -> Result<Link, Failure> {
        known::<Self>(versions);
        let client = smoq_model::client(&self.origin, role, smoq_model::versions(versions));
        let config = match WEB {
            true => config::webtransport_client(&tls::Trust::Insecure),
            false => config::client(&tls::Trust::Insecure, client.versions()),
        };
        let mut endpoint = Endpoint::new(quic::loopback()).expect("a socket");
        let dialed = endpoint.dial(addr, "localhost", config.expect("a configuration"), &client);
        dialed.map_err(|err| Failure::local(err.to_string()))?;
        let (report, mut events) = mpsc::unbounded_channel();
        let socket = Socket::run(endpoint, move |event| {
            let _ = report.send(event);
        });
        match within("smoq-blocking to connect", events.recv()).await {
            Some(Event::Connected { session, .. }) => Ok(smoq_model::link(session).holding(socket)),
            Some(Event::Failed { error, .. }) => Err(Failure::local(error.to_string())),
            other => Err(Failure::local(format!("no connection: {other:?}"))),
        }
    }

    fn broadcast(&self, path: &str) -> Result<Broadcast, Failure> {
        Ok(smoq_model::broadcast(&self.origin, path))
    }

    fn announcements(&self) -> Announcements {
        smoq_model::announcements(Self::NAME, &self.origin)
    }

    async fn subscribe(
        &self,
        path: &str,
        track: &str,
        options: Options,
    ) -> Result<Subscription, Failure> {
        smoq_model::subscribe(Self::NAME, &self.origin, path, track, &options)
    }
}

impl super::Modern for Peer {
    async fn fetch(&self, path: &str, track: &str, sequence: u64) -> Result<Group, Failure> {
        smoq_model::fetch(&self.origin, path, track, sequence).await
    }

    async fn datagrams(&self, path: &str, track: &str) -> Result<Datagrams, Failure> {
        smoq_model::datagrams(&self.origin, path, track)
    }
}

/// The thread of one socket. Dropping it ends the thread, and with it the socket's sessions.
struct Socket {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Socket {
    fn run(mut endpoint: Endpoint, mut on_event: impl FnMut(Event) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (waker, stopped) = (endpoint.waker(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                endpoint.step(Budget::items(1_024))?;
                while let Some(event) = endpoint.poll_event() {
                    on_event(event);
                }
                endpoint.wait(None)?;
            }
            Ok(())
        });
        Self { stop, waker, thread: Some(thread) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake_by_ref();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("no panic in the endpoint").expect("no error of the socket");
            }
        }
    }
}
