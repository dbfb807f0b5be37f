//! The loop between one quinn connection and one [`Driver`].
//!
//! Each source of events in quinn has a waker of its own, which puts its key on a ready list and wakes the
//! task. A round polls the sources on the list and no others. Futures that must not be dropped while they wait
//! (accepting, opening, the end of the connection) are pinned in the driving future.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use quinn::{
    AcceptBi, AcceptUni, ConnectionError, OpenBi, OpenUni, ReadDatagram, ReadError, SendDatagram,
    VarInt, WriteError,
};
use smoq::machine::{Action, Input, NetworkPath};
use smoq::stream::{Code, Dir, StreamId};
use smoq::{Clock, CloseReason, Driver, Error, Instant};
use smoq_quic::http3::Event;
use smoq_quic::{
    CAPSULE_TIMEOUT, Carrier, FLUSH_TIMEOUT, LINGER_TIMEOUT, SendWindow, Sent, log,
    quic_stream_code, stream_code,
};

use crate::streams::{FIRST_STREAM, Stream, Streams};

/// The budget of one round for each of reading, working and writing: one per item and one per KiB.
const ROUND: usize = 256;
/// Rounds before the task yields.
const ROUNDS: usize = 4;

pub(crate) const ACCEPT_UNI: usize = 0;
pub(crate) const ACCEPT_BI: usize = 1;
pub(crate) const OPEN_UNI: usize = 2;
pub(crate) const OPEN_BI: usize = 3;
pub(crate) const LOST: usize = 4;
const READ_DATAGRAM: usize = 5;
const SEND_DATAGRAM: usize = 6;

/// Drives the session to its end. `Ok` is a close without an error, by either side.
pub(crate) async fn drive(
    streams: Streams,
    driver: Driver,
    clock: Clock,
    runtime: Arc<dyn quinn::Runtime>,
) -> Result<(), Error> {
    let connection = streams.connection.clone();
    let wakers = std::array::from_fn(|key| streams.ready.waker(key as u64));
    let mut driving = DriveLoop {
        connection: &connection,
        wakers,
        accept_uni: pin!(connection.accept_uni()),
        accept_bi: pin!(connection.accept_bi()),
        open_uni: pin!(connection.open_uni()),
        open_bi: pin!(connection.open_bi()),
        lost: Lost::Watched(pin!(connection.closed())),
        read_datagram: pin!(connection.read_datagram()),
        send_datagram: None,
        streams,
        driver,
        timer: Timer { clock, runtime, deadline: None, timer: None },
        send_window: SendWindow::default(),
    };
    let now = driving.timer.now();
    driving.follow_path(now);
    // Streams that came before the session.
    driving.follow_http(now);
    for key in [ACCEPT_UNI, ACCEPT_BI, LOST, READ_DATAGRAM] {
        driving.wakers[key].wake_by_ref();
    }
    if let End::Close { code, reason } = poll_fn(|cx| driving.poll(cx)).await {
        driving.flush(code, reason).await;
        driving.streams.close(code, reason.as_bytes());
    }
    driving.driver.close_reason().map_or(Ok(()), CloseReason::into_result)
}

/// The work that is left after the session.
enum End {
    /// To close the connection.
    Close { code: Code, reason: &'static str },
    /// Nothing: it is lost.
    Lost,
}

/// The state of the connection.
enum Lost<'a> {
    /// It is open as far as anybody knows.
    Watched(Pin<&'a mut (dyn Future<Output = ConnectionError> + Send + 'a)>),
    /// It is lost, or the peer ended the session, but what was received before that has not been read completely.
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

struct Timer {
    clock: Clock,
    runtime: Arc<dyn quinn::Runtime>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<dyn quinn::AsyncTimer>>>,
}

impl Timer {
    fn now(&self) -> Instant {
        self.clock.instant(self.runtime.now())
    }

    /// Ready when `deadline` has passed.
    fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = deadline else { return Poll::Pending };
        if self.deadline.replace(at) != deadline {
            // A time that the system can't represent is too far away to wait for.
            let Some(at) = self.clock.deadline(at) else { return Poll::Pending };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                none => *none = Some(self.runtime.new_timer(at)),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        // A timer that fired has to be reset, even to the same time.
        self.deadline = None;
        Poll::Ready(())
    }
}

/// The state of the loop. `'p` is the lifetime of the pinned futures, `'c` that of the connection they borrow.
struct DriveLoop<'p, 'c> {
    connection: &'c quinn::Connection,
    wakers: [Waker; FIRST_STREAM],
    accept_uni: Pin<&'p mut AcceptUni<'c>>,
    accept_bi: Pin<&'p mut AcceptBi<'c>>,
    open_uni: Pin<&'p mut OpenUni<'c>>,
    open_bi: Pin<&'p mut OpenBi<'c>>,
    lost: Lost<'p>,
    read_datagram: Pin<&'p mut ReadDatagram<'c>>,
    /// A datagram that waits for room in quinn. All later ones wait for it.
    send_datagram: Option<Pin<Box<SendDatagram<'c>>>>,
    streams: Streams,
    driver: Driver,
    timer: Timer,
    send_window: SendWindow,
}

impl DriveLoop<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut silent = 0;
        for _ in 0..ROUNDS {
            let now = self.timer.now();
            self.streams.look_for_stops(now);
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
                Lost::Watched(_) => {}
                Lost::Reading(error) => {
                    self.driver.handle(now, Input::Closed { error: error.clone() });
                    self.lost = Lost::Reported;
                    continue;
                }
                Lost::Reported => return Poll::Ready(End::Lost),
            }
            let deadlines = [self.driver.poll_timeout(), self.streams.next_look()];
            if self.timer.poll(deadlines.into_iter().flatten().min(), cx).is_pending()
                && self.driver.poll_wake(cx).is_pending()
                && self.streams.ready.poll_ready(cx).is_pending()
            {
                return Poll::Pending;
            }
        }
        // Deadlines count for a session that is always busy as well.
        self.driver.end_turn(self.timer.now(), true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes everything that is ready to the driver.
    fn read(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(key) = self.streams.ready.pop() else { break };
            budget.spend(0);
            match key as usize {
                key @ (ACCEPT_UNI | ACCEPT_BI) => self.accept(key, now, &mut budget),
                OPEN_UNI => self.driver.handle(now, Input::Available { dir: Dir::Uni }),
                OPEN_BI => self.driver.handle(now, Input::Available { dir: Dir::Bi }),
                LOST => self.notice_loss(),
                READ_DATAGRAM => self.read_datagrams(now, &mut budget),
                SEND_DATAGRAM => self.push_datagram(),
                key => self.read_stream(key, now, &mut budget),
            }
        }
        budget.was_used()
    }

    fn accept(&mut self, key: usize, now: Instant, budget: &mut Budget) {
        let waker = &self.wakers[key];
        let cx = &mut Context::from_waker(waker);
        loop {
            if !budget.is_left() {
                waker.wake_by_ref();
                return;
            }
            // An error here is the end of the connection, which `lost` reports.
            let stream = if key == ACCEPT_UNI {
                let Poll::Ready(Ok(recv)) = self.accept_uni.as_mut().poll(cx) else { return };
                self.accept_uni.set(self.connection.accept_uni());
                Stream::incoming_uni(recv)
            } else {
                let Poll::Ready(Ok(halves)) = self.accept_bi.as_mut().poll(cx) else { return };
                self.accept_bi.set(self.connection.accept_bi());
                Stream::incoming_bi(halves)
            };
            budget.spend(0);
            let id = self.streams.insert(stream, now);
            match &mut self.streams.http {
                Some(http) => http.opened(id),
                None => self.driver.handle(now, Input::Opened { id }),
            }
        }
    }

    fn read_datagrams(&mut self, now: Instant, budget: &mut Budget) {
        let waker = &self.wakers[READ_DATAGRAM];
        let cx = &mut Context::from_waker(waker);
        loop {
            if !budget.is_left() {
                waker.wake_by_ref();
                break;
            }
            // An error here is the end of the connection, which `lost` reports.
            let Poll::Ready(Ok(bytes)) = self.read_datagram.as_mut().poll(cx) else { break };
            self.read_datagram.set(self.connection.read_datagram());
            budget.spend(bytes.len());
            let bytes = match &mut self.streams.http {
                Some(http) => http.datagram(bytes),
                None => Some(bytes),
            };
            if let Some(bytes) = bytes {
                self.driver.handle(now, Input::Datagram { bytes });
            }
        }
        // One may have been malformed.
        self.follow_http(now);
    }

    fn notice_loss(&mut self) {
        let Lost::Watched(lost) = &mut self.lost else { return };
        let cx = &mut Context::from_waker(&self.wakers[LOST]);
        if let Poll::Ready(error) = lost.as_mut().poll(cx) {
            log::lost(self.connection.stable_id() as u64, &error);
            self.lost = Lost::Reading(self.streams.carrier().session_error(&error));
        }
    }

    /// Handles the actions and events of HTTP/3.
    fn follow_http(&mut self, now: Instant) {
        // Nothing is opened after the handshake.
        let _ = self.streams.act_on_http();
        while let Some(event) = self.streams.http.as_mut().and_then(|http| http.poll_event()) {
            match event {
                Event::Stream { id } => {
                    if let Some((_, waker)) = self.streams.by_id(id) {
                        waker.wake_by_ref();
                        self.driver.handle(now, Input::Opened { id });
                    }
                }
                Event::Closed { error } => self.lose(error),
                Event::Failed(error) => {
                    let code = smoq_quic::quic_code(error.code());
                    self.connection.close(code, error.to_string().as_bytes());
                    self.lose(Error::Disconnected);
                }
                // MoQ has GOAWAY for this.
                _ => {}
            }
        }
    }

    /// HTTP/3 is over. Its reason is better than that of the connection.
    fn lose(&mut self, error: Error) {
        if !matches!(self.lost, Lost::Reported) {
            self.lost = Lost::Reading(error);
        }
    }

    fn read_stream(&mut self, key: usize, now: Instant, budget: &mut Budget) {
        if self.streams.read_http(key) {
            return self.follow_http(now);
        }
        let Some((stream, waker)) = self.streams.by_key(key) else { return };
        let id = stream.id;
        let cx = &mut Context::from_waker(waker);
        if std::mem::take(&mut stream.is_blocked) {
            self.driver.handle(now, Input::Writable { id });
        }
        while let Some(recv) = &mut stream.recv {
            if !budget.is_left() {
                waker.wake_by_ref();
                break;
            }
            let limit = self.driver.read_limit(id);
            if limit == 0 {
                // Parked until `Action::Resume`, which also finds a reset. `received_reset` would keep a
                // waker in quinn for every stream that is read to its end afterwards.
                break;
            }
            let Poll::Ready(read) = pin!(recv.read_chunk(limit, true)).poll(cx) else { break };
            let input = match read {
                Ok(Some(chunk)) => Input::Data { id, bytes: chunk.bytes, fin: false },
                Ok(None) => Input::Data { id, bytes: Bytes::new(), fin: true },
                Err(ReadError::Reset(code)) => Input::Reset { id, code: stream_code(code) },
                Err(_) => break,
            };
            if let Input::Data { bytes, fin: false, .. } = &input {
                budget.spend(bytes.len());
            } else {
                // A peer that gives up a request may end both directions at once.
                (stream.recv, stream.is_doubtful) = (None, true);
            }
            self.driver.handle(now, input);
        }
        if let Some(code) = stream.poll_stopped(cx) {
            self.stopped(now, id, code);
        }
        self.streams.forget_done(id);
    }

    /// The peer sent STOP_SENDING.
    fn stopped(&mut self, now: Instant, id: StreamId, code: VarInt) {
        self.streams.reset(id, code);
        self.driver.handle(now, Input::Stopped { id, code: stream_code(code) });
    }

    fn work(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() && self.driver.work(now) {
            budget.spend(0);
        }
        budget.was_used()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reset { id, code } => self.streams.reset(id, quic_stream_code(code)),
            Action::Stop { id, code } => {
                let recv = self.streams.by_id(id).and_then(|(stream, _)| stream.recv.take());
                // It fails if the peer has ended the stream already.
                let _ = recv.map(|mut recv| recv.stop(quic_stream_code(code)));
                self.streams.forget_done(id);
            }
            Action::SetPriority { id, priority } => {
                let send = self.streams.by_id(id).and_then(|(stream, _)| stream.send.as_ref());
                // It fails if the stream was stopped, which the next write reports.
                let _ = send.map(|send| send.set_priority(priority));
            }
            Action::Resume { id } => {
                if let Some((_, waker)) = self.streams.by_id(id) {
                    waker.wake_by_ref();
                }
            }
            // A close has ended the loop. There are no other actions.
            _ => {}
        }
    }

    fn open(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(open) = self.driver.poll_open() else { break };
            budget.spend(0);
            let stream = match open.dir() {
                Dir::Uni => {
                    let cx = &mut Context::from_waker(&self.wakers[OPEN_UNI]);
                    self.open_uni.as_mut().poll(cx).map_ok(Stream::uni)
                }
                Dir::Bi => {
                    let cx = &mut Context::from_waker(&self.wakers[OPEN_BI]);
                    self.open_bi.as_mut().poll(cx).map_ok(Stream::bi)
                }
            };
            match stream {
                Poll::Ready(Ok(stream)) => {
                    match open.dir() {
                        Dir::Uni => self.open_uni.set(self.connection.open_uni()),
                        Dir::Bi => self.open_bi.set(self.connection.open_bi()),
                    }
                    if let Some(send) = &stream.send {
                        // A new stream can't have been stopped.
                        let _ = send.set_priority(open.priority());
                    }
                    let stream = match &self.streams.http {
                        Some(http) => stream.with_head(http.stream_head(open.dir()).clone()),
                        None => stream,
                    };
                    open.opened(self.streams.insert(stream, now));
                }
                // There is no credit, or the connection is lost, which `lost` reports.
                _ => open.blocked(),
            }
        }
        budget.was_used()
    }

    fn send_datagrams(&mut self) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() && self.send_datagram.is_none() {
            let Some(datagram) = self.driver.poll_datagram() else { break };
            budget.spend(datagram.size());
            let bytes = match self.streams.datagram_head() {
                Some(head) => [head, datagram.header(), &datagram.payload()[..]].concat().into(),
                None => datagram.to_bytes(),
            };
            datagram.sent();
            if self.connection.datagram_send_buffer_space() < bytes.len() {
                self.send_datagram = Some(Box::pin(self.connection.send_datagram_wait(bytes)));
                self.push_datagram();
            } else if self.connection.send_datagram(bytes).is_err() {
                // The path takes less than before. The datagram is lost, as it may be anywhere on its way.
                self.follow_path(self.timer.now());
            }
        }
        budget.was_used()
    }

    /// Sends the datagram that waits, if there is room for it now.
    fn push_datagram(&mut self) {
        let Some(waiting) = &mut self.send_datagram else { return };
        let cx = &mut Context::from_waker(&self.wakers[SEND_DATAGRAM]);
        if waiting.as_mut().poll(cx).is_ready() {
            self.send_datagram = None;
        }
    }

    fn write(&mut self, now: Instant) -> bool {
        let mut budget = Budget::new();
        while budget.is_left() {
            let Some(mut write) = self.driver.poll_write() else { break };
            let (id, len, fin) = (write.id(), write.len(), write.fin());
            budget.spend(len);
            let Some((stream, waker)) = self.streams.by_id(id) else {
                write.blocked(0);
                continue;
            };
            let cx = &mut Context::from_waker(waker);
            match stream.poll_write(write.chunks(), len, cx) {
                Poll::Ready(Ok(n)) => {
                    write.accepted(n);
                    if n == len && fin {
                        if let Some(code) = self.streams.finish(id) {
                            self.driver.handle(now, Input::Stopped { id, code: stream_code(code) });
                        }
                    }
                }
                Poll::Ready(Err(WriteError::Stopped(code))) => {
                    drop(write);
                    self.stopped(now, id, code);
                }
                Poll::Ready(Err(_)) => write.blocked(0),
                Poll::Pending => {
                    stream.is_blocked = true;
                    write.blocked(0);
                }
            }
        }
        if budget.was_used() {
            self.follow_path(now);
        }
        budget.was_used()
    }

    /// Adapts the send window and reports the path to the driver.
    fn follow_path(&mut self, now: Instant) {
        let stats = self.connection.stats();
        let (rtt, congestion_window) = (stats.path.rtt, stats.path.cwnd);
        let (bytes, lost) = (stats.udp_tx.bytes, stats.path.lost_packets);
        let is_blocked = self.driver.is_blocked();
        let sent = Sent { bytes, congestion_window, rtt, lost, is_blocked };
        if let Some(window) = self.send_window.update(now, &sent) {
            self.connection.set_send_window(window);
        }
        let max_datagram = self.connection.max_datagram_size().unwrap_or(0);
        let max_datagram = self.streams.without_head(max_datagram);
        let path = NetworkPath::from_window(rtt, self.send_window.flight(&sent), max_datagram);
        self.driver.handle(now, Input::NetworkPath(path));
    }

    /// Waits until the peer has acknowledged everything, because a close discards what is in flight, and until it
    /// knows of the close on WebTransport.
    async fn flush(&mut self, code: Code, reason: &str) {
        let (runtime, streams) = (&self.timer.runtime, &mut self.streams);
        if code == Code::default() {
            within(FLUSH_TIMEOUT, runtime, streams.flushed()).await;
        }
        if streams.carrier() == Carrier::WebTransport {
            // Also to a peer that has not acknowledged the rest: it would not learn why the session is over.
            within(CAPSULE_TIMEOUT, runtime, streams.close_http(code, reason)).await;
            let closed = async { drop(self.connection.closed().await) };
            within(LINGER_TIMEOUT, runtime, closed).await;
        }
    }
}

/// Waits for a future, but not longer than that.
async fn within(
    time: Duration,
    runtime: &Arc<dyn quinn::Runtime>,
    future: impl Future<Output = ()>,
) {
    let mut timer = runtime.new_timer(runtime.now() + time);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.as_mut().poll(cx),
    })
    .await;
}
