//! A third opinion on draft 22: moqtail 0.17.0 reads the bytes of ours and writes them again.

use ::moqtail::model::control::constant::GroupOrder as TheirOrder;
use ::moqtail::model::control::control_message::ControlMessage;
use ::moqtail::model::data::constant::ObjectForwardingPreference;
use ::moqtail::model::data::datagram::Datagram;
use ::moqtail::model::data::fetch_object::FetchObject as TheirObject;
use ::moqtail::model::data::subgroup_header::SubgroupHeader as TheirHeader;
use ::moqtail::model::data::subgroup_object::SubgroupObject;
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use smoq::Version;
use smoq::coding::ietf::{
    FetchRecord, FetchRecords, Framed, GroupOrder, Location, Message, ObjectHead, Parameters,
    PublishDone, RequestError, RequestUpdate, SubgroupHeader, UniStream, frame_message,
};

use super::wire::{any_message, datagram, draft, subgroup};
use super::{
    Fields, agreed, check_record, fields, object, record_bytes, same_bytes, without_spelling,
};

const VERSION: Version = Version::Moqt22;

/// The same message with what moqtail accepts as well. Each difference has a test below.
fn agreed_by_three(message: Message) -> Message {
    let mut message = agreed(message, VERSION);
    match &mut message {
        Message::RequestUpdate(it) => it.parameters.prefix = None,
        Message::RequestError(it) if it.redirect.is_none() => it.code = 0,
        Message::PublishDone(it) => it.status = 0,
        Message::PublishStateNotify(_) => message = Message::RequestUpdate(Default::default()),
        _ => {}
    }
    message
}

/// Ours, and what moqtail reads and writes for it.
fn rewritten(message: &Message) -> (Bytes, Result<Bytes, String>) {
    let mut ours = BytesMut::new();
    message.encode(&mut ours, draft(VERSION)).unwrap();
    let ours = ours.freeze();
    let mut rest = ours.clone();
    let theirs = ControlMessage::deserialize(&mut rest).and_then(|read| read.serialize());
    (ours, theirs.map_err(|error| format!("{error:?}")))
}

fn check_subgroup(header: SubgroupHeader, objects: &[ObjectHead<'_>]) {
    let mut ours = BytesMut::new();
    UniStream::Subgroup(header).encode(&mut ours, draft(VERSION)).unwrap();
    for object in objects {
        ours.extend_from_slice(&object.encode(header.properties, draft(VERSION)).unwrap());
        ours.extend_from_slice(&vec![0xa5; object.size as usize]);
    }
    let ours = ours.freeze();
    let (mut rest, mut theirs, mut previous) = (ours.clone(), BytesMut::new(), None);
    let read = TheirHeader::deserialize(&mut rest).unwrap();
    theirs.extend_from_slice(&read.serialize(None).unwrap());
    let has_properties = read.header_type.has_properties();
    while !rest.is_empty() {
        let object = SubgroupObject::deserialize(&mut rest, &previous, has_properties).unwrap();
        theirs.extend_from_slice(&object.serialize(previous, has_properties).unwrap());
        previous = Some(object.object_id);
    }
    same_bytes(&ours, &theirs, VERSION);
}

/// Records with any flags: both codecs read the same value, or both refuse.
fn check_records(records: Vec<Fields>, is_descending: bool) {
    let (order, their_order) = match is_descending {
        true => (GroupOrder::Descending, TheirOrder::Descending),
        false => (GroupOrder::Ascending, TheirOrder::Ascending),
    };
    let (mut ours, mut context) = (FetchRecords::new(order, draft(VERSION)), None);
    for (flags, ids, priority, timestamp, size) in records {
        let size = size % 64;
        let head = record_bytes(&(flags, ids, priority, timestamp, size), VERSION);
        let read = ours.read(&head);
        let mut bytes = Bytes::from([&head[..], &vec![0xa5; size as usize]].concat());
        let theirs = TheirObject::deserialize(&mut bytes, context.as_ref(), their_order);
        assert_eq!(read.is_ok(), theirs.is_ok(), "{read:?} {theirs:?}");
        let (Ok(Some((FetchRecord::Object(object), _))), Ok(theirs)) = (read, theirs) else {
            return;
        };
        context = Some(theirs.next_context(context.as_ref()));
        let TheirObject::Object(theirs) = theirs else { panic!("{theirs:?}") };
        let is_datagram = theirs.forwarding_preference == ObjectForwardingPreference::Datagram;
        let subgroup = (!is_datagram).then_some(theirs.subgroup_id);
        let location = Location::new(theirs.group_id, theirs.object_id);
        let size = theirs.payload.len() as u64;
        let read = (location, subgroup, Some(theirs.publisher_priority), size, Vec::new());
        check_record(&object, &Ok(read));
        if is_datagram {
            // The subgroup that comes before the next record is left open: moqtail and moqtap disagree.
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 9_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn control_messages((_, message) in any_message(&[VERSION])) {
        let message = agreed_by_three(message);
        let (ours, theirs) = rewritten(&message);
        let theirs = theirs.unwrap_or_else(|error| panic!("{error}: {message:?}"));
        let Framed { kind, head, .. } = frame_message(&theirs, draft(VERSION), 65_535).unwrap().unwrap();
        let read = Message::decode(kind, &theirs[head..], draft(VERSION)).map(without_spelling);
        prop_assert_eq!(read, Ok(message));
        same_bytes(&ours, &theirs, VERSION);
    }

    #[test]
    fn subgroups(
        (header, objects) in subgroup(VERSION)
            .prop_flat_map(|header| (Just(header), vec(object(header.properties), 0..5))),
    ) {
        check_subgroup(header, &objects);
    }

    #[test]
    fn datagrams((head, size) in datagram(VERSION)) {
        let mut ours = BytesMut::from(&head.encode(size, draft(VERSION)).unwrap()[..]);
        ours.extend_from_slice(&vec![7; size]);
        let ours = ours.freeze();
        let theirs = Datagram::deserialize(&mut ours.clone()).unwrap().serialize().unwrap();
        same_bytes(&ours, &theirs, VERSION);
    }

    #[test]
    fn fetch_records(records in vec(fields(), 1..6), is_descending in any::<bool>()) {
        check_records(records, is_descending);
    }
}

/// The text has a bare namespace there (9.20.15), and moqtap agrees.
#[test]
fn moqtail_reads_a_length_before_the_prefix_of_an_update() {
    let mut update = RequestUpdate::default();
    update.parameters.prefix = Some("live/sports".into());
    let (_, theirs) = rewritten(&Message::RequestUpdate(update));
    assert!(theirs.is_err());
}

/// Applications have codes of their own, which moqtail takes for INTERNAL_ERROR.
#[test]
fn moqtail_forgets_codes_that_it_does_not_know() {
    let error = RequestError { code: 0x1234, ..RequestError::default() };
    let done = PublishDone { status: 0x1234, ..PublishDone::default() };
    for message in [Message::RequestError(error), Message::PublishDone(done)] {
        let (ours, theirs) = rewritten(&message);
        assert_ne!(theirs, Ok(ours));
    }
}

#[test]
fn moqtail_does_not_know_publish_state_notify() {
    let message = Message::PublishStateNotify(Parameters::default());
    let (_, theirs) = rewritten(&message);
    assert!(theirs.unwrap_err().starts_with("InvalidType"));
}
