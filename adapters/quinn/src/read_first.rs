//! A runtime for quinn that reads the socket first after a stall of the process.
//!
//! All timers are due at once then. quinn reads its socket in small parts, and handles the timers of all connections
//! between them, so that a connection would be lost whose packets came in time and wait in the socket. This runtime holds
//! the tasks of connections until the socket is empty.

use std::future::Future;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};

/// If nothing has run for this long, the process has stalled, or nothing was to be done.
const STALL: Duration = Duration::from_millis(100);
/// How long connections wait at most, so that a flood does not hold them.
const PATIENCE: Duration = Duration::from_secs(1);

/// A runtime for one endpoint.
#[derive(Debug)]
pub(crate) struct ReadFirst {
    runtime: Arc<dyn Runtime>,
    inbox: Arc<Inbox>,
    /// The first task is that of the endpoint, which reads. Each other one is that of a connection.
    is_reader_spawned: AtomicBool,
}

impl ReadFirst {
    pub(crate) fn around(runtime: Arc<dyn Runtime>) -> Arc<dyn Runtime> {
        let inbox = Arc::new(Inbox::new(runtime.now()));
        Arc::new(Self { runtime, inbox, is_reader_spawned: AtomicBool::new(false) })
    }
}

impl Runtime for ReadFirst {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.runtime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if !self.is_reader_spawned.swap(true, Ordering::Relaxed) {
            return self.runtime.spawn(task);
        }
        let (runtime, inbox) = (Arc::clone(&self.runtime), Arc::clone(&self.inbox));
        self.runtime.spawn(Box::pin(Held { task, timer: None, runtime, inbox }));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let same = socket.try_clone()?;
        same.set_nonblocking(true)?;
        let socket = self.runtime.wrap_udp_socket(socket)?;
        *lock(&self.inbox.socket) = Some(same);
        let (runtime, inbox) = (Arc::clone(&self.runtime), Arc::clone(&self.inbox));
        Ok(Arc::new(Socket { socket, runtime, inbox }))
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }
}

/// The datagrams that have arrived and were not passed on to connections.
#[derive(Debug)]
struct Inbox {
    /// The latest socket of the endpoint.
    socket: Mutex<Option<UdpSocket>>,
    /// The endpoint takes datagrams from the socket, and has not come to their end.
    is_reading: AtomicBool,
    /// When a task ran last, in microseconds since `begun`.
    ran: AtomicU64,
    begun: Instant,
    /// Connections wait until everything was passed on.
    is_holding: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Inbox {
    fn new(begun: Instant) -> Self {
        Self {
            socket: Mutex::default(),
            is_reading: AtomicBool::new(false),
            ran: AtomicU64::new(0),
            begun,
            is_holding: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// A task runs.
    fn run(&self, now: Instant) {
        let now = now.saturating_duration_since(self.begun).as_micros() as u64;
        let ran = self.ran.fetch_max(now, Ordering::Relaxed);
        if now.saturating_sub(ran) >= STALL.as_micros() as u64 {
            self.is_holding.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the task of a connection has to wait. It is woken.
    fn holds(&self, now: Instant, waker: &Waker) -> bool {
        self.run(now);
        if !self.is_holding.load(Ordering::SeqCst) {
            return false;
        }
        lock(&self.waiting).push(waker.clone());
        self.release_if_empty();
        self.is_holding.load(Ordering::SeqCst)
    }

    fn release_if_empty(&self) {
        // A runtime may believe that nothing is there until it asks the system.
        let is_empty = lock(&self.socket).as_ref().is_none_or(|socket| {
            let peeked = socket.peek_from(&mut [0]);
            peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        // In this order: datagrams are either in the socket, or on their way.
        if is_empty && !self.is_reading.load(Ordering::SeqCst) {
            self.release();
        }
    }

    fn release(&self) {
        self.is_holding.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of a connection.
struct Held {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When it has waited long enough.
    timer: Option<Pin<Box<dyn AsyncTimer>>>,
    runtime: Arc<dyn Runtime>,
    inbox: Arc<Inbox>,
}

impl Future for Held {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, timer, runtime, inbox } = &mut *self;
        let now = runtime.now();
        if inbox.holds(now, cx.waker()) {
            let timer = timer.get_or_insert_with(|| runtime.new_timer(now + PATIENCE));
            ready!(timer.as_mut().poll(cx));
            inbox.release();
        }
        *timer = None;
        task.as_mut().poll(cx)
    }
}

/// A socket that tells how far it is read.
#[derive(Debug)]
struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    runtime: Arc<dyn Runtime>,
    inbox: Arc<Inbox>,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let inbox = &self.inbox;
        inbox.run(self.runtime.now());
        inbox.is_reading.store(true, Ordering::SeqCst);
        let polled = self.socket.poll_recv(cx, bufs, meta);
        // The endpoint passes on what it took before it reads again.
        if !matches!(polled, Poll::Ready(Ok(_))) {
            inbox.is_reading.store(false, Ordering::SeqCst);
            if inbox.is_holding.load(Ordering::SeqCst) {
                inbox.release_if_empty();
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
