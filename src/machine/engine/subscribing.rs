//! Our subscriptions to the peer's tracks: their beginning, their changes and their end.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::core::Core;
use super::dialect::Dialect;
use super::fetches::FetchId;
use super::fetching;
use super::timers::Timer;
use crate::error::Error;
use crate::machine::event::{Event, GroupKey};
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::Subscription;

/// The application asks for a track. A failure is reported like any other end of a subscription.
pub(crate) fn begin(
    dialect: &mut impl Dialect,
    core: &mut Core,
    token: Token,
    names: (Path, Box<str>),
    want: Subscription,
) {
    let admitted = core.admit_subscription(token);
    if let Err(error) = admitted.and_then(|()| dialect.subscribe(core, token, names, want)) {
        core.reject_subscription(token, error);
    }
}

/// The application changes the options of a subscription.
pub(crate) fn update(
    dialect: &mut impl Dialect,
    core: &mut Core,
    token: Token,
    want: Subscription,
) {
    let Some(key) = core.outgoing.by_token(token) else { return };
    let Some(subscription) = core.outgoing.get_mut(key) else { return };
    // The priority also orders how the groups that arrive are read.
    subscription.priority = want.priority;
    if subscription.result.is_none() {
        dialect.update_subscribe(core, key, want);
    }
}

/// The application does not want a subscription, or a track query, any more.
pub(crate) fn unsubscribe(dialect: &mut impl Dialect, core: &mut Core, token: Token) {
    dialect.cancel_query(core, token);
    if let Some(key) = core.outgoing.by_token(token) {
        end_now(dialect, core, key, Err(Error::Cancelled));
    }
}

/// Ends a subscription at once, and the groups that are still arriving with it.
pub(crate) fn end_now(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    result: Result<Option<u64>, Error>,
) {
    let Some(subscription) = core.outgoing.remove(key) else { return };
    let error = result.clone().err().unwrap_or(Error::Cancelled);
    core.timers.unset(subscription.late_at, Timer::Stragglers(key));
    if let Some(number) = subscription.number {
        core.stop_held(number, &error);
    }
    for key in &subscription.active {
        let has_begun = core.recv_streams.has_begun(*key);
        core.recv_streams.stop(&mut core.actions, *key, &error);
        fetching::abort(dialect, core, FetchId::Head(*key), error.clone());
        if has_begun {
            let group = GroupKey::of(*key);
            core.notices.push_back(Event::GroupEnded { group, result: Err(error.clone()) });
        }
    }
    dialect.release_subscription(core, &subscription, result.as_ref().map(|_| ()));
    core.notices.push_back(Event::SubscribeEnded { subscription: subscription.token, result });
}

/// The peer sends no more answers. Groups that are on their way may still arrive.
pub(crate) fn on_last_answer(
    dialect: &mut impl Dialect,
    core: &mut Core,
    key: Key,
    result: Result<(), Error>,
) {
    let Some(subscription) = core.outgoing.get_mut(key) else { return };
    subscription.result = Some(result);
    subscription.late_at = core.now + core.limits.straggler_timeout;
    core.timers.set(subscription.late_at, Timer::Stragglers(key));
    end_if_complete(dialect, core, key);
}

/// The subscription can't go on. Its request is cancelled.
pub(crate) fn fail(dialect: &mut impl Dialect, core: &mut Core, key: Key, error: Error) {
    let Some(subscription) = core.outgoing.get_mut(key) else { return };
    let request = subscription.request;
    subscription.result = Some(Err(error.clone()));
    dialect.cancel(core, request, &error);
    end_if_complete(dialect, core, key);
}

/// Ends a subscription if all its answers and groups arrived, or the time for that is up.
pub(crate) fn end_if_complete(dialect: &mut impl Dialect, core: &mut Core, key: Key) {
    let Some(subscription) = core.outgoing.get(key) else { return };
    let Some(result) = &subscription.result else { return };
    if !subscription.active.is_empty() {
        return;
    }
    let complete = result.is_err()
        || subscription.expected.is_some_and(|expected| subscription.seen >= expected)
            && !subscription.number.is_some_and(|number| core.recv_streams.holds_for(number));
    if complete || subscription.late {
        let result = result.clone().map(|()| subscription.end);
        end_now(dialect, core, key, result);
    }
}

/// Groups that have not begun by now are not waited for.
pub(crate) fn on_stragglers_timeout(dialect: &mut impl Dialect, core: &mut Core, key: Key) {
    if let Some(subscription) = core.outgoing.get_mut(key) {
        subscription.late = true;
        end_if_complete(dialect, core, key);
    }
}

/// The connection is gone and everything that it delivered was read: subscriptions that have their last
/// answer are over.
pub(crate) fn on_connection_lost(dialect: &mut impl Dialect, core: &mut Core) {
    let keys: Vec<_> = core.outgoing.keys().collect();
    for key in keys {
        on_stragglers_timeout(dialect, core, key);
    }
}
