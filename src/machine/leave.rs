//! GOAWAY, both ways: nothing new is asked for, what runs goes on, and it has an end.
//!
//! A session that says it is *leaving* until what runs is over, and then drains as on
//! [`Command::Drain`](super::Command::Drain). The deadline holds on versions without the message too.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::app::Event;
use super::dialect::{Dialect, Look};
use super::timers::Timer;
use super::{Core, Machine, Spoken, State};
use crate::coding::lite::Goaway;
use crate::error::Error;
use crate::stream::Side;
use crate::time::Instant;

impl State {
    /// Whether new requests are refused, in both directions, because of us.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::Leaving | Self::Draining)
    }
}

impl Machine {
    /// Whether all that ran when GOAWAY was said is over. The peer must have set up, or it was not told.
    pub(super) fn has_left(&self) -> bool {
        let core = &self.core;
        if core.state != State::Leaving {
            return false;
        }
        let is_heard = match &self.dialect {
            Spoken::Lite(lite) => lite.is_heard(core),
            Spoken::Ietf(ietf) => ietf.is_heard(core),
        };
        let asks = !core.subs.is_empty() || core.fetches.tokens().next().is_some();
        is_heard && !asks && !core.is_serving()
    }
}

impl Core {
    /// The peer is to leave in time. `Some` if that is to be said: the deadline.
    pub(super) fn begin_to_leave(&mut self, timeout: Duration) -> Option<Instant> {
        let is_new = self.state == State::Open;
        if !is_new && self.state != State::Leaving {
            return None;
        }
        self.state = State::Leaving;
        let deadline = self.now + timeout;
        self.timers.hasten(deadline, Timer::Leave);
        is_new.then_some(deadline)
    }

    /// Whether the peer has a subscription or waits for a group.
    fn is_serving(&self) -> bool {
        self.serves.len() > 0 || self.fetches.has_theirs()
    }

    /// What ran since GOAWAY was said did not end in time. Only for what the peer asked for it is to blame.
    pub(super) fn leave_timeout(&mut self) {
        let is_late = self.is_serving();
        self.close(if is_late { Error::GoawayTimeout } else { Error::SessionClosed });
    }
}

/// What goes into GOAWAY: a client names no other place, and nobody one that peers can't take.
pub(super) fn redirect(side: Side, uri: Box<str>) -> Box<str> {
    if side == Side::Client || uri.len() > Goaway::MAX_URI { Box::default() } else { uri }
}

/// The peer said GOAWAY: requests that did not go out yet are none.
pub(super) fn obey(
    dialect: &mut impl Dialect,
    core: &mut Core,
    uri: Box<str>,
    timeout: Option<Duration>,
) -> Look {
    if mem::replace(&mut core.going_away, true) {
        core.violation("second GOAWAY");
        return Look::Wait;
    }
    let is_unsent = |key| dialect.is_unsent(core, key);
    let subs = core.subs.keys().filter_map(|key| Some((key, core.subs.get(key)?.request)));
    let subs: Vec<_> = subs.filter(|(_, request)| is_unsent(*request)).collect();
    let fetches: Vec<_> = core.fetches.tokens().filter(|(_, key)| is_unsent(*key)).collect();
    for (key, _) in subs {
        dialect.forget_sub(core, key, Err(Error::GoingAway));
    }
    for (token, _) in fetches {
        dialect.fetch_ended(core, token, Err(Error::GoingAway));
    }
    Look::Event(Event::GoingAway { uri, timeout })
}
