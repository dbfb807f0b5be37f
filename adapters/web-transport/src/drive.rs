//! The loop between one session of a carrier and one [`Driver`].
//!
//! Each source of events has a waker of its own, which puts its key on a ready list and wakes the task. A round polls
//! the sources on the list and no others.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use smoq::machine::{Action, Input, NetworkPath};
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{CloseReason, Driver, Error, Instant};
use web_transport_trait::{Error as _, Session, Stats};

use crate::future::{BoxFuture, Source, boxed};
use crate::halves::{Chunks, Read, RecvHalf, SendEnd, SendHalf, carrier_code};
use crate::streams::{FIRST_STREAM, Half, Streams};
use crate::timer::{Alarm, Timer};
use crate::{CLOSE_TIMEOUT, PENDING_GROUPS, PENDING_WRITE};

/// The budget of one round for each of reading, working and writing: one per item and one per KiB.
const ROUND: usize = 256;
/// Rounds before the task yields.
const ROUNDS: usize = 4;
/// Carriers ask the system for the state of the path, so they are not asked in each driving.
const PATH_INTERVAL: Duration = Duration::from_millis(50);

/// When a carrier that refused to open a stream is asked again, while there is something to open. Browsers do not wait for
/// the peer to allow another stream, nor do they tell when it does.
const REFUSAL: Duration = Duration::from_millis(50);

/// How long a clean close waits after the last acknowledgement: one round trip, between these.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(250);

const ACCEPT_UNI: usize = 0;
const ACCEPT_BI: usize = 1;
const OPEN_UNI: usize = 2;
const OPEN_BI: usize = 3;
const LOST: usize = 4;
const DATAGRAM: usize = 5;

type Bi<S> = (<S as Session>::SendStream, <S as Session>::RecvStream);

/// Drives the session to its end. `Ok` is a close without an error, by either side.
pub(crate) async fn drive<S: Session, T: Timer>(
    carrier: S,
    driver: Driver,
    alarm: Alarm<T>,
    side: Side,
) -> Result<(), Error> {
    let mut driving = DriveLoop::new(carrier, driver, alarm, side);
    driving.follow_path(driving.alarm.now());
    for key in [ACCEPT_UNI, ACCEPT_BI, LOST, DATAGRAM] {
        driving.wakers[key].wake_by_ref();
    }
    if let End::Close { code, reason } = poll_fn(|cx| driving.poll(cx)).await {
        driving.close(code, reason).await;
    }
    driving.driver.close_reason().map_or(Ok(()), CloseReason::into_result)
}

/// The work that is left after the session.
enum End {
    /// To close the session of the carrier.
    Close { code: Code, reason: &'static str },
    /// Nothing: it is lost.
    Lost,
}

/// The state of the carrier's session.
enum Lost {
    /// It is open as far as anybody knows.
    Watched,
    /// It is lost, but what was received before that has not been read completely.
    Reading(Error),
    /// It is lost, and the driver knows.
    Reported,
}

/// The rest of the budget for one kind of work in one round.
struct Budget(usize);

impl Budget {
    fn new() -> Self {
        Self(ROUND)
    }

    fn is_left(&self) -> bool {
        self.0 > 0
    }

    fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(1 + (bytes >> 10));
    }

    fn was_used(&self) -> bool {
        self.0 < ROUND
    }
}

/// The state of the loop.
struct DriveLoop<S: Session, T: Timer> {
    // Dropped first: after this no stream looks finished.
    streams: Streams,
    carrier: S,
    wakers: [Waker; FIRST_STREAM],
    accept_uni: Source<Result<S::RecvStream, S::Error>>,
    accept_bi: Source<Result<Bi<S>, S::Error>>,
    open_uni: Source<Result<S::SendStream, S::Error>>,
    open_bi: Source<Result<Bi<S>, S::Error>>,
    datagrams: Source<Result<Bytes, S::Error>>,
    closed: Option<BoxFuture<S::Error>>,
    lost: Lost,
    driver: Driver,
    alarm: Alarm<T>,
    /// Unidirectional streams with a write that is not over.
    pending_groups: usize,
    /// Those that wait until there are fewer.
    denied: Vec<StreamId>,
    /// When to look at the path again.
    next_path: Instant,
    /// When to open streams again that the carrier refused.
    next_open: Option<Instant>,
}

/// A [`Source`] of what a method of the carrier returns, `until` it returns an error or until the session ends.
macro_rules! source {
    ($carrier:expr, $method:ident, until_error: $until_error:literal) => {{
        let carrier = $carrier.clone();
        Source::new(move |slot| async move {
            loop {
                slot.wanted().await;
                let result = carrier.$method().await;
                let is_over = $until_error && result.is_err();
                slot.put(result);
                if is_over {
                    return;
                }
            }
        })
    }};
}

impl<S: Session, T: Timer> DriveLoop<S, T> {
    fn new(carrier: S, driver: Driver, alarm: Alarm<T>, side: Side) -> Self {
        let streams = Streams::new(side);
        let closed = carrier.clone();
        Self {
            wakers: std::array::from_fn(|key| streams.ready.waker(key as u64)),
            accept_uni: source!(carrier, accept_uni, until_error: true),
            accept_bi: source!(carrier, accept_bi, until_error: true),
            open_uni: source!(carrier, open_uni, until_error: false),
            open_bi: source!(carrier, open_bi, until_error: false),
            datagrams: source!(carrier, recv_datagram, until_error: true),
            closed: Some(boxed(async move { closed.closed().await })),
            lost: Lost::Watched,
            streams,
            carrier,
            driver,
            alarm,
            pending_groups: 0,
            denied: Vec::new(),
            next_path: Instant::ZERO,
            next_open: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut silent = 0;
        for _ in 0..ROUNDS {
            let now = self.alarm.now();
            // All inputs come before the first write. Otherwise streams would be written in the order in
            // which they woke up, and not by priority.
            let mut is_busy = self.read(now);
            is_busy |= self.work(now);
            while let Some(action) = self.driver.poll_action() {
                is_busy = true;
                if let Action::Close { code, reason } = action {
                    // Informs the handles: the driver does not run after this.
                    while self.driver.work(now) {}
                    return Poll::Ready(End::Close { code, reason });
                }
                self.act(action);
            }
            is_busy |= self.open(now);
            is_busy |= self.send_datagrams();
            is_busy |= self.write(now);
            if is_busy && now >= self.next_path {
                self.follow_path(now);
            }
            // A call that yields nothing may clean up, and so enable another one.
            silent = if is_busy { 0 } else { silent + 1 };
            if is_busy || (silent < 3 && self.driver.has_work()) {
                continue;
            }
            // After all inputs: a stall of this process must not be taken for one of the peer.
            if self.driver.end_turn(now, false) {
                continue;
            }
            match &self.lost {
                Lost::Watched => {}
                Lost::Reading(error) => {
                    self.driver.handle(now, Input::Closed { error: error.clone() });
                    self.lost = Lost::Reported;
                    continue;
                }
                Lost::Reported => return Poll::Ready(End::Lost),
            }
            let deadlines =
                [self.driver.poll_timeout(), self.streams.next_broken(), self.next_open];
            if self.alarm.poll(deadlines.into_iter().flatten().min(), cx).is_pending()
                && self.driver.poll_wake(cx).is_pending()
                && self.streams.ready.poll_ready(cx).is_pending()
            {
                return Poll::Pending;
            }
        }
        // Deadlines count for a session that is always busy as well.
        self.driver.end_turn(self.alarm.now(), true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// Passes everything that is ready to the driver.
    fn read(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        if self.next_open.take_if(|at| *at <= now).is_some() {
            self.wakers[OPEN_UNI].wake_by_ref();
            self.wakers[OPEN_BI].wake_by_ref();
        }
        while budget.is_left() {
            let Some(key) = self.streams.ready.pop() else { break };
            budget.spend(0);
            match key as usize {
                key @ (ACCEPT_UNI | ACCEPT_BI) => self.accept(key, now, &mut budget),
                OPEN_UNI => self.driver.handle(now, Input::Available { dir: Dir::Uni }),
                OPEN_BI => self.driver.handle(now, Input::Available { dir: Dir::Bi }),
                LOST => self.notice_loss(),
                DATAGRAM => self.read_datagrams(now, &mut budget),
                key => {
                    self.send_stream(key, now);
                    self.read_stream(key, now, &mut budget);
                }
            }
        }
        self.give_up_broken(now);
        budget.was_used()
    }

    fn accept(&mut self, key: usize, now: Instant, budget: &mut Budget) {
        loop {
            let cx = &mut Context::from_waker(&self.wakers[key]);
            if !budget.is_left() {
                return self.wakers[key].wake_by_ref();
            }
            // An error here is the end of the session, which `closed` reports.
            let (send, recv) = if key == ACCEPT_UNI {
                let Poll::Ready(Ok(recv)) = self.accept_uni.poll(cx) else { return };
                (None, recv)
            } else {
                let Poll::Ready(Ok((send, recv))) = self.accept_bi.poll(cx) else { return };
                (Some(SendHalf::new(send, self.streams.is_watched(Dir::Bi))), recv)
            };
            budget.spend(0);
            let id = self.streams.insert(true, send, Some(RecvHalf::new(recv)));
            self.driver.handle(now, Input::Opened { id });
        }
    }

    fn read_datagrams(&mut self, now: Instant, budget: &mut Budget) {
        let waker = &self.wakers[DATAGRAM];
        let cx = &mut Context::from_waker(waker);
        loop {
            if !budget.is_left() {
                return waker.wake_by_ref();
            }
            // An error here is the end of the session, which `closed` reports, or the carrier has no datagrams.
            let Poll::Ready(Ok(bytes)) = self.datagrams.poll(cx) else { return };
            budget.spend(bytes.len());
            self.driver.handle(now, Input::Datagram { bytes });
        }
    }

    fn notice_loss(&mut self) {
        let Some(closed) = &mut self.closed else { return };
        let cx = &mut Context::from_waker(&self.wakers[LOST]);
        let Poll::Ready(error) = closed.as_mut().poll(cx) else { return };
        self.closed = None;
        let code = error.session_error().map(|(code, _)| Code::from(code));
        let error = code.map_or(Error::Disconnected, Error::from_session_code);
        self.lost = Lost::Reading(error);
        // Bytes that arrived before wake nobody any more.
        self.streams.wake_all();
        for key in [ACCEPT_UNI, ACCEPT_BI, DATAGRAM] {
            self.wakers[key].wake_by_ref();
        }
    }

    /// Goes on with a write that was pending, and notices STOP_SENDING.
    fn send_stream(&mut self, key: usize, now: Instant) {
        let Some((stream, waker)) = self.streams.by_key(key) else { return };
        let id = stream.id;
        let Some(send) = &mut stream.send else { return };
        let end = send.poll(&mut Context::from_waker(waker));
        if stream.is_blocked && (end.is_ready() || !send.is_writing()) {
            stream.is_blocked = false;
            self.write_is_over(now, id);
        }
        if let Poll::Ready(end) = end {
            self.sending_ended(now, id, end);
        }
    }

    fn write_is_over(&mut self, now: Instant, id: StreamId) {
        self.driver.handle(now, Input::Writable { id });
        if id.dir() == Dir::Uni {
            self.pending_groups -= 1;
            for id in self.denied.drain(..) {
                self.driver.handle(now, Input::Writable { id });
            }
        }
    }

    fn sending_ended(&mut self, now: Instant, id: StreamId, end: SendEnd) {
        let Some((stream, _)) = self.streams.by_id(id) else { return };
        stream.send = None;
        let is_finished = stream.is_finished;
        self.streams.forget_done(id);
        match end {
            _ if is_finished => {}
            SendEnd::Stopped(code) => self.driver.handle(now, Input::Stopped { id, code }),
            SendEnd::Broken => self.streams.broke(now, id, Half::Send),
            SendEnd::Finished | SendEnd::Reset => {}
        }
    }

    fn read_stream(&mut self, key: usize, now: Instant, budget: &mut Budget) {
        let Some((stream, waker)) = self.streams.by_key(key) else { return };
        let id = stream.id;
        let cx = &mut Context::from_waker(waker);
        while let Some(recv) = &mut stream.recv {
            if !budget.is_left() {
                waker.wake_by_ref();
                break;
            }
            // At 0 the stream is parked until `Action::Resume`.
            let limit = self.driver.read_limit(id);
            if limit == 0 {
                break;
            }
            if stream.held.is_empty() {
                let Poll::Ready(read) = recv.poll_read(limit, cx) else { break };
                if let Read::Chunk(bytes) = read {
                    stream.held = bytes;
                } else {
                    stream.recv = None;
                    match read {
                        Read::Reset(code) => self.driver.handle(now, Input::Reset { id, code }),
                        Read::Broken => {
                            self.streams.broke(now, id, Half::Recv);
                            break;
                        }
                        _ => {
                            let bytes = Bytes::new();
                            self.driver.handle(now, Input::Data { id, bytes, fin: true });
                        }
                    }
                    break;
                }
            }
            // A read that was pending may bring more than the limit allows now.
            let bytes = stream.held.split_to(limit.min(stream.held.len()));
            budget.spend(bytes.len());
            self.driver.handle(now, Input::Data { id, bytes, fin: false });
        }
        self.streams.forget_done(id);
    }

    /// Reports halves that failed without a code, although the session goes on.
    fn give_up_broken(&mut self, now: Instant) {
        if !matches!(self.lost, Lost::Watched) {
            return;
        }
        while let Some((id, half)) = self.streams.pop_broken(now) {
            let code = Code::default();
            self.driver.handle(
                now,
                match half {
                    Half::Send => Input::Stopped { id, code },
                    Half::Recv => Input::Reset { id, code },
                },
            );
        }
    }

    fn work(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() && self.driver.work(now) {
            budget.spend(0);
        }
        budget.was_used()
    }

    // ---- outputs -----------------------------------------------------------------------------

    fn act(&mut self, action: Action) {
        match action {
            Action::Reset { id, code } => {
                let stream = self.streams.by_id(id).map(|(stream, _)| stream);
                if stream.is_some_and(|stream| std::mem::take(&mut stream.is_blocked)) {
                    self.write_is_over(self.alarm.now(), id);
                }
                self.streams.reset(id, code);
            }
            Action::Stop { id, code } => {
                let Some((stream, _)) = self.streams.by_id(id) else { return };
                if let Some(recv) = stream.recv.take() {
                    recv.stop(code);
                }
                self.streams.forget_done(id);
            }
            Action::SetPriority { id, priority } => {
                let Some((stream, waker)) = self.streams.by_id(id) else { return };
                if let Some(send) = &stream.send {
                    send.set_priority(priority);
                    waker.wake_by_ref();
                }
            }
            Action::Resume { id } => {
                if let Some((_, waker)) = self.streams.by_id(id) {
                    waker.wake_by_ref();
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(open) = self.driver.poll_open() else { break };
            budget.spend(0);
            let dir = open.dir();
            let is_watched = self.streams.is_watched(dir);
            let halves = match dir {
                Dir::Uni => {
                    let cx = &mut Context::from_waker(&self.wakers[OPEN_UNI]);
                    self.open_uni.poll(cx).map_ok(|send| (SendHalf::new(send, is_watched), None))
                }
                Dir::Bi => {
                    let cx = &mut Context::from_waker(&self.wakers[OPEN_BI]);
                    self.open_bi.poll(cx).map_ok(|(send, recv)| {
                        (SendHalf::new(send, is_watched), Some(RecvHalf::new(recv)))
                    })
                }
            };
            match halves {
                Poll::Ready(Ok((send, recv))) => {
                    send.set_priority(open.priority());
                    open.opened(self.streams.insert(false, Some(send), recv));
                }
                Poll::Pending => open.blocked(),
                // There is no credit, or the session is lost, which `closed` reports.
                Poll::Ready(Err(_)) => {
                    open.blocked();
                    self.next_open.get_or_insert(now + REFUSAL);
                }
            }
        }
        budget.was_used()
    }

    fn send_datagrams(&mut self) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(datagram) = self.driver.poll_datagram() else { break };
            budget.spend(datagram.size());
            let bytes = datagram.to_bytes();
            datagram.sent();
            if self.carrier.send_datagram(bytes).is_err() {
                // The path takes less than before. The datagram is lost, as it may be anywhere on its way.
                self.follow_path(self.alarm.now());
            }
        }
        budget.was_used()
    }

    fn write(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(mut write) = self.driver.poll_write() else { break };
            let (id, len, fin) = (write.id(), write.len(), write.fin());
            let is_group = id.dir() == Dir::Uni;
            budget.spend(0);
            let Some((stream, waker)) = self.streams.by_id(id) else {
                write.blocked(0);
                continue;
            };
            let Some(send) = stream.send.as_mut().filter(|send| !send.is_writing()) else {
                write.blocked(0);
                continue;
            };
            if is_group && len > 0 && self.pending_groups == PENDING_GROUPS {
                self.denied.push(id);
                write.blocked(0);
                continue;
            }
            let (chunks, taken) = take(write.chunks());
            budget.spend(taken);
            send.write(chunks);
            let cx = &mut Context::from_waker(waker);
            let mut end = send.poll(cx);
            if end.is_pending() && send.is_writing() {
                // FIN is offered again when the write is over, so that this stream counts as long as it waits.
                stream.is_blocked = true;
                self.pending_groups += usize::from(is_group);
                write.blocked(taken);
                continue;
            }
            if end.is_pending() && fin && taken == len {
                stream.is_finished = true;
                send.finish();
                end = send.poll(cx);
            }
            if end.is_pending() || stream.is_finished {
                write.accepted(taken);
            } else {
                drop(write);
            }
            if let Poll::Ready(end) = end {
                self.sending_ended(now, id, end);
            }
        }
        budget.was_used()
    }

    /// Reports the path to the driver.
    fn follow_path(&mut self, now: Instant) {
        self.next_path = now + PATH_INTERVAL;
        let stats = self.carrier.stats();
        let (rtt, bitrate) = (stats.rtt(), stats.estimated_send_rate());
        let max_datagram = self.carrier.max_datagram_size();
        let path = NetworkPath { rtt, bitrate, max_datagram };
        drop(stats);
        self.driver.handle(now, Input::NetworkPath(path));
    }

    /// Closes the session of the carrier, after the peer has everything that was finished. Nothing is dropped before the
    /// carrier has closed, because it would finish what is open.
    async fn close(&mut self, code: Code, reason: &str) {
        if code == Code::default() {
            self.until_closed(CLOSE_TIMEOUT, Streams::poll_flushed).await;
            // No carrier tells when the bytes of an open stream have arrived, and `qmux` gives up what it is writing
            // when it is closed, even the close.
            let pause = self.carrier.stats().rtt().unwrap_or_default();
            self.until_closed(pause.clamp(MIN_PAUSE, MAX_PAUSE), |_, _| Poll::Pending).await;
        }
        if self.closed.is_some() {
            self.carrier.close(carrier_code(code), reason);
            self.until_closed(CLOSE_TIMEOUT, |_, _| Poll::Pending).await;
            self.closed = None;
            // `qmux` counts as closed before its task has sent the close, and the process may end after this.
            let until = self.alarm.now() + MIN_PAUSE;
            poll_fn(|cx| self.alarm.poll(Some(until), cx)).await;
        }
    }

    /// Waits until the carrier is closed, `is_done` is ready, or so much time has passed.
    async fn until_closed(
        &mut self,
        timeout: Duration,
        mut is_done: impl FnMut(&mut Streams, &mut Context<'_>) -> Poll<()>,
    ) {
        let until = self.alarm.now() + timeout;
        poll_fn(|cx| {
            let Some(closed) = &mut self.closed else { return Poll::Ready(()) };
            if closed.as_mut().poll(cx).is_ready() {
                self.closed = None;
                return Poll::Ready(());
            }
            match is_done(&mut self.streams, cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => self.alarm.poll(Some(until), cx),
            }
        })
        .await;
    }
}

/// The first bytes of `chunks`, as many as may be in one write.
fn take(chunks: &mut [Bytes]) -> (Chunks, usize) {
    let (mut taken, mut size) = (Chunks::new(), 0);
    for chunk in chunks {
        let part = chunk.split_to(chunk.len().min(PENDING_WRITE - size));
        size += part.len();
        if !part.is_empty() {
            taken.push(part);
        }
        if size == PENDING_WRITE {
            break;
        }
    }
    (taken, size)
}

impl<S: Session, T: Timer> Drop for DriveLoop<S, T> {
    fn drop(&mut self) {
        if self.closed.is_some() {
            self.carrier.close(carrier_code(Error::SessionClosed.session_code()), "");
        }
    }
}
