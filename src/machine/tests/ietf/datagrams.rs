//! Objects in datagrams (*Object Datagram*).

use core::cmp::Reverse;

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
            subgroup: None,
            timestamp,
            properties,
            payload: "hello".into(),
        };
        assert_eq!(talk.lone.events(), [expected], "{version}");
        // Other objects than the first of their group, and those with a status, are not wanted.
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

/// D22-2-1-1-MUST-018: where all subgroups are wanted, every object is reported with its id, its priority, END_OF_GROUP and
/// its status. A number that a subgroup can't have beside it is not.
#[test]
fn every_object_of_a_datagram_is_reported() {
    for version in EVERY {
        let config = Config { subgroups: true, ..config(Side::Client, version) };
        let setup = Setup { max_request_id: 1_000, solicit: true, ..Setup::default() };
        let mut talk = Talk::with(config, setup);
        talk.subscribed(7, TrackProperties::default());
        let last = DatagramHead { end_of_group: true, priority: Some(3), ..head(4, 5) };
        let of_track = DatagramHead { priority: None, ..head(4, 6) };
        let ends = |status, object| DatagramHead { status, ..head(4, object) };
        let mut heads = vec![
            (head(4, 0), "first"),
            (head(4, 1), ""),
            (head(9, (1 << 62) - 1), "far"),
            (last, "last"),
            (ends(ObjectStatus::EndOfGroup, 6), ""),
            (ends(ObjectStatus::EndOfTrack, 7), ""),
        ];
        if version >= Moqt15 {
            heads.push((of_track, "track"));
        }
        if version < Moqt16 {
            heads.push((ends(ObjectStatus::DoesNotExist, 8), ""));
        }
        for (head, payload) in heads {
            talk.lone.handle(Input::Datagram { bytes: object(version, &head, payload) });
            let subgroup = Subgroup {
                number: Subgroup::DATAGRAMS + head.object,
                first_frame: head.object,
                priority: head.priority,
                is_from_start: true,
                ends_group: head.end_of_group,
            };
            assert!(subgroup.is_datagram());
            let properties = Properties::NONE.with_gap_and_status(0, head.status as u8);
            let expected = Event::Datagram {
                subscription: token(0),
                sequence: head.group,
                subgroup: Some(subgroup),
                timestamp: None,
                properties: Some(properties),
                payload: payload.into(),
            };
            assert_eq!(talk.lone.events(), [expected], "{version}: {head:?}");
        }
        assert_eq!(talk.lone.end.machine.lost_datagrams(), 0);
        if version >= Moqt17 {
            // Ids of 64 bits, and a subgroup whose number is that of an object in a datagram.
            let number = "ff8000000000000001";
            let far = hex(&format!("00 07 04 {number} 80 6869"));
            talk.lone.handle(Input::Datagram { bytes: far });
            let data = talk.lone.open(Dir::Uni, &format!("14 07 04 {number} 80 00 02 6869"));
            let refused = Event::GroupRefused { subscription: token(0), sequence: 4 };
            assert_eq!(talk.lone.events(), [refused], "{version}");
            let is_stopped = |it: &Action| matches!(it, Action::Stop { id, .. } if *id == data);
            assert!(talk.lone.actions().iter().any(is_stopped), "{version}");
            assert_eq!(talk.lone.end.machine.lost_datagrams(), 1, "{version}");
        }
        assert!(!talk.lone.end.is_closed());
    }
}

/// *Object Datagram*: an object is written with the fields that it came with, in the order of priorities and ids, and is never sent in
/// another delivery mode, unless it is the first of its group (D22-2-1-1-MUST-018).
#[test]
fn objects_are_written_as_they_came() {
    for version in EVERY {
        for max in [0, 60, 1_400] {
            let mut talk = Talk::quiet(Side::Server, version);
            talk.lone.handle(max_datagram(max));
            let stream = talk.request(subscribe_message);
            let Event::SubscribeRequested { request, .. } = one(talk.lone.events()) else {
                panic!()
            };
            let info = TrackInfo { priority: 200, ..TrackInfo::default() };
            talk.lone.apply(Command::AcceptSubscribe { request, info, largest: None });
            talk.written(stream);
            let status = |status| Some(Properties::NONE.with_gap_and_status(0, status));
            let long = "l".repeat(1_250);
            let objects = [
                (0, None, false, status(0), "first"),
                (1, Some(9), true, status(0), "last"),
                (2, Some(7), true, status(0), ""),
                (3, None, false, status(3), ""),
                (4, None, false, status(0), long.as_str()),
                (1 << 61, None, false, status(0), "far"),
            ];
            for (slot, (object, priority, ends_group, properties, payload)) in
                objects.iter().cloned().enumerate().rev()
            {
                let (group, sequence) = (token(slot as u32), 7);
                let subgroup = Subgroup::of_datagram(object, priority, ends_group).unwrap();
                let frame = Frame { properties, ..Frame::new(0, payload.to_owned()) };
                talk.lone.end.source.insert(group, [frame]);
                talk.lone.end.apply(Command::Subgroup { request, group, sequence, subgroup });
            }
            let mut released = vec![];
            let mut in_order: Vec<_> = objects.into_iter().enumerate().collect();
            in_order.sort_by_key(|(_, (_, priority, ..))| Reverse(priority.unwrap_or(200)));
            for (slot, (object, priority, ends_group, properties, payload)) in in_order {
                let fits = payload.len() + 30 < max;
                released.push((token(slot as u32), fits || object == 0));
                if !fits {
                    continue;
                }
                let (start, payload_sent) = sent(&mut talk.lone).expect("a datagram");
                assert_eq!(payload_sent, payload);
                let whole = hex(&start);
                let decoded = DatagramHead::decode(&whole, draft(version));
                let (written, _) = decoded.unwrap().expect("an object");
                let expected = DatagramHead {
                    alias: 0,
                    priority: priority.or(Some(200)),
                    end_of_group: ends_group && !payload.is_empty(),
                    status: match properties.map_or(0, |it| it.status()) {
                        3 => ObjectStatus::EndOfGroup,
                        _ => ObjectStatus::Normal,
                    },
                    ..head(7, object)
                };
                assert_eq!(written, expected, "{version} {max}");
            }
            released.sort_unstable();
            assert_eq!(sent(&mut talk.lone), None);
            talk.lone.run();
            let events = talk.lone.events().into_iter().map(|event| match event {
                Event::GroupReleased { group, sent } => (group, sent),
                other => panic!("{other:?}"),
            });
            let mut events: Vec<_> = events.collect();
            events.sort();
            assert_eq!(events, released, "{version} {max}");
            if max == 0 {
                // The first object alone has a stream: subgroup 0, which does not end its group.
                let n = u64::from(version >= Moqt17);
                let sent = talk.lone.sent(talk.lone.own(Dir::Uni, n)).replace(' ', "");
                let kind = match version {
                    Moqt14 | Moqt15 | Moqt16 => "10",
                    Moqt17 => "11",
                    _ => "51",
                };
                assert!(sent.starts_with(&format!("{kind}000737")), "{version}: {sent}");
                assert!(sent.ends_with("6669727374fin"), "{version}: {sent}");
                assert_eq!(talk.lone.opened[0][Dir::Uni as usize], n + 1, "{version}");
            }
        }
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
