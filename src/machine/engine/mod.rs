//! The part of the machine that all dialects share.
//!
//! [`core`] is the state of a session: streams, requests, schedule, subscriptions in both directions,
//! timers. [`dialect`] has the functions by which a dialect reads and writes its messages. The steps of
//! each kind of request are written once, as functions over any dialect:
//!
//! | module | content |
//! |---|---|
//! | [`events`] | which stream is read next |
//! | [`groups`] | groups that arrive |
//! | [`subscribing`] | the end of our subscriptions to the peer's tracks |
//! | [`publishing`] | the peer's subscriptions to our tracks |
//! | [`fetching`] | FETCH, in both directions |
//! | [`goaway`] | GOAWAY, in both directions |

mod congestion;
mod core;
mod datagrams;
mod dialect;
pub(crate) mod events;
mod fetches;
pub(crate) mod fetching;
pub(crate) mod goaway;
pub(crate) mod groups;
mod incoming_subscriptions;
mod outgoing_subscriptions;
pub(crate) mod publishing;
mod recv_streams;
mod requests;
mod schedule;
pub(crate) mod subscribing;
mod timers;

pub(crate) use self::core::{ControlStream, Core, SessionState};
pub(crate) use dialect::{
    Dialect, FetchDialect, GroupDialect, Progress, PublishDialect, RangeDialect, SubscribeDialect,
};
pub(crate) use fetches::{AnswerStream, FetchId, IncomingFetch, OutgoingFetch, RangeAnswer};
pub(crate) use incoming_subscriptions::IncomingSubscription;
pub(crate) use outgoing_subscriptions::OutgoingSubscription;
pub(crate) use recv_streams::{GroupHeader, GroupOwner, GroupPart, GroupReader, StreamState};
pub(crate) use requests::MAX_UNSENT_ANNOUNCEMENTS;
pub(crate) use schedule::{CONTROL_PRIORITY, DatagramForm, GroupRef, GroupWrite, Place, Work};
pub(crate) use timers::Timer;
