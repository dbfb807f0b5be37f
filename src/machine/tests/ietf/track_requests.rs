//! Requests of this side for the tracks below a prefix (*Subscribing to Tracks by Prefix*, 18 and later; before, an option
//! of SUBSCRIBE_NAMESPACE).

use super::*;

const ASKED: Token = Token { slot: 5, generation: 1 };
const EARLY: [Version; 2] = [Moqt14, Moqt15];

fn ask(prefix: &str) -> Command {
    Command::SubscribeTracks { tracks: ASKED, prefix: path(prefix) }
}

fn ended(error: Error) -> Event {
    Event::TracksEnded { tracks: ASKED, error }
}

/// The request as each draft has it.
fn request(version: Version, id: u64, prefix: &str, forward: Option<bool>) -> Message {
    let (prefix, parameters) = (path(prefix), Parameters { forward, ..Parameters::default() });
    let wanted = match version {
        Moqt16 | Moqt17 => Wanted::Tracks,
        _ => Wanted::default(),
    };
    let it = SubscribeNamespace { id, prefix, wanted, parameters };
    match version < Moqt18 {
        true => Message::SubscribeNamespace(it),
        false => Message::SubscribeTracks(it),
    }
}

fn setup() -> Setup {
    Setup { solicit: true, max_request_id: 1_000, ..Setup::default() }
}

/// A session that asks for announcements below `room`, and asked for the tracks there. Its request has the id `ids + 2`,
/// and the stream after that of the announcements.
fn asked(side: Side, version: Version) -> (Talk, StreamId) {
    let config = Config { interests: vec![path("room")], ..config(side, version) };
    let mut talk = Talk::with(config, setup());
    talk.lone.apply(ask("room/a"));
    let stream = talk.lone.own(Dir::Bi, 1 + u64::from(version == Moqt16 && side == Side::Client));
    (talk, stream)
}

fn ok(talk: &Talk, id: u64) -> Message {
    Message::RequestOk(RequestOk { id: talk.id(id), ..RequestOk::default() })
}

fn blocked(track: &str) -> Message {
    Message::PublishBlocked(PublishBlocked { suffix: path("b"), track: track.into() })
}

fn publish(id: u64, forward: Option<bool>) -> Message {
    let parameters = Parameters { forward, ..Parameters::default() };
    let (namespace, track, properties) = (path("room/a"), "video".into(), Default::default());
    Message::Publish(Publish { id, namespace, track, alias: 7, parameters, properties })
}

/// G075 and G221 show the message. It asks for offers that are paused. The tracks that the peer leaves out, and the end of
/// the request, change nothing about those that it offers (D22-3-6-MUST-NOT-085).
#[test]
fn tracks_are_asked_for_until_they_are_not_wanted() {
    for (version, side) in
        DRAFTS.into_iter().flat_map(|it| [(it, Side::Client), (it, Side::Server)])
    {
        let (mut talk, stream) = asked(side, version);
        let id = 2 + u64::from(side == Side::Server);
        assert_eq!(talk.written_one(stream), request(version, id, "room/a", Some(false)));
        let ok = ok(&talk, id);
        talk.send(stream, &ok);
        if version > Moqt16 {
            talk.send(stream, &blocked("x"));
            talk.send(stream, &blocked("y"));
        }
        assert_eq!(talk.lone.events(), [], "{version}");

        let offer = talk.request(|id| publish(id, Some(false)));
        let event = one(talk.lone.events());
        let Event::TrackOffered { request, .. } = event else { panic!("{event:?}") };
        talk.lone.apply(Command::AcceptOffer { request });
        let said = talk.written(offer);
        let [Message::PublishOk(ok) | Message::RequestOk(ok)] = &said[..] else {
            panic!("{version}: paused already, so that no update follows: {said:?}")
        };
        // D22-9-20-18: from 20 on the answer can't repeat it.
        assert_eq!(ok.parameters.forward, (version < Moqt20).then_some(false), "{version}");
        assert!(matches!(one(talk.lone.events()), Event::Announced { .. }));

        talk.lone.actions.clear();
        talk.lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
        assert_eq!(talk.lone.actions(), [reset(stream, 0x1), stop(stream, 0x1)], "{version}");
        // Messages that the peer wrote before it read this count for nothing.
        talk.send(stream, &blocked_or_ok(version, id));
        talk.lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
        assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]), "{version}");
        talk.lone.apply(subscribe_to("room/a"));
        let resumed = talk.written_one(offer);
        assert!(
            matches!(&resumed, Message::RequestUpdate(it) if it.parameters.forward == Some(true)),
            "{version}: {resumed:?}"
        );
    }
    for (version, expected) in [
        (Moqt16, "11 0011 02 02 04 726f6f6d 01 61 00 01 10 00"),
        (Moqt17, "11 0012 02 00 02 04 726f6f6d 01 61 00 01 10 00"),
        (Moqt22, "51 000d 02 02 04 726f6f6d 01 61 01 10 00"),
    ] {
        let (mut talk, stream) = asked(Side::Client, version);
        let sent = talk.lone.sent(stream);
        assert_eq!(sent.len(), bytes(expected).len(), "{version}: {sent}");
        assert!(sent.ends_with(&bytes(&expected[8..])), "{version}: {sent}");
    }
}

fn subscribe_to(broadcast: &str) -> Command {
    Command::Subscribe {
        subscription: token(0),
        broadcast: path(broadcast),
        track: "video".into(),
        want: Subscription::default(),
    }
}

fn blocked_or_ok(version: Version, id: u64) -> Message {
    match version {
        Moqt16 => Message::RequestOk(RequestOk { id: Some(id), ..RequestOk::default() }),
        _ => blocked("z"),
    }
}

/// The application learns why the peer refused, or that it ended the request. The session goes on.
#[test]
fn the_end_of_a_request_for_tracks_has_a_reason() {
    for version in DRAFTS {
        for (code, error) in [
            (PREFIX_OVERLAP, Error::Duplicate),
            (NOT_SUPPORTED, Error::Unsupported),
            (0x1, Error::Unauthorized),
            (0x77, Error::App(0x37)),
        ] {
            let (mut talk, stream) = asked(Side::Client, version);
            let refusal = wire(version, &talk.error(2, code));
            talk.lone.fin(stream, &refusal);
            assert_eq!(talk.lone.events(), [ended(error)], "{version}");
            assert!(talk.finished(stream) && !talk.lone.end.is_closed());
            talk.lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
            assert_eq!(talk.lone.events(), []);
        }
        for (is_answered, is_reset) in [(true, false), (true, true), (false, false), (false, true)]
        {
            let (mut talk, stream) = asked(Side::Client, version);
            if is_answered {
                let ok = ok(&talk, 2);
                talk.send(stream, &ok);
            }
            let error = if is_reset { Error::Cancelled } else { Error::Closed };
            match is_reset {
                true => talk.lone.reset(stream, 0x1),
                false => talk.lone.fin(stream, ""),
            }
            assert_eq!(talk.lone.events(), [ended(error)], "{version} {is_answered}");
            assert!(!talk.lone.end.is_closed());
        }
    }
    // A redirect is not followed. One that names a track is none for a prefix (9.4.1).
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt18) {
        for (track, is_fault) in [("", false), ("video", true)] {
            let (mut talk, stream) = asked(Side::Client, version);
            let redirect = Redirect {
                uri: "moqt://b".into(),
                namespace: path(if is_fault { "room/a" } else { "" }),
                track: track.into(),
            };
            let redirect = Some(redirect);
            let error = RequestError { code: REDIRECT, redirect, ..RequestError::default() };
            talk.send(stream, &Message::RequestError(error));
            match is_fault {
                true => talk.closed_with(0x3),
                false => {
                    let error = Error::Remote(Code::new(REDIRECT));
                    assert_eq!(talk.lone.events(), [ended(error)], "{version}");
                }
            }
        }
    }
    // An answer to something else.
    let (mut talk, stream) = asked(Side::Client, Moqt22);
    talk.send(stream, &Message::PublishDone(PublishDone::default()));
    talk.closed_with(0x3);
}

/// A request waits for the set-up, for an id, or for a stream. If it is not wanted any more, it was never sent.
#[test]
fn a_request_for_tracks_that_waits_can_be_withdrawn() {
    for version in DRAFTS {
        for is_wanted in [true, false] {
            let withdraw = |lone: &mut Lone| {
                if !is_wanted {
                    lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
                }
            };
            let before = |lone: &mut Lone| {
                lone.apply(ask("room"));
                assert!(lone.sent.values().all(|(bytes, _)| bytes.len() < 64));
                withdraw(lone);
            };
            let mut talk = Talk::prepared(config(Side::Client, version), setup(), before);
            let stream = talk.lone.own(Dir::Bi, u64::from(version == Moqt16));
            let sent = talk.written(stream);
            let expected = [request(version, 0, "room", Some(false))];
            assert_eq!(sent, &expected[..usize::from(is_wanted)], "{version}");

            // Id, or stream.
            let setup = Setup { solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config(Side::Client, version), setup);
            talk.lone.grants = u64::from(version == Moqt16);
            talk.lone.apply(ask("room"));
            assert_eq!(talk.lone.sent(stream), "", "{version}");
            withdraw(&mut talk.lone);
            talk.lone.grants = u64::MAX;
            talk.lone.handle(Input::Available { dir: Dir::Bi });
            if let Some(control) = talk.control {
                talk.send(control, &Message::MaxRequestId(100));
            }
            assert_eq!(talk.written(stream), &expected[..usize::from(is_wanted)], "{version}");
            assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
        }
        // Nothing is asked of a peer that is leaving.
        let mut talk = Talk::with(config(Side::Client, version), setup());
        let request = (version == Moqt18).then_some(0);
        let goaway = Message::Goaway(Goaway { request, ..Goaway::default() });
        let control = talk.control.unwrap_or(StreamId::new(Side::Server, Dir::Uni, 0));
        talk.send(control, &goaway);
        talk.lone.events();
        talk.lone.apply(ask("room"));
        assert_eq!(talk.lone.events(), [ended(Error::GoingAway)], "{version}");
    }
}

/// Up to 15 the request for announcements asks for tracks as well. There is none for the root, so that the prefix is asked
/// for by itself.
#[test]
fn announcements_bring_tracks_up_to_15() {
    for version in EARLY {
        for side in [Side::Client, Side::Server] {
            let end = |interest: &str| {
                let config = Config { interests: vec![path(interest)], ..config(side, version) };
                Talk::with(config, setup())
            };
            let mut talk = end("room");
            talk.lone.apply(ask("room/a"));
            talk.lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
            assert_eq!(talk.written(talk.control.unwrap()), [], "{version}");
            assert_eq!(talk.lone.events(), []);

            let mut talk = end("");
            let control = talk.control.unwrap();
            talk.lone.apply(ask("room"));
            let forward = (version == Moqt15).then_some(false);
            let id = u64::from(side == Side::Server);
            assert_eq!(talk.written_one(control), request(version, id, "room", forward));
            let ok = RequestOk { id: Some(id), ..RequestOk::default() };
            let ok = match version {
                Moqt14 => Message::SubscribeNamespaceOk(ok),
                _ => Message::RequestOk(ok),
            };
            talk.send(control, &ok);
            assert_eq!(talk.lone.events(), []);
            talk.lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
            let name = match version {
                Moqt14 => NamespaceRequest::Namespace(path("room")),
                _ => NamespaceRequest::Id(id),
            };
            assert_eq!(talk.written_one(control), Message::UnsubscribeNamespace(name));
            talk.lone.apply(ask(""));
            assert_eq!(talk.lone.events(), [ended(Error::Unsupported)], "{version}");
            talk.lone.apply(ask("hall"));
            talk.written(control);
            talk.lone.events();
            let (id, code) = (Some(id + 2), PREFIX_OVERLAP);
            let refusal = RequestError { id, code, ..RequestError::default() };
            let refusal = match version {
                Moqt14 => Message::SubscribeNamespaceError(refusal),
                _ => Message::RequestError(refusal),
            };
            talk.send(control, &refusal);
            assert_eq!(talk.lone.events(), [ended(Error::Duplicate)], "{version}");
        }
    }
}

/// Not asked: versions without the request, and peers that would close the session on it.
#[test]
fn some_peers_can_not_be_asked_for_tracks() {
    for version in LITE {
        let mut lone = Lone::ready(Side::Client, version);
        lone.apply(ask("room"));
        assert_eq!(lone.events(), [ended(Error::Unsupported)], "{version}");
        lone.apply(Command::UnsubscribeTracks { tracks: ASKED });
        assert!(lone.sent.values().all(|(bytes, _)| bytes.len() < 16) && !lone.end.is_closed());
    }
    for version in DRAFTS {
        let implementation = Some("moq-lite-rs".into());
        let early = Setup { implementation, max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Server, version), early);
        talk.lone.events();
        talk.lone.apply(ask("room"));
        assert_eq!(talk.lone.events(), [ended(Error::Unsupported)], "{version}");
        // The offers of Cloudflare's publishers can't be resumed, so that they are not paused.
        let unknown = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::with(config(Side::Server, version), unknown);
        talk.lone.apply(ask("room"));
        let stream = talk.lone.own(Dir::Bi, 0);
        let forward = (version > Moqt18).then_some(false);
        assert_eq!(talk.written_one(stream), request(version, 1, "room", forward));
    }
}
