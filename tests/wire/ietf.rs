//! Any message of moq-transport that survives encoding.

use std::time::Duration;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smoq::coding::ietf::{
    DatagramHead, Draft, ErrorForm, Fetch, FetchEnd, FetchForm, FetchOk, FetchTarget, Filter,
    FilterForm, Goaway, GoawayForm, GroupOrder, Location, Message, MessageType, NamespaceForm,
    NamespaceRequest, ObjectStatus, Parameters, PropertyForm, Publish, PublishBlocked, PublishDone,
    PublishNamespace, PublishNamespaceCancel, REDIRECT, Redirect, RequestError, RequestOk,
    RequestUpdate, Setup, SubgroupHeader, Subscribe, SubscribeNamespace, SubscribeOk,
    TokenReference, TrackProperties, Unsubscribe, Wanted,
};
use smoq::coding::varint;
use smoq::{AuthToken, Path, Timescale, Timestamp, Version};

pub(crate) const DRAFTS: [Version; 9] = [
    Version::Moqt14,
    Version::Moqt15,
    Version::Moqt16,
    Version::Moqt17,
    Version::Moqt18,
    Version::Moqt19,
    Version::Moqt20,
    Version::Moqt21,
    Version::Moqt22,
];

pub(crate) fn draft(version: Version) -> &'static Draft {
    Draft::of(version).unwrap()
}

/// Any integer that can be written. Small ones and those at the limits of both forms are likely.
pub(crate) fn integer() -> impl Strategy<Value = u64> {
    let edges = [6, 7, 14, 21, 28, 30, 35, 42, 49, 56, 62];
    let edges = edges.into_iter().flat_map(|bits| [(1 << bits) - 1, 1 << bits]);
    let edges: Vec<u64> = edges.filter(|&edge| edge <= varint::MAX).collect();
    prop_oneof![0..=0xff_u64, 0..0x8000_u64, 0..=varint::MAX, prop::sample::select(edges)]
}

/// An integer that can be written as one more.
fn below_max() -> impl Strategy<Value = u64> {
    integer().prop_map(|value| value.min(varint::MAX - 1))
}

fn millis() -> impl Strategy<Value = Duration> {
    below_max().prop_map(Duration::from_millis)
}

/// A field of a namespace, with characters that must be escaped.
fn field() -> impl Strategy<Value = String> {
    r"(\\/|\\\\|[a-z.é ]){0,6}[a-zé]".prop_map(String::from)
}

fn prefix() -> impl Strategy<Value = Path> {
    vec(field(), 0..=32).prop_map(|fields| Path::new(&fields.join("/")))
}

fn namespace() -> impl Strategy<Value = Path> {
    vec(field(), 1..=32).prop_map(|fields| Path::new(&fields.join("/")))
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,80}".prop_map(String::into_boxed_str)
}

fn location() -> impl Strategy<Value = Location> {
    (integer(), integer()).prop_map(|(group, object)| Location::new(group, object))
}

fn order() -> impl Strategy<Value = GroupOrder> {
    prop::sample::select(vec![GroupOrder::Ascending, GroupOrder::Descending])
}

fn filter(kind: MessageType, version: Version) -> BoxedStrategy<Filter> {
    let from = location().prop_map(|start| {
        // From the first object on has no form of its own where two zeros are Next Object.
        Filter::From(Location { object: start.object.max(u64::from(start.group == 0)), ..start })
    });
    let range = (location(), integer())
        .prop_map(|(start, end)| Filter::Range { start, end_group: end.max(start.group) });
    // SUBSCRIBE_UPDATE has the fields of an absolute filter.
    if version == Version::Moqt14 && kind == MessageType::RequestUpdate {
        let start =
            (below_max(), integer()).prop_map(|(group, object)| Location::new(group, object));
        let range =
            (start, below_max()).prop_map(|(start, end_group)| Filter::Range { start, end_group });
        return prop_oneof![from, range].boxed();
    }
    let common = prop_oneof![Just(Filter::NextObject), Just(Filter::NextGroup), from, range];
    match draft(version).filter {
        FilterForm::Absolute | FilterForm::Delta => common.boxed(),
        FilterForm::Fields | FilterForm::Typed => {
            let back = integer().prop_map(|back| Filter::GroupsBack(back.max(1)));
            let to = (location(), location()).prop_map(|(start, end)| Filter::RangeTo {
                start,
                end: Location { group: end.group.max(start.group), ..end },
            });
            prop_oneof![common, Just(Filter::Unfiltered), back, to].boxed()
        }
    }
}

/// A small message of this type with these parameters; `None` if the type has none.
fn carrying(kind: MessageType, parameters: Parameters) -> Option<Message> {
    let (namespace, track) = (Path::new("a"), "b".into());
    Some(match kind {
        MessageType::Subscribe => {
            Message::Subscribe(Subscribe { id: 0, namespace, track, parameters })
        }
        MessageType::TrackStatus => {
            Message::TrackStatus(Subscribe { id: 0, namespace, track, parameters })
        }
        MessageType::SubscribeOk => {
            Message::SubscribeOk(SubscribeOk { id: Some(0), parameters, ..SubscribeOk::default() })
        }
        MessageType::RequestUpdate => Message::RequestUpdate(RequestUpdate {
            existing: Some(0),
            parameters,
            ..RequestUpdate::default()
        }),
        MessageType::RequestOk | MessageType::TrackStatusOk | MessageType::PublishOk => {
            let ok = RequestOk { id: Some(0), parameters, ..RequestOk::default() };
            match kind {
                MessageType::RequestOk => Message::RequestOk(ok),
                MessageType::PublishOk => Message::PublishOk(ok),
                _ => Message::TrackStatusOk(ok),
            }
        }
        MessageType::Publish => Message::Publish(Publish {
            id: 0,
            namespace,
            track,
            alias: 0,
            parameters,
            properties: TrackProperties::default(),
        }),
        MessageType::PublishNamespace => {
            Message::PublishNamespace(PublishNamespace { id: 0, namespace, parameters })
        }
        MessageType::PublishStateNotify => Message::PublishStateNotify(parameters),
        MessageType::SubscribeNamespace => Message::SubscribeNamespace(SubscribeNamespace {
            prefix: namespace,
            parameters,
            ..SubscribeNamespace::default()
        }),
        MessageType::SubscribeTracks => Message::SubscribeTracks(SubscribeNamespace {
            id: 0,
            prefix: namespace,
            parameters,
            ..Default::default()
        }),
        MessageType::FetchOk => Message::FetchOk(FetchOk {
            id: Some(0),
            end: FetchEnd { group: 0, object: Some(0) },
            parameters,
            ..FetchOk::default()
        }),
        _ => return None,
    })
}

/// The parameters that the draft allows in the message, which the golden bytes check.
fn parameters(kind: MessageType, version: Version) -> impl Strategy<Value = Parameters> {
    let times = (
        option::of(millis().prop_map(|timeout| timeout.max(Duration::from_millis(1)))),
        option::of(millis()),
        option::of(millis()),
        option::of(millis().prop_map(|timeout| timeout.max(Duration::from_millis(1)))),
        option::of(millis()),
        option::of(millis()),
    );
    let rest = (
        option::of(location()),
        option::of(any::<bool>()),
        option::of(any::<u8>()),
        option::of(filter(kind, version)),
        option::of(order()),
        option::of(integer()),
        option::of(prefix()),
    );
    let last = (
        option::of(any::<u8>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of((option::of(millis()), option::of(filter(MessageType::Subscribe, version)))),
        tokens(),
    );
    (times, rest, last).prop_map(move |(times, rest, last)| {
        let all = Parameters {
            delivery_timeout: times.0,
            rendezvous_timeout: times.1,
            subgroup_delivery_timeout: times.2,
            expires: times.3,
            fill_timeout: times.4,
            max_cache: times.5,
            largest: rest.0,
            forward: rest.1,
            priority: rest.2,
            filter: rest.3,
            order: rest.4,
            new_group: rest.5,
            prefix: rest.6,
            publisher_priority: last.0,
            dynamic_groups: last.1,
            include_properties: last.2,
            fill: last.3.map(|(fill_timeout, filter)| {
                Box::new(Parameters { fill_timeout, filter, ..Parameters::default() })
            }),
            tokens: last.4,
            shown: vec![],
            unusable: None,
        };
        allowed(&all, kind, version)
    })
}

/// Leaves out what can't be encoded in the message. What 14 always writes is there.
fn allowed(all: &Parameters, kind: MessageType, version: Version) -> Parameters {
    let fits = |parameters: &Parameters| {
        // FETCH differs in its target.
        let message = match kind {
            MessageType::Fetch => {
                let (namespace, track) = (Path::new("a"), "b".into());
                let target = match draft(version).fetch {
                    FetchForm::Filter => FetchTarget::Track { namespace, track },
                    FetchForm::Target => FetchTarget::Relative { joins: 0, groups_back: 0 },
                };
                Some(Message::Fetch(Fetch { id: 0, target, parameters: parameters.clone() }))
            }
            kind => carrying(kind, parameters.clone()),
        };
        message.is_some_and(|it| it.encode(&mut BytesMut::new(), draft(version)).is_ok())
    };
    let mut some = Parameters::default();
    macro_rules! keep {
        ($($field:ident),*) => {
            $(let one = Parameters { $field: all.$field.clone(), ..Parameters::default() };
            if fits(&one) {
                some.$field = one.$field;
            })*
        };
    }
    keep!(
        delivery_timeout,
        rendezvous_timeout,
        subgroup_delivery_timeout,
        expires,
        fill_timeout,
        max_cache,
        largest,
        forward,
        priority,
        filter,
        order,
        new_group,
        prefix,
        publisher_priority,
        dynamic_groups,
        include_properties,
        fill,
        tokens
    );
    if version == Version::Moqt14 {
        use MessageType::{Fetch, Publish, PublishOk, RequestUpdate, Subscribe, TrackStatus};
        if matches!(kind, Subscribe | TrackStatus | PublishOk | RequestUpdate | Publish) {
            some.forward.get_or_insert(true);
        }
        if matches!(kind, Subscribe | TrackStatus | PublishOk | RequestUpdate | Fetch) {
            some.priority.get_or_insert(0);
        }
        if matches!(kind, Subscribe | TrackStatus | PublishOk) {
            some.filter.get_or_insert(Filter::NextObject);
        }
    }
    some
}

/// Track properties, on drafts where SUBSCRIBE_OK has them.
fn properties(version: Version) -> impl Strategy<Value = TrackProperties> {
    let has_any = draft(version).properties != PropertyForm::None;
    let timescale = (1..varint::MAX).prop_map(|units| Timescale::new(units).unwrap());
    let flags = (option::of(order()), option::of(any::<bool>()));
    (option::of(millis()), option::of(timescale), option::of(any::<u8>()), flags).prop_map(
        move |(max_cache, timescale, priority, (order, dynamic_groups))| match has_any {
            false => TrackProperties::default(),
            true => TrackProperties {
                max_cache,
                timescale,
                priority,
                order,
                dynamic_groups,
                ..TrackProperties::default()
            },
        },
    )
}

fn tokens() -> impl Strategy<Value = Vec<TokenReference>> {
    let token = || {
        (integer(), vec(any::<u8>(), 0..9)).prop_map(|(kind, value)| AuthToken::new(kind, value))
    };
    let reference = prop_oneof![
        integer().prop_map(TokenReference::Delete),
        (integer(), token()).prop_map(|(alias, token)| TokenReference::Register(alias, token)),
        integer().prop_map(TokenReference::Alias),
        token().prop_map(TokenReference::Value),
    ];
    vec(reference, 0..3)
}

fn setup(version: Version) -> impl Strategy<Value = Setup> {
    let (has_credit, draft) = (has_ids(version), draft(version));
    let texts = (option::of(text()), option::of(text()), option::of(text()));
    (texts, integer(), integer(), any::<bool>(), tokens(), integer()).prop_map(
        move |((path, authority, implementation), max, updates, solicit, tokens, cache)| Setup {
            path,
            authority,
            max_request_id: if has_credit { max } else { 0 },
            implementation,
            max_request_updates: if draft.update_limit { updates } else { 0 },
            other_version: false,
            solicit,
            tokens,
            max_token_cache: cache,
        },
    )
}

fn subscribe(kind: MessageType, version: Version) -> impl Strategy<Value = Subscribe> {
    (integer(), namespace(), text(), parameters(kind, version)).prop_map(
        |(id, namespace, track, parameters)| Subscribe { id, namespace, track, parameters },
    )
}

fn end(version: Version) -> impl Strategy<Value = FetchEnd> {
    let is_inclusive = draft(version).fetch == FetchForm::Filter;
    (integer(), option::of(below_max())).prop_map(move |(group, object)| FetchEnd {
        group,
        object: if is_inclusive { object.or(Some(0)) } else { object },
    })
}

fn fetch(version: Version) -> impl Strategy<Value = Fetch> {
    let targets = prop_oneof![
        (namespace(), text(), location(), end(version)).prop_map(
            |(namespace, track, start, end)| {
                FetchTarget::Standalone { namespace, track, start, end }
            }
        ),
        (integer(), integer())
            .prop_map(|(joins, groups_back)| FetchTarget::Relative { joins, groups_back }),
        (integer(), integer()).prop_map(|(joins, group)| FetchTarget::Absolute { joins, group }),
    ];
    let track = (namespace(), text())
        .prop_map(|(namespace, track)| FetchTarget::Track { namespace, track });
    let target = match draft(version).fetch {
        FetchForm::Target => targets.boxed(),
        FetchForm::Filter => track.boxed(),
    };
    (integer(), target, parameters(MessageType::Fetch, version))
        .prop_map(|(id, target, parameters)| Fetch { id, target, parameters })
}

fn error(version: Version) -> impl Strategy<Value = RequestError> {
    let form = draft(version).errors;
    let redirect = (text(), prefix(), text()).prop_map(|(uri, namespace, track)| Redirect {
        uri,
        namespace,
        track,
    });
    (reply_id(version), integer(), option::of(below_max()), text(), option::of(redirect)).prop_map(
        move |(id, code, retry, reason, redirect)| {
            let redirect = redirect.filter(|_| form >= ErrorForm::Redirect);
            let code = match redirect {
                Some(_) => REDIRECT,
                None if code == REDIRECT => 0,
                // Between these 14 has other codes for each kind of request.
                None if form == ErrorForm::PerRequest && (4..0x40).contains(&code) => 3,
                None => code,
            };
            let retry = retry.filter(|_| form >= ErrorForm::Retry);
            let retry = retry.map(|millis| Duration::from_millis(millis.min(varint::MAX - 2)));
            RequestError { id, code, retry, reason, redirect }
        },
    )
}

/// Whether answers have the id of their request.
pub(crate) fn has_ids(version: Version) -> bool {
    !draft(version).has_request_streams()
}

/// The request that a message gives up: by its id or its namespace.
fn given_up(named_up_to: NamespaceForm, version: Version) -> BoxedStrategy<NamespaceRequest> {
    match draft(version).namespaces > named_up_to {
        true => integer().prop_map(NamespaceRequest::Id).boxed(),
        false => prefix().prop_map(NamespaceRequest::Namespace).boxed(),
    }
}

/// The request id of an answer, on drafts where answers have one.
fn reply_id(version: Version) -> impl Strategy<Value = Option<u64>> {
    let has_id = has_ids(version);
    integer().prop_map(move |id| Some(id).filter(|_| has_id))
}

/// Any message of the type; `None` if the draft does not have or write it.
pub(crate) fn message(kind: MessageType, version: Version) -> Option<BoxedStrategy<Message>> {
    kind.number(draft(version))?;
    let form = draft(version);
    let parameters = parameters(kind, version);
    Some(match kind {
        MessageType::ClientSetup => setup(version).prop_map(Message::ClientSetup).boxed(),
        MessageType::ServerSetup => setup(version).prop_map(Message::ServerSetup).boxed(),
        MessageType::Setup => setup(version).prop_map(Message::Setup).boxed(),
        MessageType::RequestUpdate => (integer(), reply_id(version), parameters)
            .prop_map(|(id, existing, parameters)| {
                Message::RequestUpdate(RequestUpdate { id, existing, parameters })
            })
            .boxed(),
        MessageType::Subscribe => subscribe(kind, version).prop_map(Message::Subscribe).boxed(),
        MessageType::TrackStatus => subscribe(kind, version).prop_map(Message::TrackStatus).boxed(),
        MessageType::SubscribeOk => (reply_id(version), integer(), parameters, properties(version))
            .prop_map(|(id, alias, parameters, properties)| {
                Message::SubscribeOk(SubscribeOk { id, alias, parameters, properties })
            })
            .boxed(),
        MessageType::RequestError => error(version).prop_map(Message::RequestError).boxed(),
        MessageType::PublishNamespace => (integer(), namespace(), parameters)
            .prop_map(|(id, namespace, parameters)| {
                Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
            })
            .boxed(),
        MessageType::RequestOk => (reply_id(version), parameters, properties(version))
            .prop_map(move |(id, parameters, properties)| {
                let has_any = form.properties >= PropertyForm::Answers;
                let properties = if has_any { properties } else { TrackProperties::default() };
                Message::RequestOk(RequestOk { id, parameters, properties })
            })
            .boxed(),
        MessageType::TrackStatusOk => (reply_id(version), parameters)
            .prop_map(|(id, parameters)| {
                let properties = TrackProperties::default();
                Message::TrackStatusOk(RequestOk { id, parameters, properties })
            })
            .boxed(),
        MessageType::PublishNamespaceOk => reply_id(version)
            .prop_map(|id| Message::PublishNamespaceOk(RequestOk { id, ..RequestOk::default() }))
            .boxed(),
        MessageType::SubscribeNamespaceOk => reply_id(version)
            .prop_map(|id| Message::SubscribeNamespaceOk(RequestOk { id, ..RequestOk::default() }))
            .boxed(),
        MessageType::SubscribeError => error(version).prop_map(Message::SubscribeError).boxed(),
        MessageType::PublishNamespaceError => {
            error(version).prop_map(Message::PublishNamespaceError).boxed()
        }
        MessageType::TrackStatusError => error(version).prop_map(Message::TrackStatusError).boxed(),
        MessageType::SubscribeNamespaceError => {
            error(version).prop_map(Message::SubscribeNamespaceError).boxed()
        }
        MessageType::FetchError => error(version).prop_map(Message::FetchError).boxed(),
        MessageType::PublishError => error(version).prop_map(Message::PublishError).boxed(),
        MessageType::PublishStateNotify => parameters.prop_map(Message::PublishStateNotify).boxed(),
        MessageType::PublishOk => (reply_id(version), parameters)
            .prop_map(|(id, parameters)| {
                let properties = TrackProperties::default();
                Message::PublishOk(RequestOk { id, parameters, properties })
            })
            .boxed(),
        MessageType::Namespace => prefix().prop_map(Message::Namespace).boxed(),
        MessageType::NamespaceDone => prefix().prop_map(Message::NamespaceDone).boxed(),
        MessageType::PublishNamespaceDone => {
            given_up(NamespaceForm::Id, version).prop_map(Message::PublishNamespaceDone).boxed()
        }
        MessageType::UnsubscribeNamespace => {
            given_up(NamespaceForm::Prefix, version).prop_map(Message::UnsubscribeNamespace).boxed()
        }
        MessageType::Unsubscribe => {
            integer().prop_map(|id| Message::Unsubscribe(Unsubscribe { id: Some(id) })).boxed()
        }
        MessageType::PublishDone => (reply_id(version), integer(), option::of(below_max()), text())
            .prop_map(|(id, status, streams, reason)| {
                Message::PublishDone(PublishDone { id, status, streams, reason })
            })
            .boxed(),
        MessageType::PublishNamespaceCancel => {
            (given_up(NamespaceForm::Id, version), error(version), text())
                .prop_map(|(request, error, reason)| {
                    let code = error.code;
                    Message::PublishNamespaceCancel(PublishNamespaceCancel {
                        request,
                        code,
                        reason,
                    })
                })
                .boxed()
        }
        MessageType::PublishBlocked => (prefix(), text())
            .prop_map(|(suffix, track)| Message::PublishBlocked(PublishBlocked { suffix, track }))
            .boxed(),
        MessageType::Goaway => (text(), millis(), integer())
            .prop_map(move |(uri, timeout, request)| {
                let has_timeout = form.goaway >= GoawayForm::Timeout;
                let timeout = if has_timeout { timeout } else { Duration::ZERO };
                let request = Some(request).filter(|_| form.goaway == GoawayForm::Request);
                Message::Goaway(Goaway { uri, timeout, request })
            })
            .boxed(),
        MessageType::SubscribeNamespace => (integer(), prefix(), 0..3_u8, parameters)
            .prop_map(move |(id, prefix, wanted, parameters)| {
                let wanted = match wanted {
                    0 if form.namespaces == NamespaceForm::Options => Wanted::Tracks,
                    2 if form.namespaces == NamespaceForm::Options => Wanted::Both,
                    _ => Wanted::Namespaces,
                };
                Message::SubscribeNamespace(SubscribeNamespace { id, prefix, wanted, parameters })
            })
            .boxed(),
        MessageType::FormerSubscribeNamespace => return None,
        MessageType::SubscribeTracks => (integer(), prefix(), parameters)
            .prop_map(|(id, prefix, parameters)| {
                Message::SubscribeTracks(SubscribeNamespace {
                    id,
                    prefix,
                    parameters,
                    ..Default::default()
                })
            })
            .boxed(),
        MessageType::MaxRequestId => integer().prop_map(Message::MaxRequestId).boxed(),
        MessageType::Fetch => fetch(version).prop_map(Message::Fetch).boxed(),
        MessageType::FetchCancel => integer().prop_map(Message::FetchCancel).boxed(),
        MessageType::FetchOk => {
            (reply_id(version), any::<bool>(), end(version), parameters, properties(version))
                .prop_map(|(id, end_of_track, end, parameters, properties)| {
                    Message::FetchOk(FetchOk { id, end_of_track, end, parameters, properties })
                })
                .boxed()
        }
        MessageType::RequestsBlocked => integer().prop_map(Message::RequestsBlocked).boxed(),
        MessageType::Publish => {
            (integer(), namespace(), text(), integer(), parameters, properties(version))
                .prop_map(|(id, namespace, track, alias, parameters, properties)| {
                    Message::Publish(Publish {
                        id,
                        namespace,
                        track,
                        alias,
                        parameters,
                        properties,
                    })
                })
                .boxed()
        }
    })
}

/// Every message of each of these drafts.
pub(crate) fn any_message(drafts: &[Version]) -> impl Strategy<Value = (Version, Message)> + use<> {
    let pairs =
        drafts.iter().flat_map(|&version| MessageType::all().map(move |kind| (version, kind)));
    let messages = pairs.filter_map(|(version, kind)| {
        Some(message(kind, version)?.prop_map(move |message| (version, message)).boxed())
    });
    proptest::strategy::Union::new(messages)
}

pub(crate) fn subgroup(version: Version) -> impl Strategy<Value = SubgroupHeader> {
    let numbers = (integer(), integer(), option::of(integer()), option::of(any::<u8>()));
    (numbers, any::<[bool; 3]>()).prop_map(
        move |((alias, group, subgroup, priority), [properties, end_of_group, first_object])| {
            let bits = draft(version).subgroup_bits;
            let first_object = first_object && bits & 0x40 != 0;
            let priority = if bits & 0x20 == 0 { priority.or(Some(0)) } else { priority };
            SubgroupHeader {
                alias,
                group,
                subgroup,
                priority,
                properties,
                end_of_group,
                first_object,
            }
        },
    )
}

pub(crate) fn timestamp() -> impl Strategy<Value = Option<Timestamp>> {
    option::of(integer().prop_map(Timestamp::new))
}

/// The head of a datagram, and the size of its payload.
pub(crate) fn datagram(version: Version) -> impl Strategy<Value = (DatagramHead<'static>, usize)> {
    let numbers = (integer(), integer(), prop_oneof![Just(0), integer()], option::of(any::<u8>()));
    (numbers, any::<bool>(), timestamp(), 0..5_usize, 0..3_u8).prop_map(
        move |((alias, group, object, priority), end_of_group, timestamp, size, status)| {
            let has_default = draft(version).datagram_types >> 8 & 1 != 0;
            let priority = if has_default { priority } else { priority.or(Some(0)) };
            let status = match status {
                1 if size == 0 => ObjectStatus::EndOfGroup,
                2 if size == 0 => ObjectStatus::EndOfTrack,
                _ => ObjectStatus::Normal,
            };
            let timestamp = timestamp.filter(|_| status == ObjectStatus::Normal);
            let end_of_group = end_of_group && size > 0;
            let head = DatagramHead {
                alias,
                group,
                object,
                priority,
                end_of_group,
                timestamp,
                properties: None,
                status,
            };
            (head, size)
        },
    )
}
