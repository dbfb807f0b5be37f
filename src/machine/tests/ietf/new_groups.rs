//! Requests for a new group (moq-transport-22, 9.20.19 and 10.6).

use super::*;

fn new_group(new_group: Option<u64>) -> Parameters {
    Parameters { new_group, ..Parameters::default() }
}

/// The parameters and properties by which a publisher allows requests, or not. On 14 there are none.
fn allowing(version: Version, allowed: bool) -> (Parameters, TrackProperties) {
    let flag = |it: bool| it.then_some(allowed);
    let (parameter, property) = (flag(version == Moqt15), flag(version >= Moqt16));
    (
        Parameters { dynamic_groups: parameter, ..Parameters::default() },
        TrackProperties { dynamic_groups: property, ..TrackProperties::default() },
    )
}

fn change(new_group: Option<u64>) -> Command {
    let want = Subscription { new_group, ..Subscription::default() };
    Command::UpdateSubscribe { subscription: token(0), want }
}

/// SUBSCRIBE may ask without foreknowledge.
#[test]
fn a_new_group_is_requested_with_the_subscription() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Client, version);
        talk.lone.apply(subscribe_with(0, Subscription::default().new_group(7)));
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        let Message::Subscribe(asked) = talk.written_one(stream) else { panic!("no SUBSCRIBE") };
        let expected = (version > Moqt14).then_some(7);
        assert_eq!(asked.parameters.new_group, expected, "{version}");
    }
}

/// D22-9-20-19-MUST-NOT-447: REQUEST_UPDATE asks only if the publisher declared DYNAMIC_GROUPS with 1. It changes nothing
/// else, and a change of the subscription without a request is not sent.
#[test]
fn a_new_group_is_requested_only_where_the_publisher_allows_it() {
    for version in EVERY {
        for allowed in [false, true] {
            let mut talk = Talk::quiet(Side::Client, version);
            let (stream, asked) = talk.subscribe();
            assert_eq!(asked.parameters.new_group, None);
            talk.lone.apply(change(Some(0)));
            assert_eq!(talk.written(stream), [], "{version}: nothing is known of the track");
            let (parameters, properties) = allowing(version, allowed);
            let id = talk.id(asked.id);
            let ok = SubscribeOk { id, alias: 5, parameters, properties };
            talk.send(stream, &Message::SubscribeOk(ok));
            let Event::TrackInfo { info, .. } = one(talk.lone.events()) else { panic!("no info") };
            let allowed = allowed && version > Moqt14;
            assert_eq!(info.dynamic_groups, allowed, "{version}");
            for (id, group) in [(2, Some(3)), (0, None), (4, Some(4))] {
                talk.lone.apply(change(group));
                let (existing, parameters) = (talk.id(0), new_group(group));
                let update = RequestUpdate { id, existing, parameters };
                let expected = group.filter(|_| allowed).map(|_| Message::RequestUpdate(update));
                let expected: Vec<_> = expected.into_iter().collect();
                assert_eq!(talk.written(stream), expected, "{version}");
            }
        }
    }
}

/// A track that the peer offers is resumed by REQUEST_UPDATE, which asks only if PUBLISH allowed it.
#[test]
fn a_new_group_of_an_offered_track_is_requested_only_where_it_is_allowed() {
    for version in DRAFTS {
        for allowed in [false, true] {
            let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(interested(Side::Server, version), setup);
            let (parameters, properties) = allowing(version, allowed);
            let stream = talk.request(|id| {
                let (namespace, track) = (path("demo"), "video".into());
                let alias = 77;
                Message::Publish(Publish { id, namespace, track, alias, parameters, properties })
            });
            let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!() };
            talk.lone.apply(Command::AcceptOffer { request });
            talk.written(stream);
            talk.lone.apply(subscribe_with(0, Subscription::default().new_group(0)));
            talk.lone.apply(change(Some(9)));
            let asked = talk.written(stream).into_iter().map(|message| match message {
                Message::RequestUpdate(update) => update.parameters,
                other => panic!("{other:?}"),
            });
            let mut asked = asked.collect::<Vec<_>>().into_iter();
            let resumed = asked.next().expect("the track is resumed");
            assert_eq!(resumed.forward, Some(true));
            assert_eq!(resumed.new_group, allowed.then_some(0), "{version}");
            assert_eq!(asked.next(), allowed.then(|| new_group(Some(9))), "{version}");
        }
    }
}

/// D22-9-1-7-MUST-NOT-327: MAX_REQUEST_UPDATES also bounds what is asked of a subscription.
#[test]
fn requests_for_new_groups_wait_for_answers() {
    for version in [Moqt20, Moqt22] {
        let setup = Setup { max_request_updates: 1, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Client, version), setup);
        let stream = talk.subscribed(5, allowing(version, true).1);
        let asks = |talk: &mut Talk, group| {
            talk.lone.apply(change(Some(group)));
            talk.written(stream).len()
        };
        assert_eq!((asks(&mut talk, 1), asks(&mut talk, 2)), (1, 0));
        talk.send(stream, &Message::RequestOk(RequestOk::default()));
        assert_eq!(asks(&mut talk, 3), 1);
        // A failed update is followed by the end of the subscription (9.5.1).
        let failed = RequestError { code: NOT_SUPPORTED, ..RequestError::default() };
        talk.send(stream, &Message::RequestError(failed));
        assert_eq!(talk.lone.events(), []);
        talk.send(stream, &talk.done(0, UPDATE_FAILED, 0));
        assert_eq!(asks(&mut talk, 4), 0, "the subscription is over");
        assert!(!talk.lone.end.is_closed());
    }
}

/// An answer to no update closes the session.
#[test]
fn an_answer_without_an_update_is_a_violation() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        let mut talk = Talk::quiet(Side::Client, version);
        let stream = talk.subscribed(5, TrackProperties::default());
        talk.send(stream, &Message::RequestOk(RequestOk::default()));
        talk.closed_with(0x3);
    }
}

/// D22-10-6: the publisher declares DYNAMIC_GROUPS, and its application learns of each request once.
#[test]
fn the_application_of_a_publisher_learns_of_requests() {
    for version in EVERY {
        for allowed in [false, true] {
            let mut talk = Talk::quiet(Side::Server, version);
            let asked = (version > Moqt14).then_some(1 << 40);
            let stream = talk.request(|id| subscribe_message_with(id, new_group(asked)));
            let Event::SubscribeRequested { request, subscription, .. } = one(talk.lone.events())
            else {
                panic!()
            };
            assert_eq!(subscription.new_group, asked, "{version}");
            let info = TrackInfo { dynamic_groups: allowed, ..TrackInfo::default() };
            talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
            let Message::SubscribeOk(ok) = talk.written_one(stream) else { panic!("no answer") };
            let declared = ok.properties.dynamic_groups.or(ok.parameters.dynamic_groups);
            assert_eq!(declared, (allowed && version > Moqt14).then_some(true), "{version}");
            if version == Moqt14 {
                continue;
            }
            for group in [Some(0), None, Some(8)] {
                let (id, existing) = (talk.next, talk.id(0));
                talk.next += 2;
                let parameters = new_group(group);
                let update = RequestUpdate { id, existing, parameters };
                talk.send(stream, &Message::RequestUpdate(update));
                let Event::SubscribeUpdated { subscription, .. } = one(talk.lone.events()) else {
                    panic!()
                };
                assert_eq!(subscription.new_group, group, "{version}");
            }
        }
    }
}

/// `moq-lite` 0.16 fails on properties on 16, and is asked for nothing.
#[test]
fn early_moq_lite_sees_nothing_of_new_groups() {
    let setup = || {
        let implementation = Some("moq-lite-rs".into());
        Setup { max_request_id: 1_000, implementation, ..Setup::default() }
    };
    let mut talk = Talk::with(config(Side::Client, Moqt16), setup());
    talk.lone.apply(subscribe_with(0, Subscription::default().new_group(7)));
    let sent = talk.written(talk.control.unwrap());
    let asked = sent.iter().find_map(|message| match message {
        Message::Subscribe(it) => Some(&it.parameters),
        _ => None,
    });
    assert_eq!(asked.expect("SUBSCRIBE").new_group, None);

    let mut talk = Talk::with(config(Side::Server, Moqt16), setup());
    let stream = talk.request(subscribe_message);
    let events = talk.lone.events();
    let Some(Event::SubscribeRequested { request, .. }) = events.last() else { panic!() };
    let info = TrackInfo { dynamic_groups: true, ..TrackInfo::default() };
    talk.lone.apply(Command::AcceptSubscribe { request: *request, info, largest: None });
    let sent = talk.written(stream);
    let Some(Message::SubscribeOk(ok)) = sent.last() else { panic!("{sent:?}") };
    assert_eq!(ok.properties, TrackProperties::default());
}

/// NEW_GROUP_REQUEST of SUBSCRIBE_TRACKS holds for each track that the peer accepts (3.6.2).
#[test]
fn accepted_offers_ask_as_subscribe_tracks_did() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt19) {
        let mut talk = Talk::quiet(Side::Server, version);
        let parameters = new_group(Some(4));
        talk.request(|id| {
            let (prefix, wanted) = (path("demo"), Wanted::default());
            Message::SubscribeTracks(SubscribeNamespace { id, prefix, wanted, parameters })
        });
        let Event::TracksRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        let reader = token(3);
        let (suffix, track, largest) = (Path::root(), "video".into(), None);
        let info = TrackInfo { dynamic_groups: true, ..TrackInfo::default() };
        talk.lone.end.source.announce(reader, Announcement::Track { suffix, track, info, largest });
        talk.lone.apply(Command::AcceptAnnounce { request, reader, active: 0 });
        let offer = talk.lone.own(Dir::Bi, 0);
        let Message::Publish(publish) = talk.written_one(offer) else { panic!("no PUBLISH") };
        assert_eq!(publish.properties.dynamic_groups, Some(true), "{version}");
        talk.send(offer, &Message::RequestOk(RequestOk::default()));
        let event = one(talk.lone.events());
        let Event::SubscribeRequested { subscription, .. } = event else { panic!("{event:?}") };
        assert_eq!(subscription.new_group, Some(4), "{version}");
        let id = talk.next;
        let update = RequestUpdate { id, existing: None, parameters: Parameters::default() };
        talk.send(offer, &Message::RequestUpdate(update));
        let event = one(talk.lone.events());
        let Event::SubscribeUpdated { subscription, .. } = event else { panic!("{event:?}") };
        assert_eq!(subscription.new_group, None, "{version}: once");
    }
}
