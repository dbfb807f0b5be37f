//! GOAWAY in both directions: new requests are refused, and running requests continue until a deadline.
//!
//! After we sent GOAWAY the session is *going away* until all requests are over. Then it drains as after
//! [`Command::Drain`](crate::machine::Command::Drain). The deadline also holds on versions without GOAWAY.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::core::Core;
use super::dialect::{Dialect, Progress};
use super::{fetching, subscribing};
use crate::coding::lite::Goaway;
use crate::error::Error;
use crate::machine::event::Event;
use crate::stream::Side;

/// The URI that goes into GOAWAY. A client sends none (moq-lite-06, 7.18; moq-transport-22, 9.2). A URI
/// that is longer than peers must accept is left out.
pub(crate) fn redirect(side: Side, uri: Box<str>) -> Box<str> {
    if side == Side::Client || uri.len() > Goaway::MAX_URI { Box::default() } else { uri }
}

/// The peer sent GOAWAY. Requests of ours that were not sent yet fail, because it would refuse them.
pub(crate) fn on_goaway(
    dialect: &mut impl Dialect,
    core: &mut Core,
    uri: Box<str>,
    timeout: Option<Duration>,
) -> Progress {
    if mem::replace(&mut core.peer_is_going_away, true) {
        core.violation("second GOAWAY");
        return Progress::Wait;
    }
    let is_unsent = |key| dialect.is_unsent(core, key);
    let outgoing =
        core.outgoing.keys().filter_map(|key| Some((key, core.outgoing.get(key)?.request)));
    let outgoing: Vec<_> = outgoing.filter(|(_, request)| is_unsent(*request)).collect();
    let fetches = core.outgoing_fetches.iter().map(|(id, fetch)| (*id, fetch.request));
    let fetches: Vec<_> = fetches.filter(|(_, request)| is_unsent(*request)).collect();
    for (key, _) in outgoing {
        subscribing::end_now(dialect, core, key, Err(Error::GoingAway));
    }
    for (id, _) in fetches {
        fetching::end(dialect, core, id, Err(Error::GoingAway));
    }
    Progress::Event(Event::GoingAway { uri, timeout })
}
