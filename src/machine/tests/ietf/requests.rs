//! Requests: their ids, what is refused, what ends the session (*Control Messages*, *Request ID*).

use super::*;

/// Unknown messages and malformed ones end the session, wherever they come.
#[test]
fn faults_end_the_session() {
    let faults = [
        "4f 0000",          // no such message
        "03 0001 00",       // SUBSCRIBE that ends in the middle
        "07 0002 00 00",    // an answer to nothing, as a request
        "0b 0003 02 05 00", // PUBLISH_DONE
    ];
    for fault in faults {
        let mut talk = Talk::quiet(Side::Server, Moqt18);
        talk.lone.open(Dir::Bi, fault);
        talk.closed_with(0x3);
    }
    for fault in ["40 4f 0000", "03 0001 00", "08 0001 00"] {
        let mut talk = Talk::quiet(Side::Server, Moqt16);
        talk.lone.data(talk.control.unwrap(), fault);
        talk.closed_with(0x3);
    }
    // An unknown parameter: 0x3f.
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let ask = "03 000e 00 01 04 64656d6f 02 7473 01 3f 01 00";
        match talk.control {
            Some(control) => talk.lone.data(control, ask),
            None => drop(talk.lone.open(Dir::Bi, ask)),
        }
        talk.closed_with(0x3);
    }
}

/// On 16 only SUBSCRIBE_NAMESPACE has a stream of its own.
#[test]
fn other_streams_of_16_end_the_session() {
    let mut talk = Talk::quiet(Side::Server, Moqt16);
    talk.lone.open(Dir::Bi, &wire(Moqt16, &asks(0)));
    talk.closed_with(0x3);
}

#[test]
fn unknown_stream_types_end_the_session() {
    for (version, kind) in [(Moqt16, "02"), (Moqt16, "4050"), (Moqt18, "02"), (Moqt18, "80ff")] {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.open(Dir::Uni, kind);
        talk.closed_with(0x3);
    }
}

/// Padding and answers to what nobody fetched are not read.
#[test]
fn streams_without_a_use_are_stopped() {
    for (version, stream) in [(Moqt18, "f0132b3e28 00"), (Moqt18, "05 00"), (Moqt16, "05 00")] {
        let mut talk = Talk::quiet(Side::Client, version);
        let id = talk.lone.open(Dir::Uni, stream);
        assert_eq!(talk.lone.actions(), [stop(id, 1)]);
    }
}

/// *Request ID*: of the sender's parity, and used once; INVALID_REQUEST_ID.
#[test]
fn request_ids_are_checked() {
    for version in DRAFTS {
        for ids in [&[1][..], &[0, 0], &[0, 2, 0], &[0, 1]] {
            let mut talk = Talk::quiet(Side::Server, version);
            for id in ids {
                talk.ask(|_| asks(*id));
            }
            talk.closed_with(0x4);
        }
        // Streams race: what was sent first may come last.
        let mut talk = Talk::quiet(Side::Server, version);
        for id in [4, 0, 2, 6] {
            talk.ask(|_| asks(id));
        }
        assert_eq!(talk.lone.events().len(), 4);
    }
}

/// *MAX_REQUEST_ID* (16): more than was granted is TOO_MANY_REQUESTS; more is granted in time.
#[test]
fn requests_of_the_peer_have_credit() {
    let limited = || {
        let mut config = config(Side::Server, Moqt16);
        config.limits.requests = 4;
        Talk::with(config, Setup { solicit: true, ..Setup::default() })
    };
    let mut talk = limited();
    talk.ask(|_| asks(8));
    talk.closed_with(0x7);

    let mut talk = limited();
    let control = talk.control.unwrap();
    for _ in 0..40 {
        talk.ask(asks);
        let request = match one(talk.lone.events()) {
            Event::SubscribeRequested { request, .. } => request,
            other => panic!("{other:?}"),
        };
        talk.lone.apply(Command::Refuse { request, error: Error::NotFound });
    }
    let granted = talk.said(control).into_iter().filter_map(|message| match message {
        Message::MaxRequestId(it) => Some(it.max),
        _ => None,
    });
    let granted: Vec<_> = granted.collect();
    assert!(granted.is_sorted() && granted.last() > Some(&80), "{granted:?}");
}

/// Ours wait until the peer grants them, and go out in order with ids that have no gap (16).
#[test]
fn our_requests_wait_for_credit() {
    let setup = Setup { max_request_id: 2, solicit: true, ..Setup::default() };
    let mut talk = Talk::with(config(Side::Client, Moqt16), setup);
    let control = talk.control.unwrap();
    for slot in 0..4 {
        talk.lone.apply(subscribe(slot));
    }
    let ids = |messages: Vec<Message>| -> Vec<u64> {
        let id = |message| match message {
            Message::Subscribe(it) => it.id,
            other => panic!("{other:?}"),
        };
        messages.into_iter().map(id).collect()
    };
    assert_eq!(ids(talk.said(control)), [0]);
    // One that was not sent is not taken back on the wire either.
    talk.lone.apply(Command::Unsubscribe { subscription: token(1) });
    assert_eq!(talk.said(control), []);
    talk.say(control, &Message::MaxRequestId(MaxRequestId { max: 5 }));
    assert_eq!(ids(talk.said(control)), [2, 4]);
    talk.say(control, &Message::RequestsBlocked(RequestsBlocked { max: 5 }));
    talk.say(control, &Message::MaxRequestId(MaxRequestId { max: 5 }));
    talk.closed_with(0x3);
}

/// What is not served is refused in the draft's words, and the session goes on.
#[test]
fn what_is_not_served_is_refused() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let joining = FetchTarget::Relative { joins: 0, groups_back: 0 };
        let standalone = FetchTarget::Standalone {
            namespace: path("demo"),
            track: "video".into(),
            start: Location::new(0, 0),
            end: FetchEnd { group: 1, object: None },
        };
        for target in [joining, standalone] {
            let id = talk.next;
            let parameters = Parameters::default();
            let stream = talk.ask(|id| Message::Fetch(Fetch { id, target, parameters }));
            assert_eq!(talk.said_one(stream), talk.error(id, NOT_SUPPORTED));
            assert_eq!(talk.finished(stream), version == Moqt18);
        }
        if version == Moqt18 {
            let stream = talk.ask(|id| {
                Message::SubscribeTracks(SubscribeTracks { id, ..SubscribeTracks::default() })
            });
            assert_eq!(talk.said_one(stream), talk.error(4, NOT_SUPPORTED));
        }
        // Nobody here wants to hear of anything.
        let id = talk.next;
        let stream = talk.ask(|id| {
            let (namespace, parameters) = (path("demo"), Parameters::default());
            Message::PublishNamespace(PublishNamespace { id, namespace, parameters })
        });
        assert_eq!(talk.said_one(stream), talk.error(id, UNINTERESTED));
        assert_eq!((talk.lone.events(), talk.lone.actions()), (vec![], vec![]));
    }
}

/// *TRACK_STATUS* is answered like a question what the track is.
#[test]
fn track_status() {
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let stream = talk.ask(|id| {
            let Message::Subscribe(it) = asks(id) else { unreachable!() };
            Message::TrackStatus(it)
        });
        let request = match one(talk.lone.events()) {
            Event::TrackRequested { request, broadcast, track } => {
                assert_eq!((broadcast, &*track), (path("demo"), "video"));
                request
            }
            other => panic!("{other:?}"),
        };
        let info = TrackInfo { priority: 9, ..TrackInfo::default() };
        talk.lone.apply(Command::AcceptTrack { request, info });
        let Message::RequestOk(ok) = talk.said_one(stream) else { panic!("not accepted") };
        assert_eq!((ok.id, ok.properties.priority), (talk.id(0), (version == Moqt18).then_some(9)));
    }
}

/// Too many requests at once: the new one is refused, or its stream reset.
#[test]
fn requests_have_a_limit() {
    for version in DRAFTS {
        let mut config = config(Side::Server, version);
        config.limits.requests = if version == Moqt16 { 3 } else { 2 };
        let mut talk = Talk::with(config, Setup { solicit: true, ..Setup::default() });
        talk.ask(asks);
        talk.ask(asks);
        assert_eq!(talk.lone.events().len(), 2);
        let stream = talk.ask(asks);
        assert_eq!(talk.lone.events(), []);
        match version {
            Moqt16 => {
                let refused =
                    |it: &Message| matches!(it, Message::RequestError(it) if it.id == Some(4));
                assert!(talk.said(stream).iter().any(refused));
            }
            _ => assert_eq!(talk.lone.actions(), [reset(stream, 0x9), stop(stream, 0x9)]),
        }
    }
}

/// A name that is no path here concerns its request alone: DOES_NOT_EXIST.
#[test]
fn names_that_are_no_path_are_refused() {
    // SUBSCRIBE for a namespace of one field that is not UTF-8; NAMESPACE with such a suffix.
    for version in DRAFTS {
        let mut talk = Talk::quiet(Side::Server, version);
        let ask = "03 0006 00 01 01 ff 00 00";
        let stream = match talk.control {
            Some(control) => {
                talk.lone.data(control, ask);
                control
            }
            None => talk.lone.open(Dir::Bi, ask),
        };
        assert_eq!(talk.said_one(stream), talk.error(0, 0x10));
        assert!(!talk.lone.end.is_closed());

        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(interested(Side::Client, version), setup);
        let listen = talk.lone.own(Dir::Bi, u64::from(version == Moqt16));
        talk.lone.data(listen, "08 0003 01 01 ff");
        assert_eq!(talk.lone.events(), []);
        assert!(!talk.lone.end.is_closed());
    }
}

/// The head of a message that is longer than it may be ends the session.
#[test]
fn messages_have_a_limit() {
    for version in DRAFTS {
        for (size, fits) in [("012c", true), ("012d", false)] {
            let mut config = config(Side::Server, version);
            config.limits.message_bytes = 300;
            let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config, setup);
            let head = format!("03 {size}");
            match talk.control {
                Some(control) => talk.lone.data(control, &head),
                None => drop(talk.lone.open(Dir::Bi, &head)),
            }
            match fits {
                true => assert!(!talk.lone.end.is_closed()),
                false => talk.closed_with(0x3),
            }
        }
    }
}

/// Each request and each update has an answer: who asks on and reads none of them goes, before the
/// answers take more memory than that.
#[test]
fn answers_that_are_not_read_have_a_limit() {
    for version in DRAFTS {
        let mut config = config(Side::Server, version);
        config.limits.request_buffer = 100;
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        let stream = talk.ask(asks);
        assert_eq!(talk.lone.events().len(), 1);
        talk.lone.reads = false;
        let mut asked = 0;
        while !talk.lone.end.is_closed() {
            let (id, existing) = (talk.next, talk.id(0));
            talk.next += 2;
            let parameters = Parameters { forward: Some(false), ..Parameters::default() };
            let update = RequestUpdate { id, existing, parameters };
            talk.say(stream, &Message::RequestUpdate(update));
            talk.lone.events();
            asked += 1;
            assert!(asked < 6_400, "an answer takes a byte at least");
        }
        assert!(asked > 500, "{asked}: a peer may be slow");
    }
}
