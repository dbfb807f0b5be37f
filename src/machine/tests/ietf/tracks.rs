//! SUBSCRIBE_TRACKS, and the PUBLISH of each track below its prefix (*Subscribing to Tracks*, 18 and later; before, an
//! option of SUBSCRIBE_NAMESPACE).

use super::*;

const DRAFTS: [Version; 5] = [Moqt18, Moqt19, Moqt20, Moqt21, Moqt22];

fn track(suffix: &str, name: &str) -> Announcement {
    let (suffix, track) = (path(suffix), name.into());
    Announcement::Track { suffix, track, info: TrackInfo::default(), largest: None }
}

fn subscribe_tracks(id: u64, prefix: &str) -> Message {
    subscribe_tracks_with(id, prefix, Parameters::default())
}

fn subscribe_tracks_with(id: u64, prefix: &str, parameters: Parameters) -> Message {
    let (prefix, wanted) = (path(prefix), Wanted::default());
    Message::SubscribeTracks(SubscribeNamespace { id, prefix, wanted, parameters })
}

fn blocked(suffix: &str, name: &str) -> Message {
    Message::PublishBlocked(PublishBlocked { suffix: path(suffix), track: name.into() })
}

fn update(id: u64, parameters: Parameters) -> Message {
    Message::RequestUpdate(RequestUpdate { id, existing: None, parameters })
}

/// The application accepts the request that the peer just made. Its tracks are those of the reader `slot`.
fn accepted(talk: &mut Talk, slot: u32) -> RequestKey {
    let request = match one(talk.lone.events()) {
        Event::TracksRequested { request, .. } => request,
        other => panic!("{other:?}"),
    };
    talk.lone.apply(Command::AcceptAnnounce { request, reader: token(slot), active: 0 });
    request
}

/// A session whose peer asked for the tracks below `prefix`, which was accepted.
fn asked(version: Version, prefix: &str) -> (Talk, RequestKey, StreamId) {
    asked_with(config(Side::Server, version), prefix)
}

fn asked_with(config: Config, prefix: &str) -> (Talk, RequestKey, StreamId) {
    let mut talk = Talk::with(config, Setup { solicit: true, ..Setup::default() });
    let stream = talk.request(|id| subscribe_tracks(id, prefix));
    let request = accepted(&mut talk, 3);
    assert_eq!(talk.written_one(stream), Message::RequestOk(RequestOk::default()));
    (talk, request, stream)
}

/// There is another track.
fn appears(talk: &mut Talk, request: RequestKey, track: Announcement) {
    talk.lone.end.source.announce(token(3), track);
    talk.lone.apply(Command::AnnouncementsReady { request });
}

fn published(talk: &mut Talk, index: u64) -> Publish {
    match talk.written_one(talk.lone.own(Dir::Bi, index)) {
        Message::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

/// D22-3-6-MUST-082: REQUEST_OK comes first. D22-3-1-MUST-NOT-038: each track is offered by one PUBLISH, which is a
/// subscription as soon as the peer accepts it.
#[test]
fn each_track_of_a_prefix_is_published_and_subscribed() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| subscribe_tracks(id, "room"));
        let request = match one(talk.lone.events()) {
            Event::TracksRequested { request, prefix, .. } => {
                assert_eq!(prefix, path("room"));
                request
            }
            other => panic!("{other:?}"),
        };
        talk.lone.end.source.announce(token(3), track("a", "video"));
        assert_eq!(talk.written(stream), []);
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 0 });
        assert_eq!(talk.written_one(stream), Message::RequestOk(RequestOk::default()));

        let first = published(&mut talk, 0);
        assert_eq!((first.id, first.alias), (1, 1), "the alias is the id of the request");
        assert_eq!((first.namespace, &*first.track), (path("room/a"), "video"));
        assert_eq!(first.parameters, Parameters::default());
        assert_eq!(first.properties.order, Some(GroupOrder::Descending));
        let largest = Some(FramePosition::new(7, 2));
        let (suffix, info) = (path(""), TrackInfo::default());
        appears(
            &mut talk,
            request,
            Announcement::Track { suffix, track: "".into(), info: info.clone(), largest },
        );
        let second = published(&mut talk, 1);
        assert_eq!((second.id, second.namespace, &*second.track), (3, path("room"), ""));
        // D22-9-20-17-MUST-441.
        assert_eq!(second.parameters.largest, Some(Location::new(7, 2)));
        assert_eq!(talk.lone.events(), [], "nothing is subscribed before the peer accepts it");

        let offer = talk.lone.own(Dir::Bi, 0);
        talk.send(offer, &Message::RequestOk(RequestOk::default()));
        let sub = match one(talk.lone.events()) {
            Event::SubscribeRequested { request, broadcast, track, subscription, .. } => {
                assert_eq!((broadcast, &*track), (path("room/a"), "video"));
                assert_eq!(subscription.priority, 127);
                request
            }
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::AcceptSubscribe { request: sub, info, largest: None });
        assert_eq!(talk.written(offer), [], "it was accepted by PUBLISH");

        // D22-3-6-3: the end of the request ends no subscription.
        talk.lone.reset(stream, 0x1);
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events(), [over]);
        appears(&mut talk, request, track("b", "late"));
        assert!(talk.lone.sent(talk.lone.own(Dir::Bi, 2)).is_empty());
        talk.lone.end.source.insert(token(7), [Frame::new(0, "hi")]);
        talk.lone.apply(group(sub, 7));
        let data = talk.lone.sent(talk.lone.own(Dir::Uni, 1)).replace(' ', "");
        assert!(data.starts_with("590107"), "{data}");

        let parameters = Parameters { priority: Some(9), ..Parameters::default() };
        let id = talk.next;
        talk.send(offer, &update(id, parameters));
        assert!(matches!(talk.written_one(offer), Message::RequestOk(_)));
        assert!(matches!(
            talk.lone.events()[..],
            [Event::GroupReleased { .. }, Event::SubscribeUpdated { .. }]
        ));
        talk.lone.apply(Command::FinishSubscribe { request: sub, end: 8 });
        assert_eq!(talk.written_one(offer), talk.done(1, TRACK_ENDED, 1));
        talk.lone.fin(offer, "");
        assert!(!talk.lone.end.is_closed());
    }
}

/// On 16 and 17 SUBSCRIBE_NAMESPACE may ask for tracks (*Subscribe Options* 0). `aiomoqt` 0.13 finds tracks by it.
#[test]
fn tracks_were_an_option_of_subscribe_namespace() {
    for version in [Moqt16, Moqt17] {
        let setup = Setup { solicit: true, max_request_id: 2, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Server, version), setup);
        let stream = talk.request(|id| {
            let (prefix, wanted, parameters) = (path("room"), Wanted::Tracks, Default::default());
            Message::SubscribeNamespace(SubscribeNamespace { id, prefix, wanted, parameters })
        });
        let request = accepted(&mut talk, 3);
        let id = talk.id(0);
        let ok = Message::RequestOk(RequestOk { id, ..RequestOk::default() });
        assert_eq!(talk.written_one(stream), ok);
        appears(&mut talk, request, track("a", "video"));
        let offers = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        let Message::Publish(first) = talk.written_one(offers) else { panic!() };
        assert_eq!((first.namespace, &*first.track), (path("room/a"), "video"));
        appears(&mut talk, request, track("b", "video"));
        let second = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 1));
        if version == Moqt16 {
            // That many ids were granted.
            assert_eq!(talk.written(second), []);
            talk.send(second, &Message::MaxRequestId(100));
        }
        let Message::Publish(publish) = talk.written_one(second) else { panic!() };
        assert_eq!(publish.namespace, path("room/b"));

        let id = talk.id(first.id);
        talk.send(offers, &Message::PublishOk(RequestOk { id, ..RequestOk::default() }));
        let sub = match one(talk.lone.events()) {
            Event::SubscribeRequested { request, broadcast, .. } => {
                assert_eq!(broadcast, path("room/a"));
                request
            }
            other => panic!("{other:?}"),
        };
        let info = TrackInfo::default();
        talk.lone.apply(Command::AcceptSubscribe { request: sub, info, largest: None });
        assert_eq!(talk.written(offers), []);
        // The peer changes its subscription, and ends it. On 16 that is a message on the control stream.
        let (next, existing) = (talk.next, talk.id(first.id));
        talk.next += 2;
        let parameters = Parameters { priority: Some(9), ..Parameters::default() };
        let change = RequestUpdate { id: next, existing, parameters };
        talk.send(offers, &Message::RequestUpdate(change));
        assert!(matches!(talk.lone.events()[..], [Event::SubscribeUpdated { .. }]));
        match version {
            Moqt16 => talk.send(offers, &Message::Unsubscribe(Unsubscribe { id: existing })),
            _ => talk.lone.reset(offers, 0),
        }
        assert!(
            matches!(talk.lone.events()[..], [Event::RequestEnded { request, .. }] if request == sub)
        );
        // FIN ends the request for tracks, as it does that for namespaces.
        talk.lone.fin(stream, "");
        assert!(matches!(talk.lone.events()[..], [Event::RequestEnded { .. }]));
        assert!(!talk.lone.end.is_closed());
    }
}

fn subscribe_namespace(id: u64, wanted: Wanted, forward: Option<bool>) -> Message {
    let parameters = Parameters { forward, ..Parameters::default() };
    let prefix = path("room");
    Message::SubscribeNamespace(SubscribeNamespace { id, prefix, wanted, parameters })
}

/// A peer that asks for namespaces and tracks at once: by *Subscribe Options* 2 on 16 and 17, by any request for namespaces
/// before. There it is announced everything without a request.
fn asks_for_both(version: Version) -> (Talk, StreamId, RequestKey, bool) {
    let setup = Setup { max_request_id: 1_000, ..Setup::default() };
    let mut talk = Talk::with(config(Side::Server, version), setup);
    let unsolicited = one(talk.lone.events());
    assert!(matches!(unsolicited, Event::AnnounceRequested { .. }), "{unsolicited:?}");
    let has_option = version > Moqt15;
    let wanted = if has_option { Wanted::Both } else { Wanted::default() };
    let forward = (version > Moqt14).then_some(false);
    let stream = talk.request(|id| subscribe_namespace(id, wanted, forward));
    let event = one(talk.lone.events());
    let Event::TracksRequested { request, prefix, names, .. } = event else { panic!("{event:?}") };
    assert_eq!((prefix, names), (path("room"), has_option), "{version}");
    (talk, stream, request, has_option)
}

const BOTH: [Version; 4] = [Moqt14, Moqt15, Moqt16, Moqt17];

/// *Subscribe Options* of 16 and 17, and SUBSCRIBE_NAMESPACE of 14 and 15: PUBLISH for each track, beside the namespaces.
#[test]
fn one_request_may_ask_for_namespaces_and_tracks() {
    for version in BOTH {
        let (mut talk, stream, request, has_option) = asks_for_both(version);
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 0 });
        let ok = talk.written_one(stream);
        assert!(matches!(ok, Message::RequestOk(_) | Message::SubscribeNamespaceOk(_)), "{ok:?}");
        if has_option {
            let (hops, cost) = (Hops::new(), Cost { warm: 0, cold: 0 });
            appears(&mut talk, request, Announcement::Active { suffix: path("a"), hops, cost });
            assert_eq!(talk.written_one(stream), Message::Namespace(path("a")), "{version}");
        }
        appears(&mut talk, request, track("a", "video"));
        let offers = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        let Message::Publish(offer) = talk.written_one(offers) else { panic!("{version}") };
        assert_eq!((offer.namespace, &*offer.track), (path("room/a"), "video"), "{version}");
        let forward = version == Moqt14;
        assert_eq!(offer.parameters.forward, Some(forward), "{version}");
        // PUBLISH of 14 must name an order.
        let order = (version == Moqt14).then_some(GroupOrder::Descending);
        assert_eq!(offer.parameters.order, order, "{version}");
        let id = talk.id(offer.id);
        let parameters = Parameters { forward: Some(true), ..Parameters::default() };
        let accepted = Message::PublishOk(RequestOk { id, parameters, ..RequestOk::default() });
        talk.send(offers, &accepted);
        let event = one(talk.lone.events());
        let Event::SubscribeRequested { request: sub, .. } = event else { panic!("{event:?}") };
        let info = TrackInfo::default();
        talk.lone.apply(Command::AcceptSubscribe { request: sub, info, largest: None });
        talk.lone.end.source.insert(token(7), [Frame::new(0, "hi")]);
        talk.lone.apply(group(sub, 7));
        let data = talk.lone.own(Dir::Uni, u64::from(version == Moqt17));
        assert!(!talk.lone.sent(data).is_empty(), "{version}");
        talk.lone.events();

        // It overlaps with requests for either.
        let wanted = if has_option { Wanted::Namespaces } else { Wanted::default() };
        let again = talk.request(|id| subscribe_namespace(id, wanted, None));
        let refusal = talk.written_one(again);
        assert!(
            matches!(&refusal, Message::RequestError(it) | Message::SubscribeNamespaceError(it)
                if it.code == PREFIX_OVERLAP),
            "{version}: {refusal:?}"
        );
        if has_option {
            appears(&mut talk, request, Announcement::Ended { suffix: path("a") });
            assert_eq!(talk.written_one(stream), Message::NamespaceDone(path("a")));
            talk.lone.reset(stream, 0x1);
        } else {
            let name = match version {
                Moqt14 => NamespaceRequest::Namespace(path("room")),
                _ => NamespaceRequest::Id(0),
            };
            talk.send(stream, &Message::UnsubscribeNamespace(name));
        }
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events(), [over], "{version}: and no subscription");
        appears(&mut talk, request, track("b", "late"));
        assert!(talk.lone.sent(talk.lone.own(Dir::Bi, 1)).is_empty());
        assert!(!talk.lone.end.is_closed());
    }
}

/// One decision is about both.
#[test]
fn a_refusal_refuses_namespaces_and_tracks() {
    for version in BOTH {
        let (mut talk, stream, request, _) = asks_for_both(version);
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        let refusal = talk.written_one(stream);
        assert!(
            matches!(&refusal, Message::RequestError(it) | Message::SubscribeNamespaceError(it)
                if it.code == 0x1),
            "{version}: {refusal:?}"
        );
        assert!(!talk.lone.end.is_closed());
    }
}

/// They want the namespaces alone, whatever the option says. `moq-lite` 0.16 names itself, its successors send SOLICIT.
#[test]
fn peers_of_moq_dev_get_no_tracks_with_the_namespaces() {
    for version in BOTH {
        for (implementation, solicit) in
            [(None, true), (Some("moq-lite-rs"), false), (Some("moq-lite-js"), false)]
        {
            let implementation = implementation.map(Into::into);
            let setup =
                Setup { implementation, solicit, max_request_id: 1_000, ..Setup::default() };
            let mut talk = Talk::with(config(Side::Server, version), setup);
            talk.lone.events();
            let wanted = if version > Moqt15 { Wanted::Both } else { Wanted::default() };
            talk.request(|id| subscribe_namespace(id, wanted, None));
            let event = one(talk.lone.events());
            assert!(matches!(event, Event::AnnounceRequested { .. }), "{version}: {event:?}");
        }
    }
}

/// The bytes of G191, G221 and G222. D22-9-20-2-MUST-NOT-399: the token stays here. The parameters are those of each
/// PUBLISH, where the draft has them.
#[test]
fn the_parameters_of_subscribe_tracks_are_those_of_publish() {
    let offered = |version, ask: &str| {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.open(Dir::Bi, ask);
        let Event::TracksRequested { request, tokens, .. } = one(talk.lone.events()) else {
            panic!()
        };
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 0 });
        appears(&mut talk, request, track("", "video"));
        (published(&mut talk, 0).parameters, tokens.len())
    };
    let paused = Parameters { forward: Some(false), ..Parameters::default() };
    let ask = "51 0011 02 01 04 6c697665 02 03 05 03 00 616263 0d 00";
    assert_eq!(offered(Moqt18, ask), (paused.clone(), 1));

    let parameters = Parameters {
        forward: Some(false),
        order: Some(GroupOrder::Descending),
        priority: Some(55),
        filter: Some(Filter::NextObject),
        new_group: Some(4),
        rendezvous_timeout: Some(ms(5)),
        fill: None,
        ..Parameters::default()
    };
    let ask = |version| wire(version, &subscribe_tracks_with(0, "live", parameters.clone()));
    let ordered = Parameters { order: parameters.order, ..paused.clone() };
    assert_eq!(offered(Moqt19, &ask(Moqt19)), (ordered, 0));
    for version in [Moqt20, Moqt21, Moqt22] {
        let (new_group, rendezvous_timeout) = (None, None);
        let all = Parameters { new_group, rendezvous_timeout, ..parameters.clone() };
        assert_eq!(offered(version, &ask(version)), (all, 0), "{version}");
    }

    // The subscription is paused, until the peer says otherwise: in the answer (18, 19), or by an update.
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.request(|id| subscribe_tracks_with(id, "live", paused.clone()));
        let request = accepted(&mut talk, 3);
        appears(&mut talk, request, track("", "video"));
        published(&mut talk, 0);
        let offer = talk.lone.own(Dir::Bi, 0);
        talk.send(offer, &Message::RequestOk(RequestOk::default()));
        let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        let (info, largest) = (TrackInfo::default(), None);
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
        talk.lone.end.source.insert(token(7), [Frame::new(0, "hi")]);
        talk.lone.apply(group(request, 7));
        let released = Event::GroupReleased { group: token(7), sent: false };
        assert_eq!(talk.lone.events(), [released]);
        let forward = Parameters { forward: Some(true), ..Parameters::default() };
        let id = talk.next;
        talk.send(offer, &update(id, forward));
        talk.lone.apply(group(request, 7));
        assert!(!talk.lone.sent(talk.lone.own(Dir::Uni, 1)).is_empty(), "{version}");
    }
}

/// D22-3-6-MUST-083: a prefix that covers another one, or is covered by it. Requests for namespaces are apart, and the
/// prefix of a request that is over is free.
#[test]
fn prefixes_of_tracks_do_not_overlap() {
    for version in DRAFTS {
        let (mut talk, _, stream) = asked(version, "room/a");
        for prefix in ["room/a", "room", "", "room/a/b"] {
            let again = talk.request(|id| subscribe_tracks(id, prefix));
            assert_eq!(talk.written_one(again), talk.error(0, PREFIX_OVERLAP), "{prefix:?}");
            assert!(talk.finished(again));
        }
        assert_eq!(talk.lone.events(), []);
        talk.request(|id| subscribe_tracks(id, "room/ab"));
        accepted(&mut talk, 4);
        talk.request(|id| {
            let prefix = path("room");
            Message::SubscribeNamespace(SubscribeNamespace { id, prefix, ..Default::default() })
        });
        assert!(matches!(one(talk.lone.events()), Event::AnnounceRequested { .. }));
        // FIN only says that no update follows.
        talk.lone.fin(stream, "");
        assert_eq!(talk.lone.events(), []);
        talk.lone.stop(stream, 0x1);
        assert!(matches!(one(talk.lone.events()), Event::RequestEnded { .. }));
        talk.request(|id| subscribe_tracks(id, "room/a"));
        accepted(&mut talk, 5);
    }
    // A new prefix that overlaps with that of another request (D22-9-20-20-MUST-455).
    let prefix = Parameters { prefix: Some(path("hall")), ..Parameters::default() };
    let priority = Parameters { priority: Some(3), ..Parameters::default() };
    for (parameters, code) in [(prefix, PREFIX_OVERLAP), (priority, NOT_SUPPORTED)] {
        let (mut talk, request, stream) = asked(Moqt22, "room");
        talk.request(|id| subscribe_tracks(id, "hall"));
        accepted(&mut talk, 4);
        let id = talk.next;
        talk.send(stream, &update(id, parameters));
        assert_eq!(talk.written_one(stream), talk.error(0, code));
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events(), [over]);
    }
}

/// D22-3-6-MUST-084: the application decides, and a refusal is the answer.
#[test]
fn the_application_may_refuse_the_tracks() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| subscribe_tracks(id, "room"));
        let Event::TracksRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        assert_eq!(talk.written_one(stream), talk.error(0, 0x1));
        assert!(talk.finished(stream) && !talk.lone.end.is_closed());
    }
}

/// D22-9-20-14-MUST-428, -429: no filter is allowed (MAX_FILTER_RANGES is 0), so that each is INVALID_FILTER, whatever the
/// type of its property.
#[test]
fn filters_of_track_properties_are_refused() {
    for version in [Moqt19, Moqt20, Moqt21, Moqt22] {
        for property in ["0e", "0f"] {
            let mut talk = Talk::quiet(Side::Server, version);
            let body = format!("00 01 04 6c697665 01 29 06 00 {property} 03020505");
            let ask = format!("51 {:04x} {body}", hex(&body).len());
            let stream = talk.lone.open(Dir::Bi, &ask);
            assert_eq!(talk.written_one(stream), talk.error(0, INVALID_FILTER), "{version}");
            assert_eq!(talk.lone.events(), []);
        }
    }
}

/// A peer that refuses an offer, gives it up, or answers nothing ends that offer alone.
#[test]
fn offers_end_without_a_subscription() {
    for version in DRAFTS {
        let unused = Talk::quiet(Side::Server, version).lone.end.machine.entries();
        let (mut talk, request, stream) = asked(version, "room");
        for index in 0..4 {
            appears(&mut talk, request, track("a", &index.to_string()));
            published(&mut talk, index);
            let offer = talk.lone.own(Dir::Bi, index);
            match index {
                0 => {
                    let refusal = talk.error(1, UNINTERESTED);
                    talk.send(offer, &refusal);
                }
                1 => talk.lone.reset(offer, 0x1),
                2 => talk.lone.stop(offer, 0x1),
                _ => {}
            }
            if index != 1 {
                talk.lone.fin(offer, "");
            }
            assert_eq!((talk.lone.events(), talk.written(stream)), (vec![], vec![]));
        }
        // One that can't be served ends by PUBLISH_DONE.
        appears(&mut talk, request, track("a", "gone"));
        published(&mut talk, 4);
        let offer = talk.lone.own(Dir::Bi, 4);
        talk.send(offer, &Message::RequestOk(RequestOk::default()));
        let Event::SubscribeRequested { request: sub, .. } = one(talk.lone.events()) else {
            panic!()
        };
        talk.lone.apply(Command::Refuse { request: sub, error: Error::Unauthorized });
        assert_eq!(talk.written_one(offer), talk.done(1, 0x1, 0));
        talk.lone.fin(offer, "");
        talk.lone.reset(stream, 0x1);
        talk.lone.events();
        assert_eq!(talk.lone.end.machine.entries(), unused, "{version}: nothing is remembered");
        assert!(!talk.lone.end.is_closed());
    }
}

/// Another message than an answer closes the session, and so does a request in the form of another one.
#[test]
fn wrong_answers_to_an_offer_close_the_session() {
    for version in DRAFTS {
        let wrong = [
            wire(version, &Message::SubscribeOk(SubscribeOk::default())),
            wire(version, &update(2, Parameters::default())),
            wire(version, &subscribe_tracks(2, "room")),
            "4f 0000".into(),
            "07 0001 01".into(),
        ];
        for bytes in wrong {
            let (mut talk, request, _) = asked(version, "room");
            appears(&mut talk, request, track("a", "video"));
            talk.lone.data(talk.lone.own(Dir::Bi, 0), &bytes);
            talk.closed_with(0x3);
        }
        for ask in ["51 0003 00 00 01", "51 0002 00 21", "51 0004 00 00 00 00", "51 0000"] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.open(Dir::Bi, ask);
            talk.closed_with(0x3);
        }
    }
}

/// A track that can't be offered is named by PUBLISH_BLOCKED (18) or PUBLISH_SKIPPED on the request, and others go on.
#[test]
fn a_track_that_can_not_be_offered_is_skipped() {
    for version in DRAFTS {
        let limits = Limits { subscriptions: 2, path_bytes: 64, ..Limits::default() };
        let config = Config { limits, ..config(Side::Server, version) };
        let (mut talk, request, stream) = asked_with(config, "");
        let long = "x".repeat(65);
        for (suffix, name) in [(".session", "a"), (".", "a"), ("a", &*long), (&*long, "a")] {
            appears(&mut talk, request, track(suffix, name));
            assert_eq!(talk.written(stream), [blocked(suffix, name)], "{version}");
        }
        for index in 0..2 {
            appears(&mut talk, request, track("a", &index.to_string()));
            published(&mut talk, index);
        }
        appears(&mut talk, request, track("a", "2"));
        assert_eq!(talk.written(stream), [blocked("a", "2")]);
        // One is refused, so that there is room for another one.
        let refusal = talk.error(1, UNINTERESTED);
        talk.send(talk.lone.own(Dir::Bi, 0), &refusal);
        appears(&mut talk, request, track("a", "3"));
        published(&mut talk, 2);
        // The application leaves: the peer may not get new requests.
        let (uri, timeout) = ("".into(), Duration::from_secs(9));
        talk.lone.apply(Command::GoAway { uri, timeout });
        appears(&mut talk, request, track("a", "4"));
        assert_eq!(talk.written(stream), [blocked("a", "4")]);
    }
}

/// Tracks are read from the application as QUIC takes their offers: one waits for a stream, and the others are not read.
#[test]
fn offers_wait_for_streams_one_at_a_time() {
    for version in DRAFTS {
        let (mut talk, request, stream) = asked(version, "room");
        talk.lone.grants = 2;
        for n in 0..1_000 {
            talk.lone.end.source.announce(token(3), track("a", &n.to_string()));
        }
        talk.lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(talk.lone.opened[0][Dir::Bi as usize], 2);
        let mut left = 0;
        while talk.lone.end.source.announcement(token(3)).is_some() {
            left += 1;
        }
        assert_eq!((left, talk.written(stream)), (997, vec![]), "{version}");

        for n in 0..1_000 {
            talk.lone.end.source.announce(token(3), track("b", &n.to_string()));
        }
        talk.lone.grants = 10;
        talk.lone.handle(Input::Available { dir: Dir::Bi });
        assert_eq!(talk.lone.opened[0][Dir::Bi as usize], 10);
        // The peer cancels while one waits. A track that waits for a stream is still offered, and no other one.
        talk.lone.reset(stream, 0x1);
        talk.lone.grants = 1_000;
        talk.lone.handle(Input::Available { dir: Dir::Bi });
        assert_eq!(talk.lone.opened[0][Dir::Bi as usize], 11);
        assert!(!talk.lone.end.is_closed());
    }
}

/// *Updating Namespace Subscriptions*: FORWARD is that of later offers, and another prefix takes the place of the first one.
/// Each update has one answer, after that of the request (D22-9-5-MUST-356).
#[test]
fn the_peer_updates_its_request_for_tracks() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| subscribe_tracks(id, "room"));
        let id = talk.next;
        let paused = Parameters { forward: Some(false), ..Parameters::default() };
        talk.send(stream, &update(id, paused));
        assert_eq!(talk.written(stream), [], "nothing is answered yet");
        let request = accepted(&mut talk, 3);
        let ok = || Message::RequestOk(RequestOk::default());
        assert_eq!(talk.written(stream), [ok(), ok()], "{version}");
        appears(&mut talk, request, track("a", "video"));
        assert_eq!(published(&mut talk, 0).parameters.forward, Some(false));

        let moved = |to: &str| Parameters { prefix: Some(path(to)), ..Parameters::default() };
        talk.send(stream, &update(id + 2, moved("room/b")));
        talk.send(stream, &update(id + 4, moved("hall")));
        let began = |prefix: &str| {
            let ended = Event::RequestEnded { request, result: Ok(()) };
            let (prefix, names, tokens) = (path(prefix), false, vec![]);
            [ended, Event::TracksRequested { request, prefix, names, tokens }]
        };
        assert_eq!(talk.lone.events(), began("room/b"));
        // Tracks of the former prefix are not read any more.
        appears(&mut talk, request, track("a", "late"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(4), active: 0 });
        assert_eq!(talk.written_one(stream), ok());
        assert_eq!(talk.lone.events(), began("hall"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(5), active: 0 });
        assert_eq!(talk.written_one(stream), ok());
        talk.lone.end.source.announce(token(5), track("c", "video"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        let offer = published(&mut talk, 1);
        assert_eq!((offer.namespace, offer.parameters.forward), (path("hall/c"), Some(false)));
        // The former prefix is free.
        talk.request(|id| subscribe_tracks(id, "room"));
        accepted(&mut talk, 6);

        // The application may refuse the new prefix, which ends the request.
        talk.send(stream, &update(talk.next, moved("secret")));
        assert_eq!(talk.lone.events(), began("secret"));
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        assert_eq!(talk.written_one(stream), talk.error(0, 0x1));
        assert!(talk.finished(stream) && !talk.lone.end.is_closed());
    }
}
