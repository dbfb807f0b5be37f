//! FETCH of several groups, joining FETCH (up to 19) and fill (20+), as publisher (moq-transport-22, 3.2, 3.4 and
//! 9.11). One stream answers each, group after group. Groups that can't be had are marked.

use alloc::vec::Vec;

use bytes::BytesMut;

use super::roles::{Join, Role, SubscriptionStart};
use super::session::{Ietf, Read};
use crate::auth_token::AuthToken;
use crate::coding::ietf::{
    FetchEnd, FetchOk, Filter, GroupOrder, INVALID_JOINING_REQUEST_ID, INVALID_RANGE, Location,
    Message, ParameterForm, Parameters, UniStream,
};
use crate::error::Error;
use crate::machine::engine::{
    Core, Dialect, IncomingFetch, Progress, RangeAnswer, RangeDialect, publishing,
};
use crate::machine::event::{Event, FetchRange, FramePosition, ObjectRun, RangeTarget, RequestKey};
use crate::machine::layout::{Head, Layout, RecordWriter};
use crate::machine::run::FrameRange;
use crate::slab::Key;
use crate::subscription::TrackInfo;

impl From<Location> for FramePosition {
    fn from(location: Location) -> Self {
        Self::new(location.group, location.object)
    }
}

impl From<FramePosition> for Location {
    fn from(position: FramePosition) -> Self {
        Self::new(position.group, position.frame)
    }
}

/// The range of a FETCH with this filter (9.20.9).
pub(super) fn range_of(filter: Option<Filter>) -> FetchRange {
    let open = FetchRange { end: FramePosition::MAX, ..FetchRange::default() };
    match filter {
        None | Some(Filter::Unfiltered) => open,
        // Nothing of it was published.
        Some(Filter::NextObject | Filter::NextGroup) => FetchRange { groups_back: Some(0), ..open },
        Some(Filter::GroupsBack(back)) => FetchRange { groups_back: Some(back), ..open },
        Some(Filter::From(start)) => FetchRange { start: start.into(), ..open },
        Some(Filter::Range { start, end_group }) => {
            let end = FramePosition::new(end_group, u64::MAX);
            FetchRange { start: start.into(), end, ..open }
        }
        Some(Filter::RangeTo { start, end }) => {
            FetchRange { start: start.into(), end: end.into(), ..open }
        }
    }
}

/// The range of a filter up to the largest object. `None` if it has no object.
fn range_up_to(filter: Option<Filter>, largest: Option<FramePosition>) -> Option<FetchRange> {
    let largest = largest?;
    let range = range_of(filter);
    let (start, end) = (range.start_before(largest), range.end.min(largest));
    let range = FetchRange { start, groups_back: None, end, ..range };
    (range.start <= range.end).then_some(range)
}

/// Reports a FETCH of several groups.
pub(super) fn begin_range(
    core: &mut Core,
    key: Key,
    target: RangeTarget,
    priority: u8,
    answer: RangeAnswer,
    tokens: Vec<AuthToken>,
) -> Event {
    let (sequence, frames, RangeAnswer { range, .. }) = (0, FrameRange::default(), answer);
    let answer = RangeAnswer { due: range.fill_timeout.map(|time| core.now + time), ..answer };
    let fetch = IncomingFetch { priority, sequence, range: frames, several: Some(answer) };
    core.incoming_fetches.insert(key, fetch);
    Event::RangeRequested { request: RequestKey::of(key), target, priority, range, tokens }
}

// ---- subscriptions that begin with earlier objects -------------------------------------------

impl Ietf {
    /// Whether the peer takes LARGEST_OBJECT. `moq-lite` 0.16 fails on it, and expects the latest group from its
    /// first object.
    pub(super) fn takes_largest(&self) -> bool {
        !self.is_early_moq_lite()
    }

    /// The first object of a subscription with this filter. Without a largest object it is the first one of all
    /// (3.1.4). On 14 a filter is mandatory, and the deployed publishers begin with the latest group if it asks
    /// for the next one. `@moq/net` gets the same if it asks for the next object.
    pub(super) fn first_of(&self, filter: Filter, largest: Option<FramePosition>) -> FramePosition {
        let takes_whole_groups = self.peer.as_ref().is_some_and(|peer| peer.is_moq_lite_js());
        let is_inline = self.draft.parameters == ParameterForm::Inline;
        let filter = match filter {
            Filter::NextGroup if is_inline => Filter::GroupsBack(1),
            Filter::NextObject if takes_whole_groups => Filter::GroupsBack(1),
            filter => filter,
        };
        let range = range_of(Some(filter));
        match (filter, largest) {
            (_, None) => range.start,
            (Filter::NextObject, Some(it)) => {
                FramePosition::new(it.group, it.frame.saturating_add(1))
            }
            (_, Some(it)) => range.start_before(it),
        }
    }

    /// FILL_PARAMETERS of a subscription that was accepted: sends the objects before, without a request (3.4).
    pub(super) fn begin_fill(&mut self, core: &mut Core, key: Key, start: SubscriptionStart) {
        let Some(fill) = start.fill else { return };
        let id = self.ids.of(key);
        let is_full = core.incoming_fetches.len() >= core.limits.requests;
        let Some(subscription) = core.incoming.get_mut(key).filter(|_| !is_full) else { return };
        // A parameter that is left out is that of the subscription (9.20.15).
        let range = range_up_to(fill.filter.or(start.filter), subscription.largest);
        let Some(range) = range else { return };
        let options = &subscription.options;
        let priority = fill.priority.unwrap_or(options.priority);
        let ordered = fill.order.map_or(options.ordered, |order| order == GroupOrder::Ascending);
        let range = FetchRange { descending: !ordered, fill_timeout: fill.fill_timeout, ..range };
        let request = core.requests.open_implied();
        subscription.fills.push(request);
        self.set_role(request, Role::Fill { id });
        let target = RangeTarget::Subscription(RequestKey::of(key));
        let answer = RangeAnswer::new(range, Some(key));
        let event = begin_range(core, request, target, priority, answer, Vec::new());
        core.notices.push_back(event);
    }

    /// The application has nothing that fills a subscription, which goes on without.
    pub(super) fn refuse_fill(&mut self, core: &mut Core, key: Key, error: &Error) {
        let answer = core.incoming_fetches.get(&key).and_then(|fetch| fetch.several);
        self.give_up_fetch(core, key, error);
        if let Some(filled) = answer.and_then(|answer| answer.fills) {
            publishing::end_fill(self, core, filled, key);
        }
    }

    /// A subscription of the peer is over before its end, and what fills it as well (3.4.1).
    pub(super) fn end_incoming(&mut self, core: &mut Core, key: Key, error: &Error) {
        let subscription = core.incoming.get_mut(key);
        let fills = subscription.map(|it| core::mem::take(&mut it.fills)).unwrap_or_default();
        for fill in fills {
            core.end_incoming(fill, error);
            self.cancel(core, fill, error);
            let (request, result) = (RequestKey::of(fill), Err(error.clone()));
            core.notices.push_back(Event::RequestEnded { request, result });
        }
        core.end_incoming(key, error);
    }

    /// Joining FETCH of the peer: the objects from the start of `filter` up to the largest one when its
    /// subscription was accepted (*Joining Fetches*).
    pub(super) fn on_join(
        &mut self,
        core: &mut Core,
        key: Key,
        subscription: u64,
        filter: Filter,
        parameters: Parameters,
    ) -> Progress {
        let join = Join { subscription, filter, parameters };
        self.set_role(key, Role::Join(join.clone().into()));
        self.try_join(core, key, join)
    }

    /// Serves a joining FETCH, if its subscription was accepted. It may come before it.
    fn try_join(&mut self, core: &mut Core, key: Key, join: Join) -> Progress {
        let joined = self.ids.find(join.subscription);
        let joined = joined.and_then(|joined| Some((joined, core.incoming.get(joined)?)));
        let is_waiting = match joined {
            None => self.draft.has_request_streams() && self.ids.may_come(join.subscription),
            Some((joined, _)) => !core.schedule.has_track(joined),
        };
        if is_waiting {
            self.joins.insert((join.subscription, key));
            return Progress::Wait;
        }
        let Some((joined, subscription)) = joined else {
            return self.refuse(core, key, INVALID_JOINING_REQUEST_ID);
        };
        let range = range_up_to(Some(join.filter), subscription.largest);
        let Some(range) = range.filter(|_| !subscription.paused) else {
            return self.refuse(core, key, INVALID_RANGE);
        };
        let Parameters { priority, order, fill_timeout, shown: tokens, .. } = join.parameters;
        let descending = order == Some(GroupOrder::Descending);
        let range = FetchRange { descending, fill_timeout, ..range };
        self.set_role(key, Role::IncomingFetch(None));
        let target = RangeTarget::Subscription(RequestKey::of(joined));
        let (priority, answer) = (priority.unwrap_or(127), RangeAnswer::new(range, None));
        Progress::Event(begin_range(core, key, target, priority, answer, tokens))
    }

    /// A joining FETCH that waits: its subscription was answered, or the peer gave it up.
    pub(super) fn read_join(&mut self, core: &mut Core, key: Key) -> Read {
        let Role::Join(join) = self.role(key) else { return Ok(Progress::Wait) };
        let join = Join::clone(join);
        if let Some(error) = core.requests.abandoned(key) {
            self.joins.remove(&(join.subscription, key));
            self.cancel(core, key, &error);
            return Ok(Progress::Wait);
        }
        Ok(self.try_join(core, key, join))
    }

    /// The subscription of this id was answered, or is over.
    pub(super) fn wake_joins(&mut self, core: &mut Core, id: u64) {
        let range = (id, Key::default())..=(id, (u32::MAX, u32::MAX));
        while let Some(join) = self.joins.range(range.clone()).next().copied() {
            self.joins.remove(&join);
            core.requests.queue_read(join.1);
        }
    }

    /// The request is over: its id finds nothing any more.
    pub(super) fn forget_id(&mut self, core: &mut Core, key: Key) {
        let id = self.ids.of(key);
        self.ids.forget(key);
        self.wake_joins(core, id);
    }
}

// ---- the answer ------------------------------------------------------------------------------

impl RangeDialect for Ietf {
    /// Writes FETCH_OK, unless it is a fill (3.4.1).
    fn accept_range(
        &mut self,
        core: &mut Core,
        key: Key,
        info: &TrackInfo,
        end: FramePosition,
        ends_track: bool,
    ) {
        let fetch = core.incoming_fetches.get_mut(&key);
        let Some(several) = fetch.and_then(|fetch| fetch.several.as_mut()) else { return };
        let order = match several.range.descending {
            true => GroupOrder::Descending,
            false => GroupOrder::Ascending,
        };
        let properties = self.sends_properties(info);
        several.records = Some(RecordWriter::new(self.draft, order, info.priority, properties));
        if !matches!(self.role(key), Role::IncomingFetch(_)) {
            return;
        }
        let ok = FetchOk {
            id: self.reply_id(key),
            end_of_track: ends_track,
            end: FetchEnd { group: end.group, object: Some(end.frame) },
            parameters: self.state(order),
            properties: self.properties(info),
        };
        self.write(core, key, &Message::FetchOk(ok));
    }

    /// The bytes before frames on the stream of an answer, or the end of that: the header of the stream before the first
    /// ones, and the end of a gap. Up to 15 no gap can be said: one between the objects of a group is passed over then.
    fn range_part(
        &mut self,
        core: &mut Core,
        key: Key,
        run: Option<ObjectRun>,
        gap: bool,
    ) -> Option<(Head, Layout)> {
        let id = match *self.role(key) {
            Role::Fill { id } => id,
            _ => self.ids.of(key),
        };
        let answer = core.incoming_fetches.get_mut(&key)?.several.as_mut()?;
        let mut head = BytesMut::with_capacity(32);
        if !core::mem::replace(&mut answer.has_begun, true) {
            UniStream::Fetch { request: id }.encode(&mut head, self.draft).ok()?;
            // PUBLISH_DONE counts it (9.9).
            let filled = answer.fills.and_then(|filled| core.incoming.get_mut(filled));
            filled.into_iter().for_each(|filled| filled.filled += 1);
        }
        let end_of_gap = if gap { Some(answer.end_of_gap(run)?) } else { None };
        let records = answer.records.as_mut()?;
        if let Some((end, is_within_group)) = end_of_gap {
            match records.gap(end, answer.due.is_some_and(|due| due <= core.now)) {
                Some(record) => head.extend_from_slice(&record),
                None if is_within_group => {}
                None => return None,
            }
        }
        let layout = records.objects(run.unwrap_or(ObjectRun::of_group(0)));
        Some((Head::from_slice(&head), layout))
    }
}
