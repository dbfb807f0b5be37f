//! Discovery (*Track Namespaces*): PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE, NAMESPACE.

use super::*;

/// For how long a possible echo is hidden.
const ECHO_TIME: Duration = Duration::from_millis(600);

fn active(suffix: &str) -> Announcement {
    let (hops, cost) = (Hops::new(), Cost { warm: 0, cold: 0 });
    Announcement::Active { suffix: path(suffix), hops, cost }
}

fn ended(suffix: &str) -> Announcement {
    Announcement::Ended { suffix: path(suffix) }
}

fn announced(name: &str) -> Event {
    let hops = [Hop::UNKNOWN].into_iter().collect();
    Event::Announced { path: path(name), hops, cost: Cost::UNKNOWN }
}

fn unannounced(name: &str) -> Event {
    Event::Unannounced { path: path(name) }
}

pub(super) fn publish_namespace(id: u64, name: &str) -> Message {
    let parameters = Parameters::default();
    Message::PublishNamespace(PublishNamespace { id, namespace: path(name), parameters })
}

fn subscribe_namespace(id: u64, prefix: &str) -> Message {
    let prefix = path(prefix);
    Message::SubscribeNamespace(SubscribeNamespace { id, prefix, ..SubscribeNamespace::default() })
}

/// The key of the announce request.
fn requested(event: Event) -> RequestKey {
    match event {
        Event::AnnounceRequested { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

/// Broadcasts of one end are reported at the other, solicited and unsolicited, once.
#[test]
fn broadcasts_of_the_peer_are_reported() {
    on_every_draft(|_, mut pair| {
        for name in ["room/a", "room/b"] {
            for (slot, side) in [(1, Side::Client), (2, Side::Server)] {
                let end = if side == Side::Client { &mut pair.client } else { &mut pair.server };
                end.source.announce(token(slot), active(name));
            }
        }
        // One end sends both ways, the other end one of them.
        let both = [RequestKey(0, 0), RequestKey(1, 0), RequestKey(2, 0)];
        for request in both {
            pair.client.apply(Command::AcceptAnnounce { request, reader: token(1), active: 0 });
        }
        pair.run_until_idle();
        let received = pair.server.take_events();
        assert_eq!(received.len(), 2, "{received:?}");
        for name in ["room/a", "room/b"] {
            assert!(received.contains(&announced(name)), "{received:?}");
        }
        pair.client.source.announce(token(1), ended("room/a"));
        for request in both {
            pair.client.apply(Command::AnnouncementsReady { request });
        }
        pair.run_until_idle();
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}

/// `Limits::request_buffer`: unsolicited announcements wait for room on the control stream (16), and are sent
/// when there is some.
#[test]
fn announcements_that_wait_for_room_are_sent() {
    for version in DRAFTS {
        let mut config = config(Side::Client, version);
        config.limits.request_buffer = 1;
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        let request = requested(one(talk.lone.events()));
        for name in ["a", "b", "c"] {
            talk.lone.end.source.announce(token(7), active(name));
        }
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 3 });
        let streams = [0, 1, 2].map(|n| talk.control.unwrap_or(talk.lone.own(Dir::Bi, n)));
        let written: Vec<_> = streams.into_iter().flat_map(|stream| talk.written(stream)).collect();
        assert_eq!(
            written,
            [publish_namespace(0, "a"), publish_namespace(2, "b"), publish_namespace(4, "c")],
            "{version}"
        );
    }
}

/// *PUBLISH_NAMESPACE* of this end: one request each, unless the peer sends SOLICIT. It is withdrawn by a
/// reset of both halves (18), or by PUBLISH_NAMESPACE_DONE (16).
#[test]
fn broadcasts_are_announced_unsolicited() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Client, version), setup);
        let request = requested(one(talk.lone.events()));
        talk.lone.end.source.announce(token(7), active("room/a"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 1 });
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        assert_eq!(talk.written_one(stream), publish_namespace(0, "room/a"));
        let ok = RequestOk { id: talk.id(0), ..RequestOk::default() };
        talk.send(stream, &Message::RequestOk(ok));

        talk.lone.actions.clear();
        talk.lone.end.source.announce(token(7), ended("room/a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let done = Message::PublishNamespaceDone(NamespaceRequest::Id(0));
                assert_eq!(talk.written_one(stream), done);
            }
            _ => assert_eq!(talk.lone.actions(), [reset(stream, 1), stop(stream, 1)]),
        }
        assert_eq!(Talk::quiet(Side::Client, version).lone.events(), [], "SOLICIT");
    }
}

/// A refusal concerns only its announcement.
#[test]
fn a_refused_announcement_is_not_withdrawn() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Client, version), setup);
        let request = requested(one(talk.lone.events()));
        for name in ["a", "b"] {
            talk.lone.end.source.announce(token(7), active(name));
        }
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 2 });
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
        let refusal = talk.error(0, UNINTERESTED);
        talk.send(stream, &refusal);
        talk.written(stream);
        talk.lone.end.source.announce(token(7), ended("a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(talk.written(stream), [], "there is nothing to withdraw");
        assert!(!talk.lone.end.is_closed());
    }
}

/// *PUBLISH_NAMESPACE* of the peer: accepted, and ended by FIN or RESET_STREAM (18), or by its DONE (16).
#[test]
fn unsolicited_announcements_of_the_peer_are_reported() {
    for version in DRAFTS {
        let ends: &[u8] = if version < Moqt17 { &[0] } else { &[1, 2, 3] };
        for end in ends {
            let setup = Setup { solicit: true, ..Setup::default() };
            let mut talk = Talk::with(interested(Side::Server, version), setup);
            let stream = talk.request(|id| publish_namespace(id, "room/a"));
            assert_eq!(talk.lone.events(), [announced("room/a")]);
            let ok = RequestOk { id: talk.id(0), ..RequestOk::default() };
            assert_eq!(talk.written_one(stream), Message::RequestOk(ok));
            match end {
                0 => {
                    let done = NamespaceRequest::Id(0);
                    talk.send(stream, &Message::PublishNamespaceDone(done));
                }
                1 => talk.lone.fin(stream, ""),
                2 => talk.lone.reset(stream, 1),
                _ => talk.lone.stop(stream, 1),
            }
            assert_eq!(talk.lone.events(), [unannounced("room/a")]);
        }
    }
}

/// *SUBSCRIBE_NAMESPACE* of this end, and NAMESPACE: a broadcast that is announced both ways is one
/// broadcast.
#[test]
fn a_broadcast_named_twice_is_announced_once() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        let unasked = talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.lone.events(), [announced("room/a")]);
        let ok = RequestOk { id: talk.id(0), ..RequestOk::default() };
        talk.send(listen, &Message::RequestOk(ok));
        let suffix = path("room/a");
        talk.send(listen, &Message::Namespace(suffix.clone()));
        talk.send(listen, &Message::Namespace(suffix.clone()));
        assert_eq!(talk.lone.events(), []);
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let done = NamespaceRequest::Id(1);
                talk.send(unasked, &Message::PublishNamespaceDone(done));
            }
            _ => talk.lone.reset(unasked, 1),
        }
        assert_eq!(talk.lone.events(), []);
        talk.send(listen, &Message::NamespaceDone(suffix.clone()));
        assert_eq!(talk.lone.events(), [unannounced("room/a")]);
        // The end of an unknown name has no effect.
        talk.send(listen, &Message::NamespaceDone(suffix));
        for name in ["b", "c"] {
            talk.send(listen, &Message::Namespace(path(name)));
        }
        assert_eq!(talk.lone.events(), [announced("b"), announced("c")]);
        talk.lone.fin(listen, "");
        assert_eq!(talk.lone.events(), [unannounced("b"), unannounced("c")]);
        assert!(!talk.lone.end.is_closed());
    }
}

/// The request for a prefix has a stream of its own in both drafts. On 18 it is not sent to `moq-lite` 0.16.
#[test]
fn a_prefix_is_requested_on_its_own_stream() {
    for version in DRAFTS {
        let talk = |implementation: Option<&str>| {
            let implementation = implementation.map(Box::from);
            let setup = Setup { max_request_id: 10, implementation, ..Setup::default() };
            let config = Config { interests: vec![path("room")], ..config(Side::Client, version) };
            let mut lone = Lone::new(config);
            let stream = lone.own(Dir::Bi, u64::from(version < Moqt17));
            assert_eq!(lone.sent(stream), "", "not before the set-up of the peer");
            let setup = wire(version, &Message::setup(setup, Side::Server, draft(version)));
            match version {
                Moqt14 | Moqt15 | Moqt16 => lone.data(lone.own(Dir::Bi, 0), &setup),
                _ => drop(lone.open(Dir::Uni, &setup)),
            }
            lone.sent(stream)
        };
        assert_eq!(talk(None), wire(version, &subscribe_namespace(0, "room")));
        assert_eq!(talk(Some("moq-lite-rs")).is_empty(), version >= Moqt17);
    }
}

/// *SUBSCRIBE_NAMESPACE* of the peer: REQUEST_OK, then NAMESPACE and NAMESPACE_DONE until the peer ends its
/// half.
#[test]
fn a_prefix_requested_by_the_peer_is_announced() {
    for version in DRAFTS {
        for is_reset in [false, true] {
            // D22-6-4-2-2: from 19 on FIN only says that no update follows.
            let fin_cancels = version < Moqt19;
            let mut talk = Talk::quiet(Side::Server, version);
            let stream = talk.request(|id| subscribe_namespace(id, "room"));
            let request = match one(talk.lone.events()) {
                Event::AnnounceRequested { request, prefix, exclude, .. } => {
                    assert_eq!((prefix, exclude), (path("room"), Hop::UNKNOWN));
                    request
                }
                other => panic!("{other:?}"),
            };
            // D22-4-2-MUST-NOT-112: what was not announced does not end.
            for change in [active("a"), active("b"), active("a"), ended("a"), ended("c")] {
                talk.lone.end.source.announce(token(3), change);
            }
            talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 2 });
            let name = |suffix| Message::Namespace(path(suffix));
            let done = Message::NamespaceDone(path("a"));
            let ok = Message::RequestOk(RequestOk { id: talk.id(0), ..RequestOk::default() });
            assert_eq!(talk.written(stream), [ok, name("a"), name("b"), done]);
            if !is_reset {
                talk.lone.fin(stream, "");
                assert_eq!(talk.lone.events().is_empty(), !fin_cancels, "{version}");
                assert_eq!(talk.finished(stream), fin_cancels);
                continue;
            }
            talk.lone.reset(stream, 1);
            let result = Err(Error::Cancelled);
            assert_eq!(talk.lone.events(), [Event::RequestEnded { request, result }]);
            assert!(talk.finished(stream));
        }
    }
}

/// Overlapping prefixes are refused (PREFIX_OVERLAP), and so are prefixes that NAMESPACE can't express.
// D22-4-2-MUST-111
#[test]
fn overlapping_prefixes_are_refused() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.request(|id| subscribe_namespace(id, "room"));
        assert_eq!(talk.lone.events().len(), 1);
        for prefix in ["", "room", "room/a"] {
            let id = talk.next;
            let stream = talk.request(|id| subscribe_namespace(id, prefix));
            assert_eq!(talk.written_one(stream), talk.error(id, PREFIX_OVERLAP), "{prefix}");
        }
        talk.request(|id| subscribe_namespace(id, "roo"));
        assert_eq!(talk.lone.events().len(), 1);
    }
}

/// D22-9-20-20-MUST-455 and -456: a new prefix that overlaps with that of another request. No prefix is changed.
#[test]
fn a_new_prefix_that_overlaps_is_refused() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt18) {
        for (prefix, code) in [
            ("room", PREFIX_OVERLAP),
            ("", PREFIX_OVERLAP),
            ("room/a", PREFIX_OVERLAP),
            ("other/a", NOT_SUPPORTED),
            ("roo", NOT_SUPPORTED),
        ] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.request(|id| subscribe_namespace(id, "room"));
            let stream = talk.request(|id| subscribe_namespace(id, "other"));
            talk.written(stream);
            let parameters = Parameters { prefix: Some(path(prefix)), ..Parameters::default() };
            let update = RequestUpdate { id: talk.next, existing: None, parameters };
            talk.send(stream, &Message::RequestUpdate(update));
            assert_eq!(talk.written_one(stream), talk.error(0, code), "{version} {prefix}");
        }
    }
}

/// *PUBLISH_NAMESPACE*: the application refuses one of several, also with EXPIRED_AUTH_TOKEN. One that the peer gives up
/// meanwhile ends.
#[test]
fn the_application_decides_on_each_offered_broadcast() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.lone.end.accepts_broadcasts = false;
        talk.lone.events();
        let offered = |talk: &mut Talk, name: &str| {
            let id = talk.next;
            let stream = talk.request(|id| publish_namespace(id, name));
            let Event::BroadcastOffered { request, broadcast, .. } = one(talk.lone.events()) else {
                panic!("{version}")
            };
            assert_eq!((broadcast, talk.written(stream)), (path(name), vec![]));
            (request, stream, id)
        };
        let (request, stream, id) = offered(&mut talk, "room/a");
        talk.lone.apply(Command::Refuse { request, error: Error::Expired });
        assert_eq!(talk.written_one(stream), talk.error(id, 0x5), "{version}");
        assert_eq!(talk.lone.events(), []);
        let (request, stream, id) = offered(&mut talk, "room/b");
        talk.lone.apply(Command::AcceptOffer { request });
        let ok = RequestOk { id: talk.id(id), ..RequestOk::default() };
        assert_eq!(talk.written_one(stream), Message::RequestOk(ok));
        assert_eq!(talk.lone.events(), [announced("room/b")]);
        // A second answer has no effect.
        talk.lone.apply(Command::AcceptOffer { request });
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        assert_eq!((talk.written(stream), talk.lone.events()), (vec![], vec![]));

        let (request, stream, id) = offered(&mut talk, "room/c");
        match version {
            Moqt16 => talk.send(stream, &Message::PublishNamespaceDone(NamespaceRequest::Id(id))),
            _ => talk.lone.reset(stream, 1),
        }
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(talk.lone.events(), [over], "{version}");
        talk.lone.apply(Command::AcceptOffer { request });
        assert_eq!(talk.lone.events(), []);
    }
}

/// A request past the limit is refused, and the others continue.
#[test]
fn announce_requests_have_a_limit() {
    for version in DRAFTS {
        let mut config = config(Side::Server, version);
        config.limits.announce_requests = 2;
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        for prefix in ["a", "b"] {
            talk.request(|id| subscribe_namespace(id, prefix));
            requested(one(talk.lone.events()));
        }
        let id = talk.next;
        let stream = talk.request(|id| subscribe_namespace(id, "c"));
        let code = if version < Moqt17 { 0x0 } else { 0x9 };
        assert_eq!(talk.written_one(stream), talk.error(id, code), "{version}");
        assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
    }
}

/// A relay announces to us what it has from us: an echo, which is not reported. An announcement is no echo
/// before the relay knows the broadcast, or after its end.
#[test]
fn an_echo_is_not_reported() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let request = requested(one(talk.lone.events()));
        talk.lone.end.source.announce(token(7), relayed("room/a"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 1 });
        let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 1));
        let Some(Message::PublishNamespace(told)) = talk.written(stream).pop() else { panic!() };
        let ok = RequestOk { id: talk.id(told.id), ..RequestOk::default() };
        talk.send(stream, &Message::RequestOk(ok));
        talk.request(|id| publish_namespace(id, "room/a"));
        talk.request(|id| publish_namespace(id, "room/b"));
        assert_eq!(talk.lone.events(), [announced("room/b")]);
        // The relay learns of the end here, and had the time to withdraw an echo: this broadcast is its own.
        talk.lone.end.source.announce(token(7), ended("room/a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        talk.lone.advance(ECHO_TIME - Duration::from_millis(1));
        assert_eq!(talk.lone.events(), []);
        talk.lone.advance(Duration::from_millis(1));
        assert_eq!(talk.lone.events(), [announced("room/a")]);
    }
}

/// The relay took our broadcast, and its own announcement of the path may have crossed that answer: it has an older broadcast
/// there, which ours replaces. It learns so by the refusal.
#[test]
fn the_path_of_our_own_broadcast_is_refused_also_after_the_peer_took_it() {
    for version in DRAFTS {
        let (mut talk, _, stream, id) = announcing(version, active("room/a"));
        talk.send(stream, &Message::RequestOk(RequestOk { id: talk.id(id), ..Default::default() }));
        let id = talk.next;
        let stream = talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.written_one(stream), talk.error(id, UNINTERESTED), "{version}");
        assert_eq!(talk.lone.events(), [], "{version}");
    }
}

/// An announcement of a broadcast that came from another peer.
fn relayed(suffix: &str) -> Announcement {
    let hops = [Hop::UNKNOWN].into_iter().collect();
    Announcement::Active { suffix: path(suffix), hops, cost: Cost::UNKNOWN }
}

/// A session with a peer to which this broadcast was announced: the key of the announce request, and the
/// stream and id of PUBLISH_NAMESPACE.
fn announcing(version: Version, broadcast: Announcement) -> (Talk, RequestKey, StreamId, u64) {
    let setup = Setup { max_request_id: 1_000, ..Setup::default() };
    let mut talk = Talk::with(interested(Side::Client, version), setup);
    let request = requested(one(talk.lone.events()));
    talk.lone.end.source.announce(token(7), broadcast);
    talk.lone.apply(Command::AcceptAnnounce { request, reader: token(7), active: 1 });
    let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 1));
    let Some(Message::PublishNamespace(sent)) = talk.written(stream).pop() else { panic!() };
    (talk, request, stream, sent.id)
}

/// D22-9-3-MUST-348, D22-9-4-1-MUST-352: the answer to a request about namespaces has no properties, and names no track
/// (18 and later).
#[test]
fn answers_about_namespaces_say_nothing_about_tracks() {
    let ok = |properties| Message::RequestOk(RequestOk { properties, ..RequestOk::default() });
    let moved = |track: &str| {
        let redirect =
            Redirect { namespace: path("b"), track: track.into(), ..Redirect::default() };
        let redirect = Some(redirect);
        let error = RequestError { code: REDIRECT, redirect, ..RequestError::default() };
        Message::RequestError(error)
    };
    let properties = TrackProperties { priority: Some(1), ..TrackProperties::default() };
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt18) {
        for (answer, closes) in [
            (ok(TrackProperties::default()), false),
            (ok(properties.clone()), true),
            (moved(""), false),
            (moved("video"), true),
        ] {
            // SUBSCRIBE_NAMESPACE, and then PUBLISH_NAMESPACE.
            for slot in 0..2 {
                let (mut talk, ..) = announcing(version, active("room/a"));
                talk.send(talk.lone.own(Dir::Bi, slot), &answer);
                match closes {
                    true => talk.closed_with(0x3),
                    false => assert!(!talk.lone.end.is_closed(), "{version} {answer:?}"),
                }
            }
        }
    }
}

/// Both ends announce a path before either receives the announcement of the other. If the peer takes ours, its own is
/// taken for an echo. If it refuses ours, or does not answer, its own is reported.
#[test]
fn announcements_that_cross_each_other_wait_for_the_answer() {
    for version in DRAFTS {
        for answer in [Some(true), Some(false), None] {
            let (mut talk, _, stream, id) = announcing(version, relayed("room/a"));
            talk.request(|id| publish_namespace(id, "room/a"));
            assert_eq!(talk.lone.events(), [], "{version}");
            match answer {
                Some(true) => {
                    let ok = RequestOk { id: talk.id(id), ..RequestOk::default() };
                    talk.send(stream, &Message::RequestOk(ok));
                }
                Some(false) => {
                    let refusal = talk.error(id, UNINTERESTED);
                    talk.send(stream, &refusal);
                }
                None => talk.lone.advance(ECHO_TIME),
            }
            let reported = talk.lone.events();
            let expected = if answer == Some(true) { vec![] } else { vec![announced("room/a")] };
            assert_eq!(reported, expected, "{version}, {answer:?}");
            talk.lone.advance(ECHO_TIME);
            assert_eq!(talk.lone.events(), [], "{version}, {answer:?}");
        }
    }
}

/// A peer that never answers, and announces and withdraws a path again and again, takes no memory for it. The time counts
/// from our withdrawal, if that came after the announcement.
#[test]
fn an_announcement_that_comes_back_is_hidden_once() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        let (mut talk, request, ..) = announcing(version, relayed("room/a"));
        let mut entries = Vec::new();
        for _ in 0..100 {
            let stream = talk.request(|id| publish_namespace(id, "room/a"));
            talk.lone.advance(Duration::from_millis(1));
            entries.push(talk.lone.end.machine.entries());
            talk.lone.reset(stream, 0);
            talk.lone.events();
        }
        assert!(entries.iter().all(|it| *it == entries[0]), "{version}: {entries:?}");

        talk.request(|id| publish_namespace(id, "room/a"));
        talk.lone.advance(ECHO_TIME - Duration::from_millis(1));
        talk.lone.end.source.announce(token(7), ended("room/a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        talk.lone.advance(ECHO_TIME - Duration::from_millis(1));
        assert_eq!(talk.lone.events(), [], "{version}");
        talk.lone.advance(Duration::from_millis(1));
        assert_eq!(talk.lone.events(), [announced("room/a")], "{version}");
    }
}

/// A peer that refuses a namespace, or cancels it later, does not have the broadcast from us. Its own
/// announcement is no echo, whichever arrives first: streams are not ordered.
#[test]
fn an_announcement_of_a_path_that_was_refused_is_no_echo() {
    for version in DRAFTS {
        for was_accepted in [false, true] {
            for is_announced_first in [false, true] {
                let (mut talk, _, stream, id) = announcing(version, relayed("room/a"));
                if was_accepted {
                    let ok = RequestOk { id: talk.id(id), ..RequestOk::default() };
                    talk.send(stream, &Message::RequestOk(ok));
                }
                if is_announced_first {
                    talk.request(|id| publish_namespace(id, "room/a"));
                    assert_eq!(talk.lone.events(), [], "{version}");
                }
                match (was_accepted, version) {
                    (false, _) => {
                        let message = talk.error(id, UNINTERESTED);
                        talk.send(stream, &message);
                    }
                    (true, Moqt14 | Moqt15 | Moqt16) => {
                        let cancel = PublishNamespaceCancel {
                            request: NamespaceRequest::Id(id),
                            code: 0,
                            reason: "".into(),
                        };
                        talk.send(stream, &Message::PublishNamespaceCancel(cancel));
                    }
                    (true, _) => talk.lone.reset(stream, 1),
                }
                if !is_announced_first {
                    talk.request(|id| publish_namespace(id, "room/a"));
                }
                assert_eq!(talk.lone.events(), [announced("room/a")], "{version}");
            }
        }
    }
}

/// A FIN after REQUEST_OK is no refusal: the namespace stays announced, and an echo stays hidden. STOP_SENDING alone is
/// one.
#[test]
fn a_fin_after_the_answer_is_no_refusal() {
    let (mut talk, _, stream, _) = announcing(Moqt18, relayed("room/a"));
    talk.send(stream, &Message::RequestOk(RequestOk::default()));
    talk.lone.fin(stream, "");
    talk.request(|id| publish_namespace(id, "room/a"));
    assert_eq!(talk.lone.events(), []);
    assert!(!talk.finished(stream));
    talk.lone.stop(stream, 1);
    assert_eq!(talk.lone.events(), [announced("room/a")]);
}

/// The peer names a broadcast in two ways and withdraws one of them. A broadcast of this process under the path then
/// leaves the other one alone.
#[test]
fn a_namespace_that_the_peer_withdrew_is_not_cancelled() {
    for version in DRAFTS {
        let (mut talk, request, ..) = announcing(version, active("room/b"));
        let subscription = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        talk.send(subscription, &Message::Namespace(path("room/a")));
        let stream = talk.request(|id| publish_namespace(id, "room/a"));
        let id = talk.next - 2;
        assert_eq!(talk.lone.events(), [announced("room/a")], "{version}");
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                talk.send(stream, &Message::PublishNamespaceDone(NamespaceRequest::Id(id)))
            }
            _ => talk.lone.fin(stream, ""),
        }
        talk.lone.end.source.announce(token(7), active("room/a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(talk.lone.events(), [], "{version}");
        talk.send(subscription, &Message::NamespaceDone(path("room/a")));
        assert_eq!(talk.lone.events(), [unannounced("room/a")], "{version}");
    }
}

/// A broadcast of this process replaces the peer's under the same path, whichever was announced first. The
/// peer learns it from a refusal or from a cancelled namespace.
#[test]
fn the_peers_broadcast_is_refused_where_this_process_has_its_own() {
    for version in DRAFTS {
        let (mut talk, ..) = announcing(version, active("room/a"));
        let stream = talk.request(|id| publish_namespace(id, "room/a"));
        let id = talk.next - 2;
        assert_eq!(talk.written_one(stream), talk.error(id, UNINTERESTED), "{version}");
        assert_eq!(talk.lone.events(), [], "{version}");

        let (mut talk, request, ..) = announcing(version, active("room/b"));
        let stream = talk.request(|id| publish_namespace(id, "room/a"));
        let id = talk.next - 2;
        assert_eq!(talk.lone.events(), [announced("room/a")]);
        talk.written(stream);
        talk.lone.end.source.announce(token(7), active("room/a"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(talk.lone.events(), [unannounced("room/a")], "{version}");
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let written = talk.written(stream);
                let cancelled = |it: &Message| matches!(it, Message::PublishNamespaceCancel(it) if it.request == NamespaceRequest::Id(id));
                assert!(written.iter().any(cancelled), "{written:?}");
            }
            _ => {
                let code = Error::Duplicate.stream_code();
                let actions = talk.lone.actions();
                assert!(actions.contains(&Action::Stop { id: stream, code }), "{actions:?}");
            }
        }
    }
}

/// A peer that announces a broadcast both ways ends and begins both announcements when it replaces the
/// broadcast.
#[test]
fn a_broadcast_announced_both_ways_is_replaced_once() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        let suffix = || path("room/a");
        let named = Message::Namespace(suffix());
        let done = Message::NamespaceDone(suffix());
        talk.send(listen, &named);
        let unasked = talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.lone.events(), [announced("room/a")], "{version}");
        talk.send(listen, &done);
        assert_eq!(talk.lone.events(), [], "{version}");
        talk.send(listen, &named);
        let replaced = [unannounced("room/a"), announced("room/a")];
        assert_eq!(talk.lone.events(), replaced, "{version}");
        // The other announcement, which named the old broadcast until now.
        match version {
            Moqt14 | Moqt15 | Moqt16 => {
                let id = 1;
                talk.send(unasked, &Message::PublishNamespaceDone(NamespaceRequest::Id(id)));
            }
            _ => talk.lone.fin(unasked, ""),
        }
        talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.lone.events(), [], "{version}: the same broadcast");
        talk.send(listen, &done);
        talk.send(listen, &named);
        assert_eq!(talk.lone.events(), replaced, "{version}");
    }
}

/// No more broadcasts are kept than the limit allows.
#[test]
fn announcements_have_a_limit() {
    for version in DRAFTS {
        let mut config = interested(Side::Client, version);
        config.limits.announcements = 2;
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        for name in ["a", "b", "c"] {
            talk.send(listen, &Message::Namespace(path(name)));
        }
        assert_eq!(talk.lone.events(), [announced("a"), announced("b")]);
        let stream = talk.request(|id| publish_namespace(id, "d"));
        assert!(matches!(talk.written_one(stream), Message::RequestError(_)));
        assert_eq!(talk.lone.events(), []);
        // A broadcast that was dropped is reported when it is announced another way.
        let done = |name| Message::NamespaceDone(path(name));
        talk.send(listen, &done("a"));
        assert_eq!(talk.lone.events(), [unannounced("a")]);
        talk.request(|id| publish_namespace(id, "c"));
        talk.send(listen, &done("c"));
        assert_eq!(talk.lone.events(), [announced("c")]);
        // The table is full because of the other way. The end of a dropped announcement does not end a later
        // one.
        talk.send(listen, &Message::Namespace(path("d")));
        talk.send(listen, &done("b"));
        assert_eq!(talk.lone.events(), [unannounced("b")]);
        talk.request(|id| publish_namespace(id, "d"));
        talk.send(listen, &done("d"));
        assert_eq!(talk.lone.events(), [announced("d")]);
    }
}

/// `Limits::path_bytes`: a request past the limit is refused, and an announcement ignored.
#[test]
fn names_have_a_limit() {
    for version in DRAFTS {
        let mut config = interested(Side::Client, version);
        config.limits.path_bytes = 5;
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version < Moqt17));
        for name in ["a", "bb/bbb", "c"] {
            talk.send(listen, &Message::Namespace(path(name)));
        }
        let done = path("bb/bbb");
        talk.send(listen, &Message::NamespaceDone(done));
        assert_eq!(talk.lone.events(), [announced("a"), announced("c")]);
        let stream = talk.request(|id| publish_namespace(id, "dd/ddd"));
        assert!(matches!(talk.written_one(stream), Message::RequestError(_)));
        let stream = talk.request(|id| publish_namespace(id, "d/ddd"));
        assert!(matches!(talk.written_one(stream), Message::RequestOk(_)));
        assert_eq!(talk.lone.events(), [announced("d/ddd")]);
        for (prefix, fits) in [("ee/eee", false), ("e/eee", true)] {
            talk.request(|id| subscribe_namespace(id, prefix));
            assert_eq!(talk.lone.events().len(), usize::from(fits), "{version}");
        }
    }
}

/// A SUBSCRIBE_NAMESPACE that was accepted is ended. Its announcements can't have echoes any more.
#[test]
fn announced_paths_are_forgotten_with_the_request() {
    for version in DRAFTS {
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.request(|id| subscribe_namespace(id, "room"));
        let request = requested(one(talk.lone.events()));
        talk.lone.end.source.announce(token(3), active("a"));
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 1 });
        talk.lone.apply(Command::Refuse { request, error: Error::Unauthorized });
        talk.lone.events();
        talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.lone.events(), [announced("room/a")]);
    }
}

/// A second answer to SUBSCRIBE_NAMESPACE changes nothing.
#[test]
fn announcements_are_accepted_once() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| subscribe_namespace(id, "room"));
        let request = requested(one(talk.lone.events()));
        for reader in [token(3), token(4)] {
            talk.lone.apply(Command::AcceptAnnounce { request, reader, active: 0 });
        }
        talk.written(stream);
        talk.lone.end.source.announce(token(3), active("a"));
        talk.lone.end.source.announce(token(4), active("b"));
        talk.lone.apply(Command::AnnouncementsReady { request });
        assert_eq!(talk.written(stream), [Message::Namespace(path("a"))]);
    }
}

/// D22-9-5-1-MUST-359 to 361: an update that fails ends a request about namespaces (18 and later). One that changes
/// nothing does not fail.
#[test]
fn a_failed_update_ends_a_request_about_namespaces() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        let ends = version >= Moqt18;
        let updated = |talk: &mut Talk, stream| {
            talk.written(stream);
            for priority in [None, Some(3)] {
                let parameters = Parameters { priority, ..Parameters::default() };
                let update = RequestUpdate { id: talk.next, existing: None, parameters };
                talk.next += 2;
                talk.send(stream, &Message::RequestUpdate(update));
                let answer = talk.written_one(stream);
                match priority {
                    None => assert!(matches!(answer, Message::RequestOk(_)), "{answer:?}"),
                    Some(_) => assert_eq!(answer, talk.error(0, NOT_SUPPORTED), "{version}"),
                }
            }
            assert_eq!(talk.finished(stream), ends, "{version}");
            talk.lone.events()
        };
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| subscribe_namespace(id, "room"));
        let request = match one(talk.lone.events()) {
            Event::AnnounceRequested { request, .. } => request,
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 0 });
        let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
        assert_eq!(updated(&mut talk, stream), Vec::from_iter(ends.then_some(over)), "{version}");

        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        talk.lone.events();
        let stream = talk.request(|id| publish_namespace(id, "room/a"));
        assert_eq!(talk.lone.events(), [announced("room/a")]);
        let over = unannounced("room/a");
        assert_eq!(updated(&mut talk, stream), Vec::from_iter(ends.then_some(over)), "{version}");
    }
}
