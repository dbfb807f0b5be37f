//! What 14 and 15 have and later drafts do not: announcements that end by name, answers for each kind of
//! request, and the list of versions in the set-up.

use super::*;

const EARLY: [Version; 2] = [Moqt14, Moqt15];

fn publish_namespace(id: u64, name: &str) -> Message {
    let parameters = Parameters::default();
    Message::PublishNamespace(PublishNamespace { id, namespace: path(name), parameters })
}

fn active(suffix: &str) -> Announcement {
    let (hops, cost) = (Hops::new(), Cost { warm: 0, cold: 0 });
    Announcement::Active { suffix: path(suffix), hops, cost }
}

fn named(name: &str) -> NamespaceRequest {
    NamespaceRequest::Namespace(path(name))
}

fn requested(event: Event) -> RequestKey {
    match event {
        Event::AnnounceRequested { request, .. } | Event::SubscribeRequested { request, .. } => {
            request
        }
        other => panic!("{other:?}"),
    }
}

/// The set-up of 14 has a list of versions. Without this draft in it the session ends with
/// VERSION_NEGOTIATION_FAILED.
#[test]
fn the_set_up_of_14_selects_the_version() {
    let mut client = Lone::new(config(Side::Client, Moqt14));
    let control = client.own(Dir::Bi, 0);
    assert_eq!(client.sent(control), bytes("20 0012 01 c0000000ff00000e 02 02 80004000 04 5000"));
    client.data(control, "21 000c c0000000ff00000e 01 02 4064");
    assert!(!client.end.is_closed());

    let mut server = Lone::new(config(Side::Server, Moqt14));
    let control = server.open(Dir::Bi, "20 0012 02 c0000000ff00000d c0000000ff00000e 00");
    assert_eq!(server.sent(control), bytes("21 0011 c0000000ff00000e 02 02 80004000 04 5000"));

    let mut server = Lone::new(config(Side::Server, Moqt14));
    server.open(Dir::Bi, "20 000a 01 c0000000ff00000d 00");
    server.closed_with(0x15);
}

/// Each kind of request has its own error on 14, with the codes of that kind.
#[test]
fn each_request_of_14_has_its_own_answers() {
    let mut talk = Talk::quiet(Side::Server, Moqt14);
    let stream = talk.request(subscribe_message);
    let request = requested(one(talk.lone.events()));
    talk.lone.sent.remove(&stream);
    talk.lone.apply(Command::Refuse { request, error: Error::NotFound });
    // SUBSCRIBE_ERROR, TRACK_DOES_NOT_EXIST.
    assert_eq!(talk.lone.sent(stream), bytes("05 0003 00 04 00"));

    talk.lone.sent.remove(&stream);
    talk.request(|id| publish_namespace(id, "room"));
    // PUBLISH_NAMESPACE_ERROR, UNINTERESTED.
    assert_eq!(talk.lone.sent(stream), bytes("08 0003 02 04 00"));

    talk.lone.sent.remove(&stream);
    talk.request(|id| {
        let target = FetchTarget::Relative { joins: 0, groups_back: 0 };
        Message::Fetch(Fetch { id, target, parameters: Parameters::default() })
    });
    // FETCH_ERROR, INVALID_JOINING_REQUEST_ID.
    assert_eq!(talk.lone.sent(stream), bytes("19 0003 04 07 00"));

    let mut client = Talk::quiet(Side::Client, Moqt14);
    let (stream, asked) = client.subscribe();
    let (id, code) = (Some(asked.id), 0x10);
    let error = RequestError { id, code, ..RequestError::default() };
    client.send(stream, &Message::SubscribeError(error));
    let (subscription, result) = (token(0), Err(Error::NotFound));
    assert_eq!(client.lone.events(), [Event::SubscribeEnded { subscription, result }]);
}

/// SUBSCRIBE of 14 always has a filter. Without a start it asks for the groups after the latest one.
#[test]
fn a_subscription_of_14_begins_with_a_group() {
    let mut client = Talk::quiet(Side::Client, Moqt14);
    let (_, asked) = client.subscribe();
    assert_eq!(asked.parameters.filter, Some(Filter::NextGroup));
}

/// PUBLISH_OK of 14 must name an order.
#[test]
fn an_offer_of_14_is_accepted_with_an_order() {
    let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(interested(Side::Server, Moqt14), setup);
    let stream = talk.request(|id| {
        let (namespace, track) = (path("demo"), "video".into());
        let (parameters, properties) = Default::default();
        Message::Publish(Publish { id, namespace, track, alias: 77, parameters, properties })
    });
    let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!("no offer") };
    talk.lone.apply(Command::AcceptOffer { request });
    let Message::PublishOk(ok) = talk.written_one(stream) else { panic!("no PUBLISH_OK") };
    let order = Some(GroupOrder::Descending);
    assert_eq!((ok.parameters.order, ok.parameters.forward), (order, Some(false)));
}

/// SUBSCRIBE_UPDATE has no answer on 14.
#[test]
fn an_update_of_14_has_no_answer() {
    let mut talk = Talk::quiet(Side::Server, Moqt14);
    let stream = talk.request(subscribe_message);
    let request = requested(one(talk.lone.events()));
    talk.lone.apply(Command::AcceptSubscribe {
        request,
        info: TrackInfo::default(),
        largest: None,
    });
    talk.written(stream);
    for (id, forward) in [(2, false), (4, true)] {
        let parameters =
            Parameters { priority: Some(9), forward: Some(forward), ..Parameters::default() };
        let update = RequestUpdate { id, existing: Some(0), parameters };
        talk.send(stream, &Message::RequestUpdate(update));
        let event = one(talk.lone.events());
        assert!(matches!(event, Event::SubscribeUpdated { .. }), "{event:?}");
        assert_eq!(talk.written(stream), []);
    }
}

/// Announcements of both ends end by their namespace.
#[test]
fn announcements_end_by_name() {
    for version in EARLY {
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let control = talk.control.unwrap();
        let request = requested(one(talk.lone.events()));
        talk.lone.end.source.announce(token(7), active("room/a"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 1 });
        assert_eq!(
            talk.written_one(control),
            publish_namespace(0, "room/a"),
            "the root is not requested"
        );
        talk.lone.end.source.announce(token(7), Announcement::Ended { suffix: path("room/a") });
        talk.lone.apply(Command::AnnouncementsReady { request });
        let done = |name| Message::PublishNamespaceDone(named(name));
        assert_eq!(talk.written_one(control), done("room/a"));

        talk.request(|id| publish_namespace(id, "room/b"));
        let event = one(talk.lone.events());
        assert!(matches!(event, Event::Announced { .. }), "{event:?}");
        talk.send(control, &done("room/b"));
        assert_eq!(talk.lone.events(), [Event::Unannounced { path: path("room/b") }]);
    }
}

/// A request for announcements is answered by PUBLISH_NAMESPACE, and ends by its prefix (14) or id (15).
#[test]
fn requested_announcements_are_requests_themselves() {
    for version in EARLY {
        let mut talk = Talk::quiet(Side::Server, version);
        let control = talk.control.unwrap();
        talk.request(|id| {
            let prefix = path("room");
            Message::SubscribeNamespace(SubscribeNamespace { id, prefix, ..Default::default() })
        });
        let request = requested(one(talk.lone.events()));
        talk.lone.end.source.announce(token(3), active("a"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 1 });
        let written = talk.written(control);
        assert_eq!(written[1..], [publish_namespace(1, "room/a")], "{version}");
        assert!(matches!(written[0].clone().unified(), Message::RequestOk(_)));
        let ended = if version == Moqt14 { named("room") } else { NamespaceRequest::Id(0) };
        talk.send(control, &Message::UnsubscribeNamespace(ended));
        let result = Err(Error::Cancelled);
        assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result }], "{version}");
    }
}
