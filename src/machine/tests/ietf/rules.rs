//! Single rules of draft 22 about the ends of subscriptions and about offers.

use super::*;

/// A subscription that the peer made and that is accepted, and the first frame of its first group. Returns the
/// streams of the request and of the group.
fn sending(version: Version) -> (Talk, RequestKey, [StreamId; 2]) {
    let mut talk = Talk::quiet(Side::Server, version);
    let stream = talk.request(subscribe_message);
    let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else { panic!() };
    talk.lone.apply(Command::AcceptSubscribe {
        request,
        info: TrackInfo::default(),
        largest: None,
    });
    talk.written(stream);
    talk.lone.end.source.push(token(7), Frame::new(0, "begun"));
    talk.lone.apply(group(request, 7));
    let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
    assert!(talk.lone.sent(data).ends_with(&digits(b"begun")));
    (talk, request, [stream, data])
}

/// D22-9-9-MUST-NOT-369: neither PUBLISH_DONE nor FIN comes before the end of the last stream.
#[test]
fn publish_done_follows_the_last_stream() {
    for version in DRAFTS {
        let (mut talk, request, [stream, data]) = sending(version);
        talk.lone.apply(Command::FinishSubscribe { request, end: 8 });
        assert_eq!((talk.written(stream), talk.finished(stream)), (vec![], false));
        talk.lone.end.source.end(token(7), Ok(()));
        talk.lone.apply(Command::GroupReady { request, sequence: 7 });
        assert_eq!(talk.lone.sent(data), " fin");
        assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 1));
        assert_eq!(talk.finished(stream), version >= Moqt17);
    }
}

/// D22-3-1-2-MUST-047.
#[test]
fn stop_sending_on_a_request_resets_its_data_streams() {
    for version in DRAFTS.into_iter().filter(|it| *it >= Moqt17) {
        let (mut talk, request, [stream, data]) = sending(version);
        talk.lone.stop(stream, 1);
        assert!(talk.lone.actions().contains(&reset(data, 1)), "{version}");
        let result = Err(Error::Cancelled);
        assert!(talk.lone.events().contains(&Event::RequestEnded { request, result }));
    }
}

/// D22-9-20-17-MUST-442: what the publisher tells of its largest object is reported before the track information, from
/// SUBSCRIBE_OK and from PUBLISH.
#[test]
fn the_largest_object_of_the_publisher_is_reported() {
    let largest = || Parameters { largest: Some(Location::new(5, 3)), ..Parameters::default() };
    let is_told = |events: &[Event]| {
        let told =
            Event::LargestFrame { subscription: token(0), largest: FramePosition::new(5, 3) };
        matches!(events, [it, Event::TrackInfo { .. }] if *it == told)
    };
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Client, version);
        let (stream, asked) = talk.subscribe();
        let (id, properties) = (talk.id(asked.id), TrackProperties::default());
        let ok = SubscribeOk { id, alias: 9, parameters: largest(), properties };
        talk.send(stream, &Message::SubscribeOk(ok));
        let events = talk.lone.events();
        assert!(is_told(&events), "{version} {events:?}");

        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        talk.lone.events();
        talk.request(|id| match offer(id) {
            Message::Publish(it) => Message::Publish(Publish { parameters: largest(), ..it }),
            other => other,
        });
        let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!() };
        talk.lone.apply(Command::AcceptOffer { request });
        talk.lone.events();
        talk.lone.apply(subscribe(0));
        let events = talk.lone.events();
        assert!(is_told(&events), "{version} {events:?}");
    }
}

/// *Delivery timeouts* (5.2): the maximum age of a subscription is its timeout, in both directions. 0 and no bound are none.
#[test]
fn the_maximum_age_is_a_delivery_timeout() {
    for version in EVERY {
        for (max_age, sent) in [
            (Duration::from_secs(9), Some(Duration::from_secs(9))),
            (Duration::from_micros(2_500), Some(Duration::from_millis(2))),
            (Duration::ZERO, None),
            (Duration::MAX, None),
        ] {
            let mut talk = Talk::quiet(Side::Client, version);
            let (broadcast, track) = (path("demo"), "video".into());
            let want = Subscription::default().max_age(max_age);
            talk.lone.apply(Command::Subscribe { subscription: token(0), broadcast, track, want });
            let stream = talk.control.unwrap_or(talk.lone.own(Dir::Bi, 0));
            let Message::Subscribe(asked) = talk.written_one(stream) else { panic!() };
            assert_eq!(asked.parameters.delivery_timeout, sent, "{version} {max_age:?}");

            let mut talk = Talk::quiet(Side::Server, version);
            talk.request(|id| subscribe_message_with(id, asked.parameters));
            let Event::SubscribeRequested { subscription, .. } = one(talk.lone.events()) else {
                panic!()
            };
            assert_eq!(subscription.max_age, sent.unwrap_or(Duration::MAX), "{version}");
        }
    }
}

/// D22-9-5-1-MUST-358: the stream of the answer is reset.
#[test]
fn a_failed_update_ends_a_fetch() {
    for version in DRAFTS {
        for is_accepted in [true, false] {
            let mut talk = Talk::quiet(Side::Server, version);
            let end = FetchEnd { group: 7, object: None };
            let message = |id| fetch::fetch_message(version, id, Location::new(7, 0), end);
            let stream = talk.request(message);
            let Event::FetchRequested { request, .. } = one(talk.lone.events()) else { panic!() };
            let data = talk.lone.own(Dir::Uni, u64::from(version >= Moqt17));
            if is_accepted {
                talk.lone.end.source.push(token(7), Frame::new(0, "begun"));
                talk.lone.apply(Command::AcceptFetch {
                    request,
                    group: token(7),
                    info: TrackInfo::default(),
                    frames: None,
                    ends_track: false,
                });
                assert!(talk.lone.sent(data).ends_with(&digits(b"begun")));
            }
            let parameters =
                Parameters { tokens: vec![TokenReference::Alias(5)], ..Parameters::default() };
            let update = RequestUpdate { id: 2, existing: talk.id(0), parameters };
            talk.send(stream, &Message::RequestUpdate(update));
            let answers = talk.written(stream);
            assert_eq!(answers[0], talk.error(2, UNKNOWN_AUTH_TOKEN_ALIAS), "{version}");
            assert_eq!(answers.len(), if is_accepted { 1 } else { 2 });
            assert_eq!(talk.finished(stream), version >= Moqt17);
            let resets = talk.lone.actions();
            assert_eq!(
                resets.iter().any(|it| matches!(it, Action::Reset { id, .. } if *id == data)),
                is_accepted
            );
            let over = Event::RequestEnded { request, result: Err(Error::Unsupported) };
            assert!(talk.lone.events().contains(&over));
        }
    }
}

/// D22-2-4-3-MUST-NOT-030 to -MUST-033, D22-6-5-MUST-NOT-180 to -MUST-188: DOES_NOT_EXIST for `.` and `.session`. They
/// are neither published nor requested, and so not forwarded.
#[test]
fn reserved_namespaces_do_not_exist() {
    for version in DRAFTS {
        let mut config = interested(Side::Server, version);
        config.interests = vec![path("room"), path(".session")];
        let setup = Setup { max_request_id: 1_000, ..Setup::default() };
        let mut talk = Talk::prepared(config, setup, |_| {});
        let Event::AnnounceRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        let prefixes = |talk: &mut Talk| {
            let streams: Vec<_> = talk.lone.sent.keys().copied().collect();
            let sent = streams.into_iter().flat_map(|stream| talk.written(stream));
            let is_namespace =
                |it: &Message| !matches!(it, Message::Setup(_) | Message::ServerSetup(_));
            sent.filter(is_namespace).collect::<Vec<_>>()
        };
        assert!(
            matches!(&prefixes(&mut talk)[..], [Message::SubscribeNamespace(it)] if it.prefix == path("room"))
        );

        for name in [".", "./a", ".session", ".session/a"] {
            let (namespace, track) = (path(name), Box::<str>::from("video"));
            let (parameters, properties) = <(Parameters, TrackProperties)>::default();
            let subscribe = |id| Subscribe {
                id,
                namespace: path(name),
                track: "".into(),
                parameters: Parameters::default(),
            };
            let fetched = FetchTarget::Standalone {
                namespace: namespace.clone(),
                track: track.clone(),
                start: Location::new(1, 0),
                end: FetchEnd { group: 1, object: None },
            };
            let target = match version < Moqt20 {
                true => fetched,
                false => FetchTarget::Track { namespace: namespace.clone(), track: track.clone() },
            };
            type Make<'a> = Box<dyn FnOnce(u64) -> Message + 'a>;
            let asked: [Make; 6] = [
                Box::new(|id| Message::Subscribe(subscribe(id))),
                Box::new(|id| Message::TrackStatus(subscribe(id))),
                Box::new(|id| {
                    Message::Fetch(Fetch { id, target, parameters: Parameters::default() })
                }),
                Box::new(|id| {
                    Message::SubscribeNamespace(SubscribeNamespace {
                        id,
                        prefix: path(name),
                        ..Default::default()
                    })
                }),
                Box::new(|id| {
                    Message::PublishNamespace(PublishNamespace {
                        id,
                        namespace: path(name),
                        parameters: Parameters::default(),
                    })
                }),
                Box::new(move |id| {
                    Message::Publish(Publish {
                        id,
                        namespace,
                        track,
                        alias: 5,
                        parameters,
                        properties,
                    })
                }),
            ];
            for (n, make) in asked.into_iter().enumerate() {
                let id = talk.next;
                let stream = talk.request(make);
                let code = if n < 4 { 0x10 } else { 0x1 };
                assert_eq!(talk.written_one(stream), talk.error(id, code), "{version} {name} {n}");
            }
        }
        assert_eq!(talk.lone.events(), []);

        // Ours, and what is asked of the peer. Other names that begin with a dot are like any other.
        for (slot, name) in [(1, ".session/a"), (2, "."), (3, ".other")] {
            let (hops, cost) = (crate::Hops::new(), crate::Cost { warm: 0, cold: 0 });
            talk.lone
                .end
                .source
                .announce(token(9), Announcement::Active { suffix: path(name), hops, cost });
            let (broadcast, track, want) = (path(name), "video".into(), Subscription::default());
            talk.lone.apply(Command::Subscribe {
                subscription: token(slot),
                broadcast,
                track,
                want,
            });
        }
        talk.lone.apply(Command::AcceptAnnounce { request, reader: token(9), active: 3 });
        let sent = prefixes(&mut talk);
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(
            sent.iter()
                .any(|it| matches!(it, Message::Subscribe(it) if it.namespace == path(".other")))
        );
        assert!(sent.iter().any(
            |it| matches!(it, Message::PublishNamespace(it) if it.namespace == path(".other"))
        ));
        let failed = talk.lone.events();
        assert_eq!(failed.len(), 2);
        assert!(failed.iter().all(|it| matches!(
            it,
            Event::SubscribeEnded { result: Err(Error::Unrepresentable(_)), .. }
        )));
    }
}

fn offer(id: u64) -> Message {
    let (namespace, track) = (path("demo"), "video".into());
    let (parameters, properties) = Default::default();
    Message::Publish(Publish { id, namespace, track, alias: 77, parameters, properties })
}

/// D22-3-7-MUST-091: UNSUPPORTED_EXTENSION.
#[test]
fn an_offer_with_a_mandatory_property_is_refused() {
    for version in [Moqt18, Moqt22] {
        let setup = Setup { solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        // PUBLISH, alias 77, no parameters, property 0x4000 = 1.
        let offer = "1d 0010 00 01 04 64656d6f 02 7473 4d 00 c04000 01";
        let stream = talk.lone.open(Dir::Bi, offer);
        assert_eq!(talk.written_one(stream), talk.error(0, UNSUPPORTED_EXTENSION));
        assert_eq!(talk.lone.events(), []);
    }
}

/// D22-9-1-7-MUST-NOT-327: MAX_REQUEST_UPDATES. An offer can't be used before its updates are answered.
#[test]
fn updates_wait_for_answers() {
    for version in [Moqt20, Moqt22] {
        let setup = Setup { max_request_updates: 2, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Server, version), setup);
        let stream = talk.request(offer);
        let Event::TrackOffered { request, .. } = one(talk.lone.events()) else { panic!() };
        // FORWARD 0, and then 1.
        talk.lone.apply(Command::AcceptOffer { request });
        talk.lone.apply(subscribe(0));
        let updates = |talk: &mut Talk| {
            let written = talk.written(stream).into_iter();
            written.filter(|it| matches!(it, Message::RequestUpdate(_))).count()
        };
        assert_eq!(updates(&mut talk), 2, "{version}");
        talk.lone.apply(Command::Unsubscribe { subscription: token(0) });
        talk.lone.apply(subscribe(1));
        assert_eq!(updates(&mut talk), 0, "{version}");
        for _ in 0..2 {
            talk.send(stream, &Message::RequestOk(RequestOk::default()));
        }
        talk.lone.apply(subscribe(2));
        assert_eq!(updates(&mut talk), 1, "{version}");
    }
}

/// *Control Streams*: a peer that leaves ends its streams as well, and on WebTransport the end of the session may be
/// read after that of the control stream.
#[test]
fn a_session_may_end_after_its_control_stream() {
    for (version, side) in EVERY.into_iter().flat_map(|it| [(it, Side::Client), (it, Side::Server)])
    {
        for reset in [false, true] {
            let mut talk = Talk::quiet(side, version);
            let control = talk.control.unwrap_or(StreamId::new(side.peer(), Dir::Uni, 0));
            if reset {
                talk.lone.reset(control, 0);
                if control.dir() == Dir::Bi {
                    talk.lone.stop(control, 0);
                }
            } else {
                talk.lone.fin(control, "")
            }
            talk.lone.handle(Input::Closed { error: Error::SessionClosed });
            let end = Event::Closed { error: Error::SessionClosed };
            assert_eq!(talk.lone.events(), [end], "{version}");
        }
    }
}
