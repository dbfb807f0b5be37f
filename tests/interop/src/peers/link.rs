use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::Failure;
use crate::{PATIENCE, quic, within};

pub(super) type Closing = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
pub(super) type GoingAway = Pin<Box<dyn Future<Output = Option<String>> + Send>>;
pub(super) type Probing = Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

type GoAway = dyn Fn(&str, Duration) -> Result<(), Failure> + Send + Sync;

/// GOAWAY, of a peer that has it.
struct Leaving {
    go_away: Box<GoAway>,
    going_away: Box<dyn Fn() -> GoingAway + Send + Sync>,
}

/// One established session of a peer. Dropping it closes the session at once.
pub struct Link {
    version: String,
    abort: Box<dyn Fn() + Send + Sync>,
    close: Box<dyn Fn() -> Closing + Send + Sync>,
    closed: watch::Receiver<Option<Failure>>,
    close_reason: Arc<OnceLock<quinn::ConnectionError>>,
    skipped: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    leaving: Option<Leaving>,
    probe: Option<Box<dyn Fn() -> Probing + Send + Sync>>,
    /// Of a link that has a socket to itself: closes it when it is dropped.
    _socket: Option<Box<dyn Send + Sync>>,
}

/// The result of each connection to a [`Listener`].
pub type Accepted = Result<Arc<Link>, Failure>;

impl Link {
    pub(super) fn new(
        version: String,
        abort: impl Fn() + Send + Sync + 'static,
        close: impl Fn() -> Closing + Send + Sync + 'static,
        closed: impl Future<Output = Failure> + Send + 'static,
    ) -> Self {
        let (report, observed) = watch::channel(None);
        tokio::spawn(async move {
            let failure = closed.await;
            let _ = report.send(Some(failure));
        });
        Self {
            version,
            close_reason: Arc::default(),
            abort: Box::new(abort),
            close: Box::new(close),
            closed: observed,
            skipped: None,
            leaving: None,
            probe: None,
            _socket: None,
        }
    }

    /// Adds the QUIC connection, for peers on quinn.
    pub(super) fn over(self, connection: quinn::Connection) -> Self {
        let close_reason = self.close_reason.clone();
        tokio::spawn(async move { close_reason.set(connection.closed().await) });
        self
    }

    /// Adds the number of groups that the peer did not send completely.
    pub(super) fn counting(mut self, skipped: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.skipped = Some(Box::new(skipped));
        self
    }

    /// Adds PROBE: the other side's estimate of the path, in bits per second.
    pub(super) fn probing(mut self, probe: impl Fn() -> Probing + Send + Sync + 'static) -> Self {
        self.probe = Some(Box::new(probe));
        self
    }

    /// Adds GOAWAY in both directions.
    pub(super) fn leaving(
        mut self,
        go_away: impl Fn(&str, Duration) -> Result<(), Failure> + Send + Sync + 'static,
        going_away: impl Fn() -> GoingAway + Send + Sync + 'static,
    ) -> Self {
        self.leaving =
            Some(Leaving { go_away: Box::new(go_away), going_away: Box::new(going_away) });
        self
    }

    /// Adds a value that keeps the socket open.
    pub(super) fn holding(mut self, socket: impl Send + Sync + 'static) -> Self {
        self._socket = Some(Box::new(socket));
        self
    }

    /// The agreed version, as the peer names it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many groups the session did not send completely, from a peer that counts.
    pub fn skipped_groups(&self) -> Option<u64> {
        self.skipped.as_ref().map(|skipped| skipped())
    }

    /// The application code of the other side's CONNECTION_CLOSE, if it is known.
    ///
    /// For printing, not for assertions: peers answer a close with a close of their own, and quinn keeps
    /// the last. The quinn connection of the other side knows the code that *it* received.
    pub fn close_code(&self) -> Option<u64> {
        match self.close_reason.get()? {
            quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }

    /// Closes the session at once.
    pub fn abort(&self) {
        (self.abort)();
    }

    /// Closes the session in the peer's most graceful way (moq-net delivers what is queued, for at most one
    /// second; moq-lite 0.16 only closes abruptly).
    pub async fn close(&self) -> Result<(), Failure> {
        within("the session to close", (self.close)()).await
    }

    /// Waits until the other side has reported its rate, in bits per second; `None` if it does not.
    pub async fn probe(&self) -> Option<u64> {
        within("an estimate of the path", (self.probe.as_ref()?)()).await
    }

    /// Asks the other side to move to `uri` within `timeout`.
    pub fn go_away(&self, uri: &str, timeout: Duration) -> Result<(), Failure> {
        let leaving = self.leaving.as_ref().ok_or_else(|| Failure::local("no GOAWAY"))?;
        (leaving.go_away)(uri, timeout)
    }

    /// Waits for the other side's GOAWAY and its URI; `None` if the session ended without it.
    pub async fn going_away(&self) -> Option<String> {
        let leaving = self.leaving.as_ref()?;
        within("GOAWAY", (leaving.going_away)()).await
    }

    /// Waits for the session's end, on either side, and returns the peer's reason.
    pub async fn closed(&self) -> Failure {
        let mut closed = self.closed.clone();
        let wait = closed.wait_for(Option::is_some);
        match within(format!("the {} session to end", self.version), wait).await {
            Ok(reason) => reason.clone().expect("checked by the wait"),
            Err(_) => Failure::local("the session's task is gone"),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        (self.abort)();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A listening peer. Dropping it closes its sessions and the socket.
pub struct Listener {
    addr: SocketAddr,
    links: Links,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    /// Closes the socket when it is dropped.
    _socket: Box<dyn Send>,
}

type Links = Arc<Mutex<Vec<Arc<Link>>>>;

/// Where the sessions of a [`Listener`] arrive.
#[derive(Clone)]
pub(super) struct Arrivals {
    links: Links,
    report: mpsc::UnboundedSender<Accepted>,
}

impl Arrivals {
    pub(super) fn report(&self, accepted: Result<Link, Failure>) {
        let accepted = accepted.map(Arc::new);
        if let Ok(link) = &accepted {
            self.links.lock().expect("no panic under this lock").push(link.clone());
        }
        let _ = self.report.send(accepted);
    }
}

/// A quinn endpoint and the task that accepts from it.
struct QuinnSocket {
    endpoint: quinn::Endpoint,
    _task: JoinSet<()>,
}

impl Drop for QuinnSocket {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"listener dropped");
    }
}

impl Listener {
    /// A listener of any kind: `open` returns its address and a value that keeps its socket open.
    pub(super) fn new<S: Send + 'static>(open: impl FnOnce(Arrivals) -> (SocketAddr, S)) -> Self {
        let links = Links::default();
        let (report, accepted) = mpsc::unbounded_channel();
        let (addr, socket) = open(Arrivals { links: links.clone(), report });
        Self { addr, links, accepted, _socket: Box::new(socket) }
    }

    /// A listener that creates sessions from the connections of a quinn endpoint.
    pub(super) fn spawn<F>(
        config: quinn::ServerConfig,
        handshake: impl Fn(quinn::Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Link, Failure>> + Send + 'static,
    {
        let handshake = Arc::new(handshake);
        let endpoint = quic::server(config).expect("a socket on 127.0.0.1");
        let addr = endpoint.local_addr().expect("a bound socket");
        Self::new(|arrivals| {
            let mut tasks = JoinSet::new();
            let accepting = endpoint.clone();
            tasks.spawn(async move {
                let mut sessions = JoinSet::new();
                while let Some(incoming) = accepting.accept().await {
                    let (handshake, arrivals) = (handshake.clone(), arrivals.clone());
                    sessions.spawn(async move {
                        let accepting = async {
                            let connection =
                                incoming.await.map_err(|err| Failure::local(err.to_string()))?;
                            handshake(connection).await
                        };
                        // Not `within`: a panic in this task would go unseen.
                        let accepted = tokio::time::timeout(PATIENCE, accepting).await;
                        arrivals.report(accepted.unwrap_or_else(|_| {
                            Err(Failure::local("the session's handshake timed out"))
                        }));
                    });
                }
            });
            (addr, QuinnSocket { endpoint, _task: tasks })
        })
    }

    /// Where to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for the next session, or for a connection that failed to become one.
    pub async fn accepted(&mut self) -> Accepted {
        within(format!("a session at {}", self.addr), self.accepted.recv())
            .await
            .expect("the accept loop runs as long as the listener")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for link in self.links.lock().expect("no panic under this lock").drain(..) {
            link.abort();
        }
    }
}

/// A QUIC connection to `addr`, from a socket of its own.
pub(super) async fn connect(
    addr: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<quinn::Connection, Failure> {
    let endpoint = quic::client(config).expect("a socket on 127.0.0.1");
    let connecting =
        endpoint.connect(addr, "localhost").map_err(|err| Failure::local(err.to_string()))?;
    within(format!("a QUIC connection to {addr}"), connecting)
        .await
        .map_err(|err| Failure::local(err.to_string()))
}
