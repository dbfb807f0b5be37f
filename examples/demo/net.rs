//! The network of the demo: a relay, and the loops of the publisher and of the readers.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use smoq::{BroadcastConsumer, Client, Limits, Origin, OriginProducer, Server, Session};
use smoq_blocking::{Budget, Endpoint};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::{Identity, Trust};
use tokio::runtime::Runtime;

use crate::{report, signals};

/// The only broadcast.
pub(crate) const BROADCAST: &str = "demo";

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The address of the relay, its fingerprint, and the limits of all sessions around it.
#[derive(Clone)]
pub(crate) struct Relay {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    trust: Trust,
    limits: Limits,
    /// The sessions that it serves.
    sessions: Arc<Mutex<Vec<Session>>>,
    /// The session of the publisher.
    fed_by: Arc<OnceLock<Session>>,
}

/// Runs something around a relay on tokio, and reports SIGTERM and SIGINT to it. At the end the relay
/// closes all of its sessions and waits until their peers have noticed.
pub(crate) fn with_relay<T>(
    limits: Limits,
    run: impl FnOnce(&Runtime, &Relay, Stopped) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't create a tokio runtime")?;
    let _inside = runtime.enter();
    let stopped = signals::stopped()?;
    let stopped = Box::pin(async move { anyhow!("stopped by {}", stopped.await) });
    let relay = Relay::start(limits)?;
    let result = run(&runtime, &relay, stopped);
    relay.endpoint.close(0_u32.into(), b"");
    runtime.block_on(relay.endpoint.wait_idle());
    result
}

/// Resolves to an error that names the signal, when the demo is asked to end.
pub(crate) type Stopped = Pin<Box<dyn Future<Output = anyhow::Error> + Send>>;

impl Relay {
    /// Starts a relay on the current tokio runtime.
    fn start(limits: Limits) -> Result<Self> {
        let identity = Identity::self_signed(["localhost"])?;
        let origin = Origin::default().limits(limits.clone()).produce();
        let server = Server::new().with_origin(&origin).with_limits(limits.clone());
        let config = config::server(&identity, server.versions())?;
        let endpoint = quinn::Endpoint::server(config, LOOPBACK)
            .with_context(|| format!("can't listen on {LOOPBACK}"))?;
        let address = endpoint.local_addr()?;
        let relay = Self {
            endpoint: endpoint.clone(),
            address,
            trust: identity.fingerprint().into(),
            limits,
            sessions: Arc::default(),
            fed_by: Arc::default(),
        };
        let sessions = Arc::clone(&relay.sessions);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (server, sessions) = (server.clone(), Arc::clone(&sessions));
                tokio::spawn(async move {
                    let peer = incoming.remote_address();
                    let served = async {
                        let (session, driving) =
                            smoq_quinn::accept(incoming.await?, &server).await?;
                        lock(&sessions).push(session);
                        anyhow::Ok(driving.await?)
                    };
                    if let Err(error) = served.await {
                        eprintln!("the relay lost {peer}: {}", report::sentence(&error));
                    }
                });
            }
        });
        Ok(relay)
    }

    /// The limits of all sessions.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Groups that a sender skipped by rule. A group that the publisher did not send to the relay is
    /// missing at all `subscribers`.
    pub(crate) fn skipped_groups(&self, subscribers: u64) -> u64 {
        let skipped = |session: &Session| session.stats().skipped_groups;
        let sent: u64 = lock(&self.sessions).iter().map(skipped).sum();
        sent + subscribers * self.fed_by.get().map_or(0, skipped)
    }

    /// An origin, and a client that feeds it.
    fn consumer(&self) -> (OriginProducer, Client) {
        let origin = Origin::default().limits(self.limits.clone()).produce();
        let client = Client::new().with_consume(origin.clone()).with_limits(self.limits.clone());
        (origin, client)
    }

    /// Publishes an origin in a loop on this thread. `turn` gets the time, writes the frames that are due,
    /// and returns when to be called again, or `None` to end.
    pub(crate) fn publish(
        &self,
        origin: &OriginProducer,
        mut turn: impl FnMut(Instant) -> Result<Option<Instant>>,
    ) -> Result<()> {
        let client = Client::new().with_publish(origin.consume()).with_limits(self.limits.clone());
        let tls = smoq_blocking::config::client(&self.trust, client.versions())?;
        let mut net = Endpoint::new(LOOPBACK)?;
        let connection = net.dial(self.address, "localhost", tls, &client)?;
        while let Some(next) = turn(Instant::now())? {
            while net.step(Budget::time(Duration::from_micros(500)))?.more {}
            if let Some(session) = net.session(connection) {
                self.fed_by.get_or_init(|| session.clone());
            }
            net.wait(Some(next.saturating_duration_since(Instant::now())))?;
        }
        if let Some(session) = net.session(connection) {
            session.drain();
        }
        loop {
            net.step(Budget::items(256))?;
            if net.connections() == 0 {
                return Ok(());
            }
            net.wait(None)?;
        }
    }

    /// Reads on the current tokio runtime, until the reader is done.
    pub(crate) async fn subscribe(self, reader: MakeReader) -> Result<()> {
        let (origin, client) = self.consumer();
        let mut endpoint = quinn::Endpoint::client(LOOPBACK)?;
        endpoint.set_default_client_config(config::client(&self.trust, client.versions())?);
        let address = self.address;
        let connecting = endpoint.connect(address, "localhost")?;
        let connection = connecting.await.with_context(|| format!("can't reach {address}"))?;
        let (session, mut driving) = smoq_quinn::connect(connection, &client).await?;
        tokio::select! {
            end = &mut driving => match end {
                Ok(()) => bail!("the relay closed the session"),
                Err(error) => bail!("the session with the relay ended: {error}"),
            },
            done = reader(origin) => done?,
        }
        drop(session);
        Ok(driving.await?)
    }

    /// Reads in one loop on this thread, each reader from a session of its own, until all are done.
    pub(crate) fn subscribe_all(&self, readers: Vec<MakeReader>) -> Result<()> {
        let mut net = Endpoint::new(LOOPBACK)?;
        let mut reading = Vec::new();
        for reader in readers {
            let (origin, client) = self.consumer();
            let tls = smoq_blocking::config::client(&self.trust, client.versions())?;
            net.dial(self.address, "localhost", tls, &client)?;
            reading.push(reader(origin));
        }
        net.run_until(poll_fn(|cx| {
            let mut failed = None;
            reading.retain_mut(|reader| match reader.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(done) => {
                    failed = done.err().or(failed.take());
                    false
                }
            });
            match failed {
                Some(error) => Poll::Ready(Err(error)),
                None if reading.is_empty() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        }))?
    }
}

fn lock(sessions: &Mutex<Vec<Session>>) -> MutexGuard<'_, Vec<Session>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An application that reads. It needs no runtime, so any loop can poll it.
pub(crate) type Reader = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Begins to read from an origin.
pub(crate) type MakeReader = Box<dyn FnOnce(OriginProducer) -> Reader + Send>;

/// Waits for the broadcast.
pub(crate) async fn find(origin: &OriginProducer) -> Result<BroadcastConsumer> {
    let broadcast = origin.consume().announced_broadcast(BROADCAST).await;
    broadcast.context("the origin has ended")
}
