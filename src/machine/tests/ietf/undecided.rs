//! Updates of requests that the application has not decided on yet (*REQUEST_UPDATE*). The last one counts when it does.
//! On a request stream the first message of the answer is that to the request, so that the answers to updates follow it.

use super::*;

/// The drafts on which each request has a stream.
const STREAMS: [Version; 6] = [Moqt17, Moqt18, Moqt19, Moqt20, Moqt21, Moqt22];

fn ok(id: Option<u64>) -> Message {
    Message::RequestOk(RequestOk { id, ..RequestOk::default() })
}

fn priority(priority: u8) -> Parameters {
    Parameters { priority: Some(priority), ..Parameters::default() }
}

fn below_room(id: u64) -> SubscribeNamespace {
    SubscribeNamespace { id, prefix: path("room"), ..SubscribeNamespace::default() }
}

/// The request that waits for the decision.
fn requested(talk: &mut Talk) -> RequestKey {
    match one(talk.lone.events()) {
        Event::SubscribeRequested { request, .. }
        | Event::FetchRequested { request, .. }
        | Event::AnnounceRequested { request, .. }
        | Event::TracksRequested { request, .. }
        | Event::TrackOffered { request, .. }
        | Event::BroadcastOffered { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

impl Talk {
    /// The peer updates its first request, which is on this stream.
    fn update(&mut self, stream: StreamId, parameters: Parameters) {
        let (id, existing) = (self.next, self.id(self.next % 2));
        self.next += 2;
        self.send(stream, &Message::RequestUpdate(RequestUpdate { id, existing, parameters }));
    }

    /// The answers to updates that are written before the request is answered, and those that wait for that.
    fn split(&self, ids: &[u64]) -> [Vec<Message>; 2] {
        let answers = ids.iter().map(|id| ok(self.id(*id))).collect();
        match self.version {
            Moqt14 => [vec![], vec![]],
            Moqt15 | Moqt16 => [answers, vec![]],
            _ => [vec![], answers],
        }
    }
}

/// D22-9-5-MUST-356: priority, range, timeout and FORWARD are those of the last update that has them.
#[test]
fn the_last_update_of_a_subscription_counts() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        let start = Location::new(9, 0);
        let first = Parameters {
            filter: Some(Filter::Range { start, end_group: 12 }),
            forward: Some(false),
            ..priority(1)
        };
        let stream = talk.request(|id| subscribe_message_with(id, first));
        let request = requested(&mut talk);
        let delivery_timeout = Some(Duration::from_secs(3));
        talk.update(stream, Parameters { delivery_timeout, ..priority(7) });
        let filter = Some(Filter::From(Location::new(5, 1)));
        talk.update(stream, Parameters { filter, forward: Some(true), ..priority(9) });
        let wants = talk.lone.events().into_iter().map(|event| match event {
            Event::SubscribeUpdated { subscription, .. } => subscription,
            other => panic!("{other:?}"),
        });
        let want = wants.last().unwrap();
        let expected = Subscription::default().priority(9).max_age(Duration::from_secs(3)).start(5);
        assert_eq!(want, expected, "{version}");
        let [early, late] = talk.split(&[2, 4]);
        assert_eq!(talk.written(stream), early, "{version}");

        let (info, largest) = (TrackInfo::default(), Some(FramePosition::new(7, 3)));
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
        let written = talk.written(stream);
        assert!(matches!(written[0], Message::SubscribeOk(_)), "{version}: {written:?}");
        assert_eq!(written[1..], late, "{version}");
        // Each later one is answered at once.
        talk.update(stream, priority(9));
        let answers = if version == Moqt14 { vec![] } else { vec![ok(talk.id(6))] };
        assert_eq!(talk.written(stream), answers);
        talk.lone.events();

        talk.lone.end.source.insert(token(5), ["early", "late"].map(|text| Frame::new(0, text)));
        talk.lone.apply(group(request, 5));
        let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        assert_eq!(talk.lone.priorities[&data] >> 8, 9, "{version}");
        let sent = talk.lone.sent(data);
        let has = |text: &str| sent.contains(&digits(text.as_bytes()));
        assert!(has("late") && !has("early"), "{version}: {sent}");
    }
}

/// A filter relative to the largest object takes the place of one with numbers.
#[test]
fn a_relative_filter_replaces_a_range() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        let range = Filter::Range { start: Location::new(9, 0), end_group: 12 };
        let with = |filter| Parameters { filter: Some(filter), ..Parameters::default() };
        let stream = talk.request(|id| subscribe_message_with(id, with(range)));
        let request = requested(&mut talk);
        if version == Moqt14 {
            // SUBSCRIBE_UPDATE has a start and an end.
            continue;
        }
        talk.update(stream, with(Filter::NextObject));
        let event = one(talk.lone.events());
        let Event::SubscribeUpdated { subscription, .. } = event else { panic!("{event:?}") };
        assert_eq!((subscription.start, subscription.end), (None, None), "{version}");
        let (info, largest) = (TrackInfo::default(), Some(FramePosition::new(5, 0)));
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest });
        talk.lone.end.source.insert(token(5), ["early", "late"].map(|text| Frame::new(0, text)));
        talk.lone.apply(group(request, 5));
        let sent = talk.lone.sent(talk.lone.own(Dir::Uni, u64::from(version >= Moqt17)));
        let has = |text: &str| sent.contains(&digits(text.as_bytes()));
        assert!(has("late") && !has("early"), "{version}: {sent}");
    }
}

/// A refusal is the answer to everything that the peer asked. Updates are counted and not kept, and too many of them close
/// the session like other answers that nobody reads.
#[test]
fn updates_of_a_refused_subscription_need_no_answer() {
    for version in STREAMS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(subscribe_message);
        let request = requested(&mut talk);
        let before = talk.lone.end.machine.entries();
        for n in 0..1_000 {
            talk.update(stream, priority(n as u8));
        }
        talk.lone.events();
        assert_eq!(talk.lone.end.machine.entries(), before, "{version}");
        talk.lone.apply(Command::Refuse { request, error: Error::NotFound });
        let refusal = Message::RequestError(RequestError {
            code: draft(version).request_code(&Error::NotFound),
            ..RequestError::default()
        });
        assert_eq!(talk.written(stream), [refusal], "{version}");
        assert!(talk.finished(stream));

        let limits = Limits { request_buffer: 16, ..Limits::default() };
        let setup = Setup { solicit: true, ..Setup::default() };
        let mut talk = Talk::with(Config { limits, ..config(Side::Server, version) }, setup);
        let stream = talk.request(subscribe_message);
        for n in 0..1_000 {
            if !talk.lone.end.is_closed() {
                talk.update(stream, priority(n as u8));
            }
        }
        assert!(talk.lone.end.is_closed(), "{version}");
    }
}

/// A request about namespaces, whose update is answered after it. A failed update ends it without a decision.
#[test]
fn updates_of_namespaces_follow_their_request() {
    for version in STREAMS {
        for is_announced in [false, true] {
            for (parameters, fails) in [(Parameters::default(), false), (priority(3), true)] {
                let setup = Setup { solicit: true, ..Setup::default() };
                let config = match is_announced {
                    true => interested(Side::Server, version),
                    false => config(Side::Server, version),
                };
                let mut talk = Talk::with(config, setup);
                talk.lone.events();
                talk.lone.end.accepts_broadcasts = false;
                let stream = talk.request(|id| match is_announced {
                    true => {
                        let (namespace, parameters) = (path("room/a"), Parameters::default());
                        Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
                    }
                    false => Message::SubscribeNamespace(below_room(id)),
                });
                let request = requested(&mut talk);
                talk.update(stream, parameters);
                if fails {
                    assert_eq!(talk.written_one(stream), talk.error(0, NOT_SUPPORTED), "{version}");
                    let over = Event::RequestEnded { request, result: Err(Error::Cancelled) };
                    assert_eq!(talk.lone.events(), [over], "{version}");
                    assert!(talk.finished(stream));
                    continue;
                }
                assert_eq!(talk.written(stream), [], "{version}");
                let reader = token(3);
                talk.lone.apply(match is_announced {
                    true => Command::AcceptOffer { request },
                    false => Command::AcceptAnnounce { request, reader, active: 0 },
                });
                assert_eq!(talk.written(stream), [ok(None), ok(None)], "{version}");
            }
        }
    }
}

/// An update of PUBLISH by the publisher can show other tokens. One that asks for more ends the offer.
#[test]
fn updates_of_an_offer_follow_it() {
    for version in STREAMS {
        for fails in [false, true] {
            let mut talk = Talk::with(
                interested(Side::Server, version),
                Setup { solicit: true, ..Setup::default() },
            );
            talk.lone.events();
            talk.lone.end.accepts_broadcasts = false;
            let stream = talk.request(|id| {
                let (namespace, track) = (path("demo"), "video".into());
                let (parameters, properties) = Default::default();
                Message::Publish(Publish { id, namespace, track, alias: 7, parameters, properties })
            });
            let request = requested(&mut talk);
            talk.update(stream, if fails { priority(3) } else { Parameters::default() });
            if fails {
                let failed = talk.error(0, NOT_SUPPORTED);
                assert_eq!(talk.written(stream), [failed.clone(), failed], "{version}");
                let over = Event::RequestEnded { request, result: Err(Error::Unsupported) };
                assert_eq!(talk.lone.events(), [over]);
                assert!(talk.finished(stream));
                continue;
            }
            assert_eq!(talk.written(stream), [], "{version}");
            talk.lone.apply(Command::AcceptOffer { request });
            let written = talk.written(stream);
            let accepted = matches!(written[0], Message::PublishOk(_) | Message::RequestOk(_));
            assert!(accepted, "{version}: {written:?}");
            assert_eq!(written[1], ok(None), "{version}");
        }
    }
}

/// The answer to a FETCH has the priority of the last update.
#[test]
fn the_last_update_of_a_fetch_counts() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| {
            let (namespace, track) = (path("demo"), "video".into());
            let (start, end) = (Location::new(4, 0), FetchEnd { group: 4, object: None });
            if version < Moqt20 {
                let target = FetchTarget::Standalone { namespace, track, start, end };
                return Message::Fetch(Fetch { id, target, parameters: priority(1) });
            }
            let filter = Some(Filter::Range { start, end_group: 4 });
            let target = FetchTarget::Track { namespace, track };
            Message::Fetch(Fetch { id, target, parameters: Parameters { filter, ..priority(1) } })
        });
        let request = requested(&mut talk);
        talk.update(stream, priority(7));
        talk.update(stream, priority(9));
        let [early, late] = talk.split(&[2, 4]);
        assert_eq!(talk.written(stream), early, "{version}");
        talk.lone.end.source.insert(token(0), [Frame::new(0, "a")]);
        let (group, info, ends_track) = (token(0), TrackInfo::default(), false);
        let frames = Some(1);
        talk.lone.apply(Command::AcceptFetch { request, group, info, frames, ends_track });
        let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
        assert_eq!(talk.lone.priorities[&data] >> 8, 9, "{version}");
        let written = talk.written(stream);
        assert!(matches!(written[0], Message::FetchOk(_)), "{version}: {written:?}");
        assert_eq!(written[1..], late, "{version}");
    }
}

/// An update of SUBSCRIBE_TRACKS counts for the first offer already.
#[test]
fn the_last_update_of_a_request_for_tracks_counts() {
    for version in STREAMS.into_iter().filter(|version| *version >= Moqt18) {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.request(|id| Message::SubscribeTracks(below_room(id)));
        let request = requested(&mut talk);
        for forward in [true, false] {
            talk.update(stream, Parameters { forward: Some(forward), ..Parameters::default() });
        }
        assert_eq!(talk.lone.events(), []);
        let (suffix, track, info) = (path("a"), "video".into(), TrackInfo::default());
        let offer = Announcement::Track { suffix, track, info, largest: None };
        talk.lone.end.source.announce(token(3), offer);
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(3), active: 0 });
        assert_eq!(talk.written(stream), [ok(None), ok(None), ok(None)], "{version}");
        let Message::Publish(offer) = talk.written_one(talk.lone.own(Dir::Bi, 0)) else {
            panic!("no PUBLISH")
        };
        assert_eq!(offer.parameters.forward, Some(false), "{version}");
    }
}
