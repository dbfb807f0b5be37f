use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::Failure;
use crate::{PATIENCE, quic, within};

type Closing = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// One established session of a peer. Dropping it closes the session at once.
pub struct Link {
    version: String,
    connection: quinn::Connection,
    abort: Box<dyn Fn() + Send + Sync>,
    close: Box<dyn Fn() -> Closing + Send + Sync>,
    closed: watch::Receiver<Option<Failure>>,
    close_reason: Arc<OnceLock<quinn::ConnectionError>>,
}

/// What a [`Listener`] reports for each connection.
pub type Accepted = Result<Arc<Link>, Failure>;

impl Link {
    pub(super) fn new(
        version: String,
        connection: quinn::Connection,
        abort: impl Fn() + Send + Sync + 'static,
        close: impl Fn() -> Closing + Send + Sync + 'static,
        closed: impl Future<Output = Failure> + Send + 'static,
    ) -> Self {
        let (report, observed) = watch::channel(None);
        tokio::spawn(async move {
            let failure = closed.await;
            let _ = report.send(Some(failure));
        });
        let close_reason = Arc::new(OnceLock::new());
        tokio::spawn({
            let (connection, close_reason) = (connection.clone(), close_reason.clone());
            async move { close_reason.set(connection.closed().await) }
        });
        Self {
            version,
            connection,
            close_reason,
            abort: Box::new(abort),
            close: Box::new(close),
            closed: observed,
        }
    }

    /// The version that was agreed on, as the peer names it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The QUIC connection below, for its statistics.
    pub fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    /// The application code of the other side's CONNECTION_CLOSE, if it is known.
    ///
    /// For printing, not for asserting: peers answer a close with a close of their own, and quinn
    /// keeps the last. The other side's own quinn connection tells what *it* was sent.
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

    /// Closes the session the peer's gentlest way (moq-net delivers what is queued, for at most
    /// one second; moq-lite 0.16 has only the abrupt one).
    pub async fn close(&self) -> Result<(), Failure> {
        within("the session to close", (self.close)()).await
    }

    /// Waits for the session's end, whichever side ends it; gives the peer's reason.
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
    endpoint: quinn::Endpoint,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    _task: JoinSet<()>,
}

impl Listener {
    pub(super) fn spawn<F>(
        versions: &[&str],
        handshake: impl Fn(quinn::Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Link, Failure>> + Send + 'static,
    {
        let handshake = Arc::new(handshake);
        let endpoint = quic::server(versions).expect("a socket on 127.0.0.1");
        let addr = endpoint.local_addr().expect("a bound socket");
        let links = Arc::new(Mutex::new(Vec::new()));
        let (report, accepted) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (endpoint, links) = (endpoint.clone(), links.clone());
            async move {
                let mut sessions = JoinSet::new();
                while let Some(incoming) = endpoint.accept().await {
                    let (handshake, links, report) =
                        (handshake.clone(), links.clone(), report.clone());
                    sessions.spawn(async move {
                        let accepting = async {
                            let connection =
                                incoming.await.map_err(|err| Failure::local(err.to_string()))?;
                            handshake(connection).await
                        };
                        // Not `within`: a panic in this task would go unseen.
                        let accepted = match tokio::time::timeout(PATIENCE, accepting).await {
                            Ok(accepted) => accepted.map(Arc::new),
                            Err(_) => Err(Failure::local("the session's handshake timed out")),
                        };
                        if let Ok(link) = &accepted {
                            links.lock().expect("no panic under this lock").push(link.clone());
                        }
                        let _ = report.send(accepted);
                    });
                }
            }
        });
        Self { addr, endpoint, links, accepted, _task: tasks }
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
        self.endpoint.close(0u32.into(), b"listener dropped");
    }
}

/// A QUIC connection to `addr`, from a socket of its own.
pub(super) async fn connect(
    addr: SocketAddr,
    versions: &[&str],
) -> Result<quinn::Connection, Failure> {
    let endpoint = quic::client(versions).expect("a socket on 127.0.0.1");
    let connecting =
        endpoint.connect(addr, "localhost").map_err(|err| Failure::local(err.to_string()))?;
    within(format!("a QUIC connection to {addr}"), connecting)
        .await
        .map_err(|err| Failure::local(err.to_string()))
}
