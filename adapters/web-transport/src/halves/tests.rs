use std::collections::VecDeque;
use std::fmt;

use smallvec::smallvec;
use web_transport_trait::Error as ErrorTrait;

use super::*;

/// An error of the carrier, with a code or without.
#[derive(Clone, Copy, Debug)]
struct Failed(Option<u32>);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed: {:?}", self.0)
    }
}

impl std::error::Error for Failed {}

impl ErrorTrait for Failed {
    fn session_error(&self) -> Option<(u32, String)> {
        None
    }

    fn stream_error(&self) -> Option<u32> {
        self.0
    }
}

/// A carrier's stream: its calls, and what it does next.
#[derive(Default)]
struct State {
    calls: Vec<String>,
    /// How many bytes it takes.
    room: usize,
    /// How it is closed by the peer.
    closed: Option<Result<(), Failed>>,
    /// Bytes that the peer sent.
    sent: VecDeque<Result<Option<Bytes>, Failed>>,
}

struct Mock(Shared<State>);

impl Mock {
    fn new() -> (Self, Shared<State>) {
        let state = Shared::new(State::default());
        (Self(state.clone()), state)
    }
}

impl SendStream for Mock {
    type Error = Failed;

    async fn write(&mut self, buf: &[u8]) -> Result<usize, Failed> {
        poll_fn(|_| {
            let mut state = self.0.lock();
            if let Some(Err(error)) = state.closed {
                return Poll::Ready(Err(error));
            }
            let n = buf.len().min(state.room);
            if n == 0 {
                return Poll::Pending;
            }
            state.room -= n;
            state.calls.push(format!("write {}", String::from_utf8_lossy(&buf[..n])));
            Poll::Ready(Ok(n))
        })
        .await
    }

    fn set_priority(&mut self, order: i32) {
        self.0.lock().calls.push(format!("priority {order}"));
    }

    fn finish(&mut self) -> Result<(), Failed> {
        self.0.lock().calls.push("finish".into());
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        self.0.lock().calls.push(format!("reset {code}"));
    }

    async fn closed(&mut self) -> Result<(), Failed> {
        poll_fn(|_| self.0.lock().closed.map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl RecvStream for Mock {
    type Error = Failed;

    async fn read(&mut self, _dst: &mut [u8]) -> Result<Option<usize>, Failed> {
        unreachable!("chunks are read")
    }

    async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, Failed> {
        assert_ne!(max, 0);
        poll_fn(|_| {
            let mut state = self.0.lock();
            match state.sent.pop_front() {
                Some(Ok(Some(mut bytes))) if bytes.len() > max => {
                    let chunk = bytes.split_to(max);
                    state.sent.push_front(Ok(Some(bytes)));
                    Poll::Ready(Ok(Some(chunk)))
                }
                Some(next) => Poll::Ready(next),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn stop(&mut self, code: u32) {
        self.0.lock().calls.push(format!("stop {code}"));
    }

    async fn closed(&mut self) -> Result<(), Failed> {
        unreachable!("some carriers lose data by it")
    }
}

fn sending(is_watched: bool) -> (SendHalf, Shared<State>) {
    let (stream, state) = Mock::new();
    (SendHalf::new(stream, is_watched), state)
}

fn poll(half: &mut SendHalf) -> Poll<SendEnd> {
    half.poll(&mut Context::from_waker(Waker::noop()))
}

fn read(half: &mut RecvHalf, limit: usize) -> Poll<Read> {
    half.poll_read(limit, &mut Context::from_waker(Waker::noop()))
}

fn chunks() -> Chunks {
    smallvec!["abc".into(), "".into(), "def".into()]
}

fn calls(state: &Shared<State>) -> Vec<String> {
    std::mem::take(&mut state.lock().calls)
}

#[test]
fn a_write_goes_on_where_it_waited_and_orders_wait_for_it() {
    let (mut half, state) = sending(true);
    state.lock().room = 4;
    half.set_priority(1);
    half.write(chunks());
    assert!(poll(&mut half).is_pending() && half.is_writing());
    assert_eq!(calls(&state), ["priority 1", "write abc", "write d"]);
    half.set_priority(2);
    assert!(poll(&mut half).is_pending() && half.is_writing());
    assert!(calls(&state).is_empty());
    state.lock().room = 9;
    assert!(poll(&mut half).is_pending() && !half.is_writing());
    assert_eq!(calls(&state), ["write ef", "priority 2"]);
}

#[test]
fn a_reset_interrupts_a_write_and_the_stream_is_not_finished() {
    for room in [0, 2, 3, 5] {
        let (mut half, state) = sending(true);
        state.lock().room = room;
        half.write(chunks());
        assert!(poll(&mut half).is_pending());
        calls(&state);
        half.reset(Code::new(7));
        assert_eq!(calls(&state), ["reset 7"]);
    }
    let (half, state) = sending(false);
    half.reset(Code::MAX);
    assert_eq!(calls(&state), [format!("reset {}", u32::MAX)], "larger codes are clamped");
}

/// FIN alone is an empty write.
#[test]
fn an_empty_write_is_over_at_once() {
    let (mut half, state) = sending(false);
    assert!(poll(&mut half).is_pending());
    half.write(Chunks::new());
    assert!(poll(&mut half).is_pending() && !half.is_writing());
    half.finish();
    assert!(poll(&mut half).is_pending());
    assert_eq!(calls(&state), ["finish"]);
}

#[test]
fn a_finished_stream_is_kept_until_the_peer_has_it() {
    let (mut half, state) = sending(false);
    state.lock().room = 9;
    half.write(chunks());
    half.finish();
    assert!(poll(&mut half).is_pending());
    assert_eq!(calls(&state), ["write abc", "write def", "finish"]);
    state.lock().closed = Some(Ok(()));
    assert_eq!(poll(&mut half), Poll::Ready(SendEnd::Finished));
    assert!(calls(&state).is_empty());
}

#[test]
fn stop_sending_is_noticed_while_writing_and_by_watched_streams_always() {
    for (closed, end, reset) in [
        (Err(Failed(Some(9))), SendEnd::Stopped(Code::new(9)), "reset 9"),
        (Err(Failed(None)), SendEnd::Broken, "reset 0"),
    ] {
        for (is_watched, is_writing) in [(true, false), (true, true), (false, true)] {
            let (mut half, state) = sending(is_watched);
            if is_writing {
                half.write(chunks());
            }
            assert!(poll(&mut half).is_pending());
            state.lock().closed = Some(closed);
            assert_eq!(poll(&mut half), Poll::Ready(end));
            assert_eq!(calls(&state), [reset]);
        }
    }
    // Some carriers report a code that is not one of WebTransport's like this.
    let (mut half, state) = sending(true);
    state.lock().closed = Some(Ok(()));
    assert_eq!(poll(&mut half), Poll::Ready(SendEnd::Stopped(Code::default())));
    assert_eq!(calls(&state), ["reset 0"]);

    let (mut half, state) = sending(false);
    state.lock().closed = Some(Err(Failed(Some(9))));
    assert!(poll(&mut half).is_pending(), "it has nothing to write");
}

#[test]
fn one_chunk_is_read_for_each_limit() {
    let (stream, state) = Mock::new();
    let mut half = RecvHalf::new(stream);
    state.lock().sent = [Ok(Some("abcdef".into())), Ok(None)].into();
    assert_eq!(read(&mut half, 4), Poll::Ready(Read::Chunk("abcd".into())));
    assert_eq!(read(&mut half, 4), Poll::Ready(Read::Chunk("ef".into())));
    assert_eq!(read(&mut half, 4), Poll::Ready(Read::Finished));
}

#[test]
fn a_read_that_waits_keeps_its_limit() {
    let (stream, state) = Mock::new();
    let mut half = RecvHalf::new(stream);
    assert!(read(&mut half, 4).is_pending());
    state.lock().sent = [Ok(Some("abcdef".into()))].into();
    assert_eq!(read(&mut half, 1), Poll::Ready(Read::Chunk("abcd".into())));
    assert_eq!(read(&mut half, 1), Poll::Ready(Read::Chunk("e".into())));
}

#[test]
fn a_read_is_stopped_and_reset_with_codes() {
    let (stream, state) = Mock::new();
    let mut half = RecvHalf::new(stream);
    assert!(read(&mut half, 4).is_pending());
    half.stop(Code::new(5));
    assert_eq!(calls(&state), ["stop 5"]);
    let (stream, state) = Mock::new();
    RecvHalf::new(stream).stop(Code::MAX);
    assert_eq!(calls(&state), [format!("stop {}", u32::MAX)]);

    for (error, end) in [(Failed(Some(3)), Read::Reset(Code::new(3))), (Failed(None), Read::Broken)]
    {
        let (stream, state) = Mock::new();
        let mut half = RecvHalf::new(stream);
        state.lock().sent = [Err(error)].into();
        assert_eq!(read(&mut half, 4), Poll::Ready(end));
    }
}
