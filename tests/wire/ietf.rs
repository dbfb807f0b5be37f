//! Any message of moq-transport that survives encoding.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smoq::coding::ietf::{
    DatagramHead, Draft, Fetch, FetchCancel, FetchEnd, FetchOk, FetchTarget, Filter, Goaway,
    GroupOrder, Location, MaxRequestId, Message, MessageType, Namespace, NamespaceDone,
    ObjectStatus, Parameters, Publish, PublishBlocked, PublishDone, PublishNamespace,
    PublishNamespaceCancel, PublishNamespaceDone, REDIRECT, Redirect, RequestError, RequestOk,
    RequestUpdate, RequestsBlocked, Setup, SubgroupHeader, Subscribe, SubscribeNamespace,
    SubscribeOk, SubscribeTracks, TrackProperties, Unsubscribe, Wanted,
};
use smoq::coding::varint;
use smoq::{Path, Timescale, Timestamp, Version};

pub(crate) const DRAFTS: [Version; 2] = [Version::Moqt16, Version::Moqt18];

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

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::NextObject),
        Just(Filter::NextGroup),
        location().prop_map(Filter::From),
        (location(), integer())
            .prop_map(|(start, end)| { Filter::Range { start, end_group: end.max(start.group) } }),
    ]
}

/// The parameters that the draft allows in the message.
fn parameters(kind: MessageType, version: Version) -> impl Strategy<Value = Parameters> {
    use MessageType::{
        Fetch, Publish, PublishOk, RequestOk, RequestUpdate, Subscribe, SubscribeNamespace,
        SubscribeOk, SubscribeTracks,
    };
    let new = version == Version::Moqt18;
    let accepts_publish = kind == if new { RequestOk } else { PublishOk };
    let wants = matches!(kind, Subscribe | RequestUpdate) || accepts_publish;
    let says = matches!(kind, SubscribeOk | Publish | RequestOk);
    let forward =
        wants || kind == Publish || kind == if new { SubscribeTracks } else { SubscribeNamespace };
    let order_of =
        matches!(kind, Subscribe | Fetch) || accepts_publish || new && kind == SubscribeOk;
    let times = (
        option::of(millis().prop_map(|timeout| timeout.max(Duration::from_millis(1)))),
        option::of(millis()),
        option::of(millis()),
        option::of(millis()),
        option::of(millis()),
    );
    let rest = (
        option::of(location()),
        option::of(any::<bool>()),
        option::of(any::<u8>()),
        option::of(filter()),
        option::of(order()),
        option::of(integer()),
        option::of(prefix()),
    );
    (times, rest).prop_map(move |(times, rest)| Parameters {
        delivery_timeout: times.0.filter(|_| wants),
        rendezvous_timeout: times.1.filter(|_| new && kind == Subscribe),
        subgroup_delivery_timeout: times.2.filter(|_| new && wants),
        expires: times.3.filter(|_| says || accepts_publish),
        largest: rest.0.filter(|_| says),
        fill_timeout: times.4.filter(|_| new && kind == Fetch),
        forward: rest.1.filter(|_| forward),
        priority: rest.2.filter(|_| wants || kind == Fetch),
        filter: rest.3.filter(|_| wants),
        order: rest.4.filter(|_| order_of),
        new_group: rest.5.filter(|_| wants),
        prefix: rest.6.filter(|_| new && kind == RequestUpdate),
    })
}

fn properties() -> impl Strategy<Value = TrackProperties> {
    let timescale = (1..varint::MAX).prop_map(|units| Timescale::new(units).unwrap());
    (option::of(millis()), option::of(timescale), option::of(any::<u8>()), option::of(order()))
        .prop_map(|(max_cache, timescale, priority, order)| TrackProperties {
            max_cache,
            timescale,
            priority,
            order,
            mandatory: None,
        })
}

fn setup(version: Version) -> impl Strategy<Value = Setup> {
    let has_credit = version == Version::Moqt16;
    (option::of(text()), option::of(text()), integer(), option::of(text()), any::<bool>()).prop_map(
        move |(path, authority, max, implementation, solicit)| Setup {
            path,
            authority,
            max_request_id: if has_credit { max } else { 0 },
            implementation,
            solicit,
        },
    )
}

fn subscribe(kind: MessageType, version: Version) -> impl Strategy<Value = Subscribe> {
    (integer(), namespace(), text(), parameters(kind, version)).prop_map(
        |(id, namespace, track, parameters)| Subscribe { id, namespace, track, parameters },
    )
}

fn end() -> impl Strategy<Value = FetchEnd> {
    (integer(), option::of(below_max())).prop_map(|(group, object)| FetchEnd { group, object })
}

fn fetch(version: Version) -> impl Strategy<Value = Fetch> {
    let target = prop_oneof![
        (namespace(), text(), location(), end()).prop_map(|(namespace, track, start, end)| {
            FetchTarget::Standalone { namespace, track, start, end }
        }),
        (integer(), integer())
            .prop_map(|(joins, groups_back)| FetchTarget::Relative { joins, groups_back }),
        (integer(), integer()).prop_map(|(joins, group)| FetchTarget::Absolute { joins, group }),
    ];
    (integer(), target, parameters(MessageType::Fetch, version))
        .prop_map(|(id, target, parameters)| Fetch { id, target, parameters })
}

fn error(version: Version) -> impl Strategy<Value = RequestError> {
    let old = version == Version::Moqt16;
    let redirect = (text(), prefix(), text()).prop_map(|(uri, namespace, track)| Redirect {
        uri,
        namespace,
        track,
    });
    (reply_id(version), integer(), option::of(below_max()), text(), option::of(redirect)).prop_map(
        move |(id, code, retry, reason, redirect)| {
            let redirect = redirect.filter(|_| !old);
            let code = match redirect {
                Some(_) => REDIRECT,
                None if code == REDIRECT => 0,
                None => code,
            };
            let retry = retry.map(|millis| Duration::from_millis(millis.min(varint::MAX - 2)));
            RequestError { id, code, retry, reason, redirect }
        },
    )
}

/// The request id of an answer, on drafts where answers have one.
fn reply_id(version: Version) -> impl Strategy<Value = Option<u64>> {
    let has_id = version == Version::Moqt16;
    integer().prop_map(move |id| Some(id).filter(|_| has_id))
}

/// Any message of the type; `None` if the draft does not have or write it.
pub(crate) fn message(kind: MessageType, version: Version) -> Option<BoxedStrategy<Message>> {
    let is_received_only = version == Version::Moqt18
        && matches!(kind, MessageType::Unsubscribe | MessageType::FormerSubscribeNamespace);
    if kind.number(draft(version)).is_none() || is_received_only {
        return None;
    }
    let new = version == Version::Moqt18;
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
        MessageType::SubscribeOk => (reply_id(version), integer(), parameters, properties())
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
        MessageType::RequestOk => (reply_id(version), parameters, properties())
            .prop_map(move |(id, parameters, properties)| {
                let properties = if new { properties } else { TrackProperties::default() };
                Message::RequestOk(RequestOk { id, parameters, properties })
            })
            .boxed(),
        MessageType::PublishOk => (reply_id(version), parameters)
            .prop_map(|(id, parameters)| {
                let properties = TrackProperties::default();
                Message::PublishOk(RequestOk { id, parameters, properties })
            })
            .boxed(),
        MessageType::Namespace => {
            prefix().prop_map(|suffix| Message::Namespace(Namespace { suffix })).boxed()
        }
        MessageType::NamespaceDone => {
            prefix().prop_map(|suffix| Message::NamespaceDone(NamespaceDone { suffix })).boxed()
        }
        MessageType::PublishNamespaceDone => integer()
            .prop_map(|id| Message::PublishNamespaceDone(PublishNamespaceDone { id }))
            .boxed(),
        MessageType::Unsubscribe => {
            integer().prop_map(|id| Message::Unsubscribe(Unsubscribe { id: Some(id) })).boxed()
        }
        MessageType::PublishDone => (reply_id(version), integer(), option::of(below_max()), text())
            .prop_map(|(id, status, streams, reason)| {
                Message::PublishDone(PublishDone { id, status, streams, reason })
            })
            .boxed(),
        MessageType::PublishNamespaceCancel => (integer(), integer(), text())
            .prop_map(|(id, code, reason)| {
                Message::PublishNamespaceCancel(PublishNamespaceCancel { id, code, reason })
            })
            .boxed(),
        MessageType::PublishBlocked => (prefix(), text())
            .prop_map(|(suffix, track)| Message::PublishBlocked(PublishBlocked { suffix, track }))
            .boxed(),
        MessageType::Goaway => (text(), millis(), integer())
            .prop_map(move |(uri, timeout, request)| {
                let timeout = if new { timeout } else { Duration::ZERO };
                Message::Goaway(Goaway { uri, timeout, request: Some(request).filter(|_| new) })
            })
            .boxed(),
        MessageType::SubscribeNamespace => (integer(), prefix(), 0..3_u8, parameters)
            .prop_map(move |(id, prefix, wanted, parameters)| {
                let wanted = match wanted {
                    0 if !new => Wanted::Tracks,
                    2 if !new => Wanted::Both,
                    _ => Wanted::Namespaces,
                };
                Message::SubscribeNamespace(SubscribeNamespace { id, prefix, wanted, parameters })
            })
            .boxed(),
        MessageType::FormerSubscribeNamespace => return None,
        MessageType::SubscribeTracks => (integer(), prefix(), parameters)
            .prop_map(|(id, prefix, parameters)| {
                Message::SubscribeTracks(SubscribeTracks { id, prefix, parameters })
            })
            .boxed(),
        MessageType::MaxRequestId => {
            integer().prop_map(|max| Message::MaxRequestId(MaxRequestId { max })).boxed()
        }
        MessageType::Fetch => fetch(version).prop_map(Message::Fetch).boxed(),
        MessageType::FetchCancel => {
            integer().prop_map(|id| Message::FetchCancel(FetchCancel { id })).boxed()
        }
        MessageType::FetchOk => (reply_id(version), any::<bool>(), end(), parameters, properties())
            .prop_map(|(id, end_of_track, end, parameters, properties)| {
                Message::FetchOk(FetchOk { id, end_of_track, end, parameters, properties })
            })
            .boxed(),
        MessageType::RequestsBlocked => {
            integer().prop_map(|max| Message::RequestsBlocked(RequestsBlocked { max })).boxed()
        }
        MessageType::Publish => {
            (integer(), namespace(), text(), integer(), parameters, properties())
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

/// Every message of each draft.
pub(crate) fn any_message() -> impl Strategy<Value = (Version, Message)> {
    let pairs = DRAFTS.into_iter().flat_map(|version| {
        (0..=0x2f00).filter_map(move |number| {
            Some((version, MessageType::from_u64(number, draft(version))?))
        })
    });
    let messages = pairs.filter_map(|(version, kind)| {
        Some(message(kind, version)?.prop_map(move |message| (version, message)).boxed())
    });
    proptest::strategy::Union::new(messages)
}

pub(crate) fn subgroup(version: Version) -> impl Strategy<Value = SubgroupHeader> {
    let numbers = (integer(), integer(), option::of(integer()), option::of(any::<u8>()));
    (numbers, any::<[bool; 3]>()).prop_map(
        move |((alias, group, subgroup, priority), [properties, end_of_group, first_object])| {
            let first_object = first_object && version == Version::Moqt18;
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
pub(crate) fn datagram() -> impl Strategy<Value = (DatagramHead, usize)> {
    let numbers = (integer(), integer(), prop_oneof![Just(0), integer()], option::of(any::<u8>()));
    (numbers, any::<bool>(), timestamp(), 0..5_usize, 0..3_u8).prop_map(
        |((alias, group, object, priority), end_of_group, timestamp, size, status)| {
            let status = match status {
                1 if size == 0 => ObjectStatus::EndOfGroup,
                2 if size == 0 => ObjectStatus::EndOfTrack,
                _ => ObjectStatus::Normal,
            };
            let timestamp = timestamp.filter(|_| status == ObjectStatus::Normal);
            let end_of_group = end_of_group && size > 0;
            let head =
                DatagramHead { alias, group, object, priority, end_of_group, timestamp, status };
            (head, size)
        },
    )
}
