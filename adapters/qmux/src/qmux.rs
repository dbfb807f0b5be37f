//! The state machine of one session.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use smoq::machine::{Action, Input};
use smoq::stream::{Code, Side};
use smoq::{CloseReason, Driver, Error, Instant};

use crate::frame::{self, Frame, Frames, encode};
use crate::params;
use crate::streams::Streams;
use crate::violation::Violation;
use crate::{FLUSH_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE, RECORD_BYTES};

/// Items of each kind of work in one turn.
const PIECES: usize = 16;
/// Records that may wait until nothing is read any more. Bytes of streams fill one at most.
const RECORDS: usize = 4;

/// A session on a WebSocket: a [`Driver`], with the streams that it needs.
///
/// Pass it each message that arrives, call [`turn`](Self::turn), and send the records that it has. The table of the
/// [crate] has the calls.
pub struct Qmux {
    driver: Driver,
    pub(crate) streams: Streams,
    state: State,
    /// When the last record arrived.
    heard: Instant,
    /// Whether a ping was sent since then.
    is_pinged: bool,
    /// How many pings were sent: the sequence number of the next one.
    pings: u64,
    /// The number of the last ping that was answered, and one more.
    answered: u64,
}

#[derive(Debug)]
enum State {
    Open,
    /// This side closes without an error when the peer has answered the last ping, or at this time.
    Flushing(Instant, &'static str),
    /// The driver learns it when it has nothing else to do.
    Lost(Error),
    Over,
}

/// The result of one [`Qmux::turn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Items of work that were done.
    pub items: usize,
    /// There is more to do right away.
    pub again: bool,
}

impl Qmux {
    /// Begins a session. Its first record is there at once.
    pub fn new(side: Side, driver: Driver, now: Instant) -> Self {
        let mut streams = Streams::new(side);
        streams.push(&params::ours());
        Self {
            driver,
            streams,
            state: State::Open,
            heard: now,
            is_pinged: false,
            pings: 0,
            answered: 0,
        }
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// A binary message arrived: one record. A record that breaks a rule ends the session with
    /// [`Error::ProtocolViolation`], and the peer is told.
    pub fn receive(&mut self, now: Instant, record: Bytes) {
        (self.heard, self.is_pinged) = (now, false);
        let mut result = match record.len() {
            0..=RECORD_BYTES => Ok(()),
            _ => Err(Violation::RECORD),
        };
        let mut frames = Frames::new(record);
        while self.is_open() && result.is_ok() {
            let Some(frame) = frames.next() else { return };
            result = frame.and_then(|frame| self.frame(now, frame));
        }
        if let (Err(Violation { code, reason }), true) = (result, self.is_open()) {
            // The type of the frame is left out.
            self.close(&[frame::CONNECTION_CLOSE, code, 0], reason);
            self.lost(Error::ProtocolViolation(reason));
        }
    }

    /// The WebSocket is gone, or must not be used any more.
    pub fn lost(&mut self, error: Error) {
        if self.is_open() {
            self.state = State::Lost(error);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Flushing(..))
    }

    fn frame(&mut self, now: Instant, frame: Frame) -> Result<(), Violation> {
        let (streams, driver) = (&mut self.streams, &mut self.driver);
        if streams.is_set_up() == matches!(frame, Frame::Parameters(_)) {
            return Err(Violation::ORDER);
        }
        match frame {
            Frame::Parameters(peer) => streams.set_up(peer),
            Frame::Stream { id, bytes, fin } => streams.data(now, driver, (id, bytes, fin))?,
            Frame::Reset { id, code, size } => streams.was_reset(now, driver, (id, code, size))?,
            Frame::Stop { id, code } => streams.stopped(now, driver, id, code)?,
            Frame::MaxData { limit } => streams.data_allowed(limit),
            Frame::MaxStreamData { id, limit } => {
                streams.stream_data_allowed(now, driver, id, limit)?;
            }
            Frame::MaxStreams { dir, limit } => streams.streams_allowed(dir, limit),
            Frame::Close { code } => self.lost(Error::from_session_code(code)),
            Frame::Failed => self.lost(Error::Disconnected),
            Frame::Ping { sequence } => streams.push(&encode(&[frame::PING + 1, sequence])),
            Frame::Pong { sequence } if sequence >= self.pings => return Err(Violation::PING),
            Frame::Pong { sequence } => self.answered = self.answered.max(sequence + 1),
        }
        Ok(())
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// Does part of the work that is ready, at most a few dozen items. `more` says that messages were not read yet: then
    /// deadlines wait for them.
    pub fn turn(&mut self, now: Instant, more: bool) -> Turn {
        self.deadlines(now);
        if self.is_open() {
            self.streams.resume(now, &mut self.driver);
        }
        let worked = (0..PIECES).take_while(|_| self.driver.work(now)).count();
        let mut items = worked;
        while let Some(action) = self.driver.poll_action() {
            items += 1;
            self.act(now, action);
        }
        if self.is_open() {
            for _ in 0..PIECES {
                let Some(open) = self.driver.poll_open() else { break };
                items += 1;
                self.streams.open(open);
            }
            for _ in 0..PIECES {
                let Some(write) = self.driver.poll_write() else { break };
                items += 1;
                self.streams.write(write);
            }
        }
        let mut again = self.driver.end_turn(now, more || worked == PIECES);
        if let State::Lost(error) = &self.state {
            // What arrived before comes first.
            if items == 0 {
                self.driver.handle(now, Input::Closed { error: error.clone() });
                self.state = State::Over;
            }
            again = true;
        }
        again |= self.driver.has_work();
        Turn { items, again }
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Resume { id } => self.streams.read_on(now, &mut self.driver, id),
            _ if !self.is_open() => {}
            Action::Close { code, reason } if code == Code::default() => {
                self.ping();
                self.state = State::Flushing(now + FLUSH_TIMEOUT, reason);
            }
            Action::Close { code, reason } => {
                self.close(&[frame::APPLICATION_CLOSE, code.as_u64()], reason);
                self.state = State::Over;
            }
            Action::Reset { id, code } => self.streams.reset(id, code),
            Action::Stop { id, code } => self.streams.stop(id, code),
            // The driver offers writes in the order of their priorities.
            _ => {}
        }
    }

    fn deadlines(&mut self, now: Instant) {
        match self.state {
            State::Open if now >= self.heard + IDLE_TIMEOUT => self.lost(Error::Timeout),
            State::Open if now >= self.heard + KEEP_ALIVE && !self.is_pinged => self.ping(),
            State::Flushing(until, reason) if now >= until || self.answered == self.pings => {
                self.close(&[frame::APPLICATION_CLOSE, 0], reason);
                self.state = State::Over;
            }
            _ => {}
        }
    }

    fn ping(&mut self) {
        self.streams.push(&encode(&[frame::PING, self.pings]));
        self.pings += 1;
        self.is_pinged = true;
    }

    fn close(&mut self, head: &[u64], reason: &str) {
        let len = encode(&[reason.len() as u64]);
        self.streams.push(&[&encode(head)[..], &len, reason.as_bytes()].concat());
    }

    /// The next record: send it as one binary message, and call [`turn`](Self::turn) again.
    pub fn poll_record(&mut self) -> Option<Bytes> {
        self.streams.poll_record().map(Bytes::from)
    }

    /// Whether so many records wait that no message should be read before some of them are sent: a peer that does not
    /// read must not cause more.
    pub fn is_full(&self) -> bool {
        self.streams.records() >= RECORDS
    }

    /// Ends the session without an error, and waits for nothing: its last record is a close.
    pub fn abandon(&mut self) {
        if self.is_open() {
            self.close(&[frame::APPLICATION_CLOSE, 0], "");
            self.state = State::Over;
        }
    }

    /// When to call [`turn`](Self::turn) if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Open if self.is_pinged => Some(self.heard + IDLE_TIMEOUT),
            State::Open => Some(self.heard + KEEP_ALIVE),
            State::Flushing(until, _) => Some(until),
            State::Lost(_) | State::Over => None,
        };
        own.into_iter().chain(self.driver.poll_timeout()).min()
    }

    /// As [`Driver::poll_wake`]: ready when the application did something. Then call [`turn`](Self::turn).
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.driver.poll_wake(cx)
    }

    /// Why the session is over. Send the records that are left, and close the WebSocket.
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Flushing(..) => None,
            _ => self.driver.closed(),
        }
    }
}

impl fmt::Debug for Qmux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qmux").field("state", &self.state).finish_non_exhaustive()
    }
}
