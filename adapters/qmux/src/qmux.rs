//! The state machine of one session.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use smoq::machine::{Action, Input};
use smoq::stream::{Code, Side};
use smoq::{CloseReason, Driver, Error, Instant};

use crate::frame::{self, Frame, Frames, encode};
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
    pub(crate) streams: Streams,
    state: State,
    /// When the last record arrived.
    heard: Instant,
    /// When a ping was sent since then.
    pinged: Option<Instant>,
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
        let streams = Streams::new(side, driver, now);
        let (state, heard, pinged) = (State::Open, now, None);
        Self { streams, state, heard, pinged, pings: 0, answered: 0 }
    }

    // ---- inputs ------------------------------------------------------------------------------

    /// A binary message arrived: one record. A record that breaks a rule ends the session with
    /// [`Error::ProtocolViolation`], and the peer is told.
    pub fn receive(&mut self, now: Instant, record: Bytes) {
        (self.streams.now, self.heard, self.pinged) = (now, now, None);
        let mut result = match record.len() {
            0..=RECORD_BYTES => Ok(()),
            _ => Err(Violation::RECORD),
        };
        let mut frames = Frames::new(record);
        while self.is_open() && result.is_ok() {
            let Some(frame) = frames.next() else { return };
            result = frame.and_then(|frame| self.frame(frame));
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

    fn frame(&mut self, frame: Frame) -> Result<(), Violation> {
        if self.streams.is_out_of_order(&frame) {
            return Err(Violation::ORDER);
        }
        match frame {
            Frame::Close { code } => self.lost(Error::from_session_code(code)),
            Frame::Failed => self.lost(Error::Disconnected),
            Frame::Ping { sequence } => self.streams.push(&[frame::PING + 1, sequence]),
            Frame::Pong { sequence } if sequence >= self.pings => return Err(Violation::PING),
            Frame::Pong { sequence } => self.answered = self.answered.max(sequence + 1),
            frame => return self.streams.frame(frame),
        }
        Ok(())
    }

    // ---- outputs -----------------------------------------------------------------------------

    /// Does part of the work that is ready, at most a few dozen items. `more` says that messages were not read yet: then
    /// deadlines wait for them.
    pub fn turn(&mut self, now: Instant, more: bool) -> Turn {
        self.streams.now = now;
        self.deadlines(now);
        if self.is_open() {
            self.streams.resume();
        }
        let worked = (0..PIECES).take_while(|_| self.streams.driver.work(now)).count();
        let mut items = worked;
        while let Some(action) = self.streams.driver.poll_action() {
            items += 1;
            self.act(action);
        }
        if self.is_open() {
            items += (0..PIECES).take_while(|_| self.streams.open()).count();
            items += (0..PIECES).take_while(|_| self.streams.write()).count();
        }
        let driver = &mut self.streams.driver;
        let mut again = driver.end_turn(now, more || worked == PIECES);
        if let State::Lost(error) = &self.state {
            // Data that arrived before comes first.
            if items == 0 {
                driver.handle(now, Input::Closed { error: error.clone() });
                self.state = State::Over;
            }
            again = true;
        }
        again |= driver.has_work();
        Turn { items, again }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resume { id } => self.streams.deliver(id, Bytes::new()),
            _ if !self.is_open() => {}
            Action::Close { code, reason } if code == Code::default() => {
                self.ping();
                self.state = State::Flushing(self.streams.now + FLUSH_TIMEOUT, reason);
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
            State::Open if now >= self.silence_deadline() => match self.pinged {
                Some(_) => self.lost(Error::Timeout),
                None => self.ping(),
            },
            State::Flushing(until, reason) if now >= until || self.answered == self.pings => {
                self.close(&[frame::APPLICATION_CLOSE, 0], reason);
                self.state = State::Over;
            }
            _ => {}
        }
    }

    /// When a silent peer is sent a ping, and then when it is lost. That is reckoned from the ping: a stall of this process
    /// must not be taken for one of the peer.
    fn silence_deadline(&self) -> Instant {
        match self.pinged {
            Some(pinged) => pinged + (IDLE_TIMEOUT - KEEP_ALIVE),
            None => self.heard + KEEP_ALIVE,
        }
    }

    fn ping(&mut self) {
        self.streams.push(&[frame::PING, self.pings]);
        self.pings += 1;
        self.pinged = Some(self.streams.now);
    }

    fn close(&mut self, head: &[u64], reason: &str) {
        let len = encode(&[reason.len() as u64]);
        self.streams.push_bytes(&[&encode(head)[..], &len, reason.as_bytes()].concat());
    }

    /// The next record: send it as one binary message, and call [`turn`](Self::turn) again.
    pub fn poll_record(&mut self) -> Option<Bytes> {
        self.streams.records.pop_front().map(Bytes::from)
    }

    /// Whether so many records wait that no message should be read before some of them are sent: a peer that does not
    /// read must not cause more.
    pub fn is_full(&self) -> bool {
        self.streams.records.len() >= RECORDS
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
            State::Open => Some(self.silence_deadline()),
            State::Flushing(until, _) => Some(until),
            State::Lost(_) | State::Over => None,
        };
        own.into_iter().chain(self.streams.driver.poll_timeout()).min()
    }

    /// As [`Driver::poll_wake`]: ready when the application did something. Then call [`turn`](Self::turn).
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.streams.driver.poll_wake(cx)
    }

    /// Why the session is over. Send the records that are left, and close the WebSocket.
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Flushing(..) => None,
            _ => self.streams.driver.close_reason(),
        }
    }
}

impl fmt::Debug for Qmux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qmux").field("state", &self.state).finish_non_exhaustive()
    }
}
