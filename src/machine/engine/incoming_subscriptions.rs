//! A subscription of the peer to one of our tracks, as every dialect keeps it.

use crate::census::census;
use crate::subscription::Subscription;

/// A subscription of the peer. Once it was accepted, the schedule has its track.
#[derive(Clone, Debug)]
pub(crate) struct IncomingSubscription {
    /// How its groups name it: the subscribe id (moq-lite), the track alias (moq-transport).
    pub(crate) number: u64,
    pub(crate) options: Subscription,
    /// The publisher's priority of the track, once it was accepted.
    pub(crate) publisher: u8,
    /// The first group, as it was promised to the peer.
    pub(crate) start: Option<u64>,
    /// The peer wants no groups for now.
    pub(crate) paused: bool,
    /// All groups are given. Those from this one on do not exist.
    pub(crate) ending: Option<u64>,
}

impl IncomingSubscription {
    pub(crate) fn new(number: u64, options: Subscription) -> Self {
        Self { number, options, publisher: 0, start: None, paused: false, ending: None }
    }
}

census! { each IncomingSubscription { plain: number, options, publisher, start, paused, ending; } }
