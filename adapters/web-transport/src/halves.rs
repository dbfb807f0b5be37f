//! The halves of a stream. Each is a future that owns its half, and takes orders from the session that polls it.
//!
//! No method of the carriers may be dropped while it writes: some report nothing of what they wrote, others lose it.
//! So a write is polled until it is over, and dropped only to reset the stream. Orders that come meanwhile wait.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use smallvec::SmallVec;
use smoq::stream::Code;
use web_transport_trait::{Error as _, RecvStream, SendStream};

use crate::future::{BoxFuture, Shared, boxed, unless};

/// How the sending half ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendEnd {
    /// The peer has everything, as far as the carrier knows.
    Finished,
    /// By an order.
    Reset,
    /// The peer sent STOP_SENDING.
    Stopped(Code),
    /// An error without a code. The session is lost, or the code is none that the carrier knows.
    Broken,
}

/// The chunks of one write.
pub(crate) type Chunks = SmallVec<[Bytes; 4]>;

#[derive(Default)]
struct SendOrders {
    priority: Option<i32>,
    chunks: Chunks,
    is_writing: bool,
    finish: bool,
    reset: Option<u32>,
}

impl SendOrders {
    fn are_there(&self) -> bool {
        self.reset.is_some() || self.priority.is_some() || self.finish || self.is_writing
    }
}

/// The sending half of a stream. Reset it, or [`SendHalf::poll`] it to its end: some carriers finish a stream that is
/// dropped.
pub(crate) struct SendHalf {
    orders: Shared<SendOrders>,
    future: BoxFuture<SendEnd>,
}

impl SendHalf {
    /// `is_watched`: STOP_SENDING is noticed also while there is nothing to write.
    pub(crate) fn new<S: SendStream + 'static>(stream: S, is_watched: bool) -> Self {
        let orders = Shared::new(SendOrders::default());
        let future = boxed(send(stream, orders.clone(), is_watched));
        Self { orders, future }
    }

    /// Carries out orders. Nothing must be called after it is ready.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SendEnd> {
        self.future.as_mut().poll(cx)
    }

    pub(crate) fn set_priority(&self, priority: i32) {
        self.orders.lock().priority = Some(priority);
    }

    /// Writes `chunks`, if [`is_writing`](Self::is_writing) is `false`.
    pub(crate) fn write(&self, chunks: Chunks) {
        let mut orders = self.orders.lock();
        orders.is_writing = chunks.iter().any(|chunk| !chunk.is_empty());
        orders.chunks = chunks;
    }

    /// Whether the carrier has not taken all of the last write.
    pub(crate) fn is_writing(&self) -> bool {
        self.orders.lock().is_writing
    }

    /// Finishes the stream after the last write.
    pub(crate) fn finish(&self) {
        self.orders.lock().finish = true;
    }

    /// Resets the stream. Bytes that the carrier has not sent are discarded.
    pub(crate) fn reset(mut self, code: Code) {
        self.orders.lock().reset = Some(carrier_code(code));
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// Codes of the carriers have 32 bits.
pub(crate) fn carrier_code(code: Code) -> u32 {
    u32::try_from(code.as_u64()).unwrap_or(u32::MAX)
}

async fn send<S: SendStream>(
    mut stream: S,
    orders: Shared<SendOrders>,
    is_watched: bool,
) -> SendEnd {
    let is_reset = || orders.lock().reset.is_some();
    loop {
        let (priority, reset) = {
            let mut orders = orders.lock();
            (orders.priority.take(), orders.reset)
        };
        if let Some(code) = reset {
            stream.reset(code);
            return SendEnd::Reset;
        }
        if let Some(priority) = priority {
            stream.set_priority(priority);
        }
        let chunk = {
            let mut orders = orders.lock();
            let chunk = orders.chunks.iter_mut().find(|chunk| !chunk.is_empty());
            let chunk = chunk.map(std::mem::take);
            orders.is_writing = chunk.is_some();
            chunk
        };
        let error = if let Some(chunk) = chunk {
            match unless(stream.write_chunk(chunk), is_reset).await {
                Some(Err(error)) => error,
                _ => continue,
            }
        } else if orders.lock().finish {
            // An error is found by `closed` as well.
            let _ = stream.finish();
            match unless(stream.closed(), is_reset).await {
                Some(Ok(())) => return SendEnd::Finished,
                Some(Err(error)) => error,
                None => continue,
            }
        } else if is_watched {
            match unless(stream.closed(), || orders.lock().are_there()).await {
                Some(Err(error)) => error,
                // STOP_SENDING with a code that the carrier does not know: nothing was finished.
                Some(Ok(())) => {
                    stream.reset(0);
                    return SendEnd::Stopped(Code::default());
                }
                None => continue,
            }
        } else {
            let there_are = || orders.lock().are_there();
            poll_fn(|_| if there_are() { Poll::Ready(()) } else { Poll::Pending }).await;
            continue;
        };
        let code = error.stream_error();
        stream.reset(code.unwrap_or(0));
        return code.map_or(SendEnd::Broken, |code| SendEnd::Stopped(code.into()));
    }
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Chunk(Bytes),
    /// FIN. This and what follows is the end of the half.
    Finished,
    /// The peer sent RESET_STREAM.
    Reset(Code),
    /// An error without a code. The session is lost, or the code is none that the carrier knows.
    Broken,
}

#[derive(Default)]
struct RecvOrders {
    limit: usize,
    stop: Option<u32>,
    chunk: Option<Bytes>,
}

/// The receiving half of a stream.
pub(crate) struct RecvHalf {
    orders: Shared<RecvOrders>,
    future: BoxFuture<Read>,
}

impl RecvHalf {
    pub(crate) fn new<R: RecvStream + 'static>(stream: R) -> Self {
        let orders = Shared::new(RecvOrders::default());
        let future = boxed(receive(stream, orders.clone()));
        Self { orders, future }
    }

    /// Reads at most `limit` bytes, which must not be 0. A read that was pending keeps the limit that it had.
    pub(crate) fn poll_read(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Read> {
        self.orders.lock().limit = limit;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                let chunk = self.orders.lock().chunk.take();
                chunk.map_or(Poll::Pending, |chunk| Poll::Ready(Read::Chunk(chunk)))
            }
        }
    }

    /// Sends STOP_SENDING.
    pub(crate) fn stop(mut self, code: Code) {
        self.orders.lock().stop = Some(carrier_code(code));
        let _ = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// The end of the half. Chunks are put into `orders`, one for each limit.
async fn receive<R: RecvStream>(mut stream: R, orders: Shared<RecvOrders>) -> Read {
    loop {
        let limit = poll_fn(|_| {
            let orders = orders.lock();
            let is_ready = orders.limit > 0 || orders.stop.is_some();
            if is_ready { Poll::Ready(orders.limit) } else { Poll::Pending }
        })
        .await;
        let read = unless(stream.read_chunk(limit), || orders.lock().stop.is_some()).await;
        let mut orders = orders.lock();
        orders.limit = 0;
        match read {
            None => {
                stream.stop(orders.stop.unwrap_or(0));
                return Read::Finished;
            }
            Some(Ok(Some(bytes))) => orders.chunk = Some(bytes),
            Some(Ok(None)) => return Read::Finished,
            Some(Err(error)) => {
                return error.stream_error().map_or(Read::Broken, |code| Read::Reset(code.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
