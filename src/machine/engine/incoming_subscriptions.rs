//! A subscription of the peer to one of our tracks, as every dialect keeps it.

use alloc::vec::Vec;

use crate::census::census;
use crate::machine::event::FramePosition;
use crate::machine::layout::Layout;
use crate::slab::Key;
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
    /// The newest frame of the track when the subscription was accepted.
    pub(crate) largest: Option<FramePosition>,
    /// Frames before this one are not sent.
    pub(crate) from: FramePosition,
    /// The answers that fill it, while they are sent.
    pub(crate) fills: Vec<Key>,
    /// How many answers filled it so far.
    pub(crate) filled: u64,
    /// The layout of its frames, if it is not that of the session.
    pub(crate) layout: Option<Layout>,
    /// The peer wants no groups for now.
    pub(crate) paused: bool,
    /// All groups are given. Those from this one on do not exist.
    pub(crate) ending: Option<u64>,
}

impl IncomingSubscription {
    pub(crate) fn new(number: u64, options: Subscription) -> Self {
        Self {
            number,
            options,
            publisher: 0,
            start: None,
            largest: None,
            from: FramePosition::default(),
            fills: Vec::new(),
            filled: 0,
            layout: None,
            paused: false,
            ending: None,
        }
    }
}

census! { each IncomingSubscription {
    counts: fills;
    plain: number, options, publisher, start, largest, from, filled, layout, paused, ending;
} }
