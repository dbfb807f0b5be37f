//! A clock that only the test moves.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

/// A runtime whose time stands still.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Mutex<Time>>);

#[derive(Debug)]
struct Time {
    now: Instant,
    /// How far the clock goes on each time that somebody looks at it.
    tick: Duration,
    waiting: Vec<Waker>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let (now, tick, waiting) = (TokioRuntime.now(), Duration::ZERO, Vec::new());
        Self(Arc::new(Mutex::new(Time { now, tick, waiting })))
    }

    /// How many timers wait.
    #[allow(dead_code, reason = "not each test counts them")]
    pub(crate) fn timers(&self) -> usize {
        self.0.lock().unwrap().waiting.len()
    }

    #[allow(dead_code, reason = "most tests want a clock that stands still")]
    pub(crate) fn set_tick(&self, tick: Duration) {
        self.0.lock().unwrap().tick = tick;
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap();
        time.now += by;
        let waiting = std::mem::take(&mut time.waiting);
        drop(time);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Runtime for Clock {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer { clock: self.clone(), at })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        let mut time = self.0.lock().unwrap();
        let tick = time.tick;
        time.now += tick;
        time.now
    }
}

#[derive(Debug)]
struct Timer {
    clock: Clock,
    at: Instant,
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.at = at;
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.at {
            return Poll::Ready(());
        }
        time.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}
