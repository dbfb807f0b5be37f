//! Objects in datagrams (*Object Datagram*).

use super::*;
use crate::Properties;
use crate::machine::tests::datagrams::{came, datagram, max_datagram, sent};
use crate::time::Timescale;

fn head(group: u64, object: u64) -> DatagramHead<'static> {
    DatagramHead {
        alias: 7,
        group,
        object,
        priority: Some(200),
        end_of_group: false,
        timestamp: None,
        properties: None,
        status: ObjectStatus::Normal,
    }
}

fn object(version: Version, head: &DatagramHead, payload: &str) -> Bytes {
    let head = head.encode(payload.len(), draft(version)).unwrap();
    [&head[..], payload.as_bytes()].concat().into()
}

#[test]
fn a_group_of_one_frame_is_one_object() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Server, version);
        talk.lone.handle(max_datagram(1_200));
        let stream = talk.request(subscribe_message);
        let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else { panic!() };
        let info = TrackInfo { priority: 200, ..TrackInfo::default() };
        talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
        talk.written(stream);
        for (slot, payload) in [(5, "hello"), (6, "")] {
            talk.lone.end.source.insert(token(slot), [Frame::new(1_000, payload)]);
            talk.lone.end.apply(datagram(request, slot));
            let (start, payload_sent) = sent(&mut talk.lone).expect("a datagram");
            assert_eq!(payload_sent, payload);
            let whole = hex(&start);
            let (written, len) =
                DatagramHead::decode(&whole, draft(version)).unwrap().expect("an object");
            assert_eq!(len, whole.len());
            let timestamp = (version >= Moqt17).then_some(Timestamp::new(1_000));
            let end_of_group = !payload.is_empty();
            let expected =
                DatagramHead { alias: 0, end_of_group, timestamp, ..head(slot.into(), 0) };
            assert_eq!(written, expected, "{version}");
        }
        // D22-9-9-MUST-NOT-369: PUBLISH_DONE follows the last datagram, and counts only streams.
        talk.lone.apply(Command::FinishSubscribe { request, end: 7 });
        assert_eq!(talk.written_one(stream), talk.done(0, TRACK_ENDED, 0));
    }
}

#[test]
fn an_object_of_a_datagram_is_a_group() {
    for version in EVERY {
        let mut talk = Talk::quiet(Side::Client, version);
        // Without any subscription it is of no use.
        talk.lone.handle(Input::Datagram { bytes: object(version, &head(1, 0), "early") });
        // Before 16 a track has no properties, and so no timescale.
        let timescale = (version >= Moqt16).then_some(Timescale::MILLIS);
        talk.subscribed(7, TrackProperties { timescale, ..TrackProperties::default() });
        let timestamp = Some(Timestamp::new(20));
        let timed = DatagramHead { timestamp, ..head(3, 0) };
        talk.lone.handle(Input::Datagram { bytes: object(version, &timed, "hello") });
        let Event::Datagram { timestamp, .. } = came(3, 20, "hello") else { panic!() };
        let timestamp = timestamp.filter(|_| version >= Moqt16);
        let untimed = || Properties::new(&[0x10, 20], version).unwrap();
        let properties = timestamp.is_none().then(untimed);
        let expected = Event::Datagram {
            subscription: token(0),
            sequence: 3,
            timestamp,
            properties,
            payload: "hello".into(),
        };
        assert_eq!(talk.lone.events(), [expected], "{version}");
        // Objects that are not the first of their group, and those with a status, have no place in a track.
        let end = DatagramHead { status: ObjectStatus::EndOfGroup, ..head(4, 0) };
        for bytes in [object(version, &head(4, 1), "second"), object(version, &end, "")] {
            talk.lone.handle(Input::Datagram { bytes });
        }
        if version >= Moqt18 {
            talk.lone.handle(Input::Datagram { bytes: hex("f0 13 2b 3e 29 00 00") });
        }
        assert_eq!(talk.lone.events(), []);
        let dropped = 3 + u64::from(version >= Moqt18);
        assert_eq!(talk.lone.end.machine.lost_datagrams(), dropped, "{version}");
        assert!(!talk.lone.end.is_closed());
    }
}

/// D22-6-4-1-MUST-167, D22-11-MUST-488 and D22-11-2-1-MUST-496 to 502: an unknown type, properties of no bytes,
/// and fields that end too early.
#[test]
fn malformed_datagrams_end_the_session() {
    for version in EVERY {
        for malformed in ["3f 07 03 00", "01 07 03 00 80 00 61", "00 07 03", ""] {
            let mut talk = Talk::quiet(Side::Client, version);
            talk.subscribed(7, TrackProperties::default());
            talk.lone.handle(Input::Datagram { bytes: hex(malformed) });
            talk.lone.run();
            talk.closed_with(0x3);
        }
    }
}

/// *Unknown Track Alias*: a datagram may overtake SUBSCRIBE_OK. It is held, bounded in number and time.
#[test]
fn a_datagram_waits_for_its_alias() {
    for version in EVERY {
        let accepted = |late: bool, room: usize| {
            let limits = Limits { datagrams: room, ..Limits::default() };
            let config = Config { limits, ..config(Side::Client, version) };
            let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
            let mut talk = Talk::with(config, setup);
            talk.lone.events();
            let (stream, asked) = talk.subscribe();
            for group in 1..4 {
                let bytes = object(version, &head(group, 0), "early");
                talk.lone.handle(Input::Datagram { bytes });
                // Those of another alias wait as well.
                let other = DatagramHead { alias: 9, ..head(group, 0) };
                talk.lone.handle(Input::Datagram { bytes: object(version, &other, "other") });
                assert_eq!(talk.lone.events(), [], "{version}");
            }
            if late {
                talk.lone.advance(Duration::from_secs(60));
            }
            let (id, parameters) = (talk.id(asked.id), Parameters::default());
            let properties = TrackProperties::default();
            let ok = SubscribeOk { id, alias: 7, parameters, properties };
            talk.send(stream, &Message::SubscribeOk(ok));
            let mut events = talk.lone.events();
            assert!(matches!(events.remove(0), Event::TrackInfo { .. }), "{version}");
            let groups = events.into_iter().map(|event| match event {
                Event::Datagram { sequence, .. } => sequence,
                other => panic!("{other:?}"),
            });
            (groups.collect::<Vec<_>>(), talk.lone.end.machine.lost_datagrams())
        };
        assert_eq!(accepted(false, 100), (vec![1, 2, 3], 0), "{version}");
        assert_eq!(accepted(false, 3), (vec![3], 3), "{version}");
        assert_eq!(accepted(true, 100), (vec![], 3), "{version}");
    }
}
