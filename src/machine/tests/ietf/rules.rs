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
