//! moqtap-client 0.9.1 at a relay of smoq, on every draft from 14 to 22.
//!
//! It is a strict client: it ends a session for each violation that it sees.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use moqtap_client::dispatch::{
    AnyArrival, AnyClientConfig, AnyConnection, AnyFetchReader, AnyInboundRequest, AnyRequest,
    AnySubgroupReader, AnyTransportType, ErrorCause, FetchRange, JoiningStart,
};
use moqtap_codec::kvp::{KeyValuePair, KvpValue};
use moqtap_codec::types::{FilterType, Forward, GroupOrder, TrackNamespace};
use moqtap_codec::varint::VarInt;
use moqtap_codec::version::DraftVersion;
use smoq::{Origin, OriginProducer, Server, Track};
use smoq_interop::{quic, tests, within};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::Identity;

use DraftVersion::{
    Draft14, Draft15, Draft16, Draft17, Draft18, Draft19, Draft20, Draft21, Draft22,
};

tests! {
    it_reads_in_14: reads(Draft14);
    it_reads_in_15: reads(Draft15);
    it_reads_in_16: reads(Draft16);
    it_reads_in_17: reads(Draft17);
    it_reads_in_18: reads(Draft18);
    it_reads_in_19: reads(Draft19);
    it_reads_in_20: reads(Draft20);
    it_reads_in_21: reads(Draft21);
    it_reads_in_22: reads(Draft22);
    it_publishes_in_14: publishes(Draft14, Draft18);
    it_publishes_in_15: publishes(Draft15, Draft14);
    it_publishes_in_16: publishes(Draft16, Draft16);
    it_publishes_in_17: publishes(Draft17, Draft15);
    it_publishes_in_18: publishes(Draft18, Draft18);
    it_publishes_in_19: publishes(Draft19, Draft17);
    it_publishes_in_20: publishes(Draft20, Draft19);
    it_publishes_in_21: publishes(Draft21, Draft20);
    it_publishes_in_22: publishes(Draft22, Draft22);
    it_offers_in_14: offers(Draft14, Draft22);
    it_offers_in_15: offers(Draft15, Draft21);
    it_offers_in_16: offers(Draft16, Draft20);
    it_offers_in_17: offers(Draft17, Draft19);
    it_offers_in_18: offers(Draft18, Draft18);
    it_offers_in_19: offers(Draft19, Draft17);
    it_offers_in_20: offers(Draft20, Draft16);
    it_offers_in_21: offers(Draft21, Draft15);
    it_offers_in_22: offers(Draft22, Draft14);
    it_asks_for_tracks_in_18: asks_for_tracks(Draft18, Draft18);
    it_asks_for_tracks_in_19: asks_for_tracks(Draft19, Draft15);
    it_asks_for_tracks_in_20: asks_for_tracks(Draft20, Draft17);
    it_asks_for_tracks_in_21: asks_for_tracks(Draft21, Draft18);
    it_asks_for_tracks_in_22: asks_for_tracks(Draft22, Draft16);
    it_asks_for_groups_in_16: asks_for_groups(Draft16);
    it_asks_for_groups_in_17: asks_for_groups(Draft17);
    it_asks_for_groups_in_18: asks_for_groups(Draft18);
    it_asks_for_groups_in_19: asks_for_groups(Draft19);
    it_asks_for_groups_in_20: asks_for_groups(Draft20);
    it_asks_for_groups_in_21: asks_for_groups(Draft21);
    it_asks_for_groups_in_22: asks_for_groups(Draft22);
}

/// Announcements, subscriptions, every kind of FETCH, and refusals.
async fn reads(draft: DraftVersion) {
    let (origin, address) = relay();
    let mut broadcast = origin.create_broadcast("room/alice").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    let mut group = track.append_group().unwrap();
    for n in 0..3 {
        group.write_frame(n, payload(n)).unwrap();
    }
    group.finish().unwrap();
    let mut group = track.append_group().unwrap();
    group.write_frame(3, payload(3)).unwrap();

    let mut client = connect(address, draft).await;
    let mut announced = subscribe_namespace(&mut client, namespace("room")).await;
    let kinds = ["SubscribeNamespaceOk RequestOk", "PublishNamespace Namespace"];
    answers(&mut client, &mut announced, &kinds).await;

    let (room, video) = (namespace("room/alice"), b"video".to_vec());
    let (order, filter) = (GroupOrder::Ascending, FilterType::LargestObject);
    let mut request =
        client.subscribe(room.clone(), video.clone(), 128, order, filter).await.unwrap();
    answers(&mut client, &mut request, &["SubscribeOk"]).await;
    group.write_frame(4, payload(4)).unwrap();
    group.finish().unwrap();
    let (header, mut objects) = within("a group", client.accept_subgroup()).await.unwrap();
    assert_eq!(header.group_id(), 1);
    assert_eq!(rest_of_group(&mut objects).await.last(), Some(&(1, payload(4))));

    let range = FetchRange::through_end_of_group(0, 0, 0);
    let mut fetch = client.fetch(room.clone(), video.clone(), range).await.unwrap();
    answers(&mut client, &mut fetch, &["FetchOk"]).await;
    let (_, mut objects) = within("a FETCH", client.accept_fetch(order)).await.unwrap();
    let whole = [(0, 0, payload(0)), (0, 1, payload(1)), (0, 2, payload(2))];
    assert_eq!(rest_of_fetch(&mut objects).await, whole);

    // Draft 20 has fill in the place of joining fetches.
    if !matches!(draft, Draft20 | Draft21 | Draft22) {
        let start = JoiningStart::GroupsBefore(1);
        let mut joining = client.fetch_joining(request.request_id(), start).await.unwrap();
        answers(&mut client, &mut joining, &["FetchOk"]).await;
        let (_, mut objects) = within("a FETCH", client.accept_fetch(order)).await.unwrap();
        let objects = rest_of_fetch(&mut objects).await;
        assert_eq!(objects[..3], whole);
        assert_eq!(objects[3], (1, 0, payload(3)));
    }

    let mut status = client.track_status(room.clone(), video).await.unwrap();
    answers(&mut client, &mut status, &["TrackStatusOk RequestOk"]).await;
    let unknown = b"no such track".to_vec();
    let mut refused = client.subscribe(room, unknown, 128, order, filter).await.unwrap();
    answers(&mut client, &mut refused, &["SubscribeError RequestError"]).await;
    client.close(0, b"");
}

/// Its broadcast goes through the relay to another such client.
async fn publishes(draft: DraftVersion, reader: DraftVersion) {
    let (_origin, address) = relay();
    let mut client = connect(address, draft).await;
    let mut offer = client.publish_namespace(namespace("room/bob")).await.unwrap();
    answers(&mut client, &mut offer, &["PublishNamespaceOk RequestOk"]).await;

    let mut reader = connect(address, reader).await;
    let (order, filter) = (GroupOrder::Ascending, FilterType::LargestObject);
    let audio = b"audio".to_vec();
    let room = namespace("room/bob");
    let mut request =
        reader.subscribe(room.clone(), audio.clone(), 7, order, filter).await.unwrap();
    let mut asked = loop {
        match within("SUBSCRIBE", client.recv_inbound()).await.unwrap() {
            AnyArrival::Subscribe { request, .. } => break request,
            AnyArrival::Other(_) => {}
        }
    };
    client.accept_subscribe(&mut asked, VarInt::from_u64(77).unwrap()).await.unwrap();
    answers(&mut reader, &mut request, &["SubscribeOk"]).await;
    transfer(&client, &reader).await;

    // A FETCH has the objects of all subgroups in the order of their ids. This client reads gaps otherwise (see the notes).
    let range = FetchRange::through_end_of_group(10, 0, 11);
    let mut fetch = reader.fetch(room, audio, range).await.unwrap();
    answers(&mut reader, &mut fetch, &["FetchOk"]).await;
    let (_, mut objects) = within("a FETCH", reader.accept_fetch(order)).await.unwrap();
    let objects = rest_of_fetch(&mut objects).await;
    let places: Vec<_> = objects.iter().map(|(group, id, _)| (*group, *id)).collect();
    let expected: Vec<_> = (0..6).map(|id| (10, id)).chain((0..3).map(|id| (11, id))).collect();
    assert_eq!(places, expected);
    assert!(objects.iter().all(|(_, id, bytes)| *bytes == payload(*id)));
    client.close(0, b"");
    reader.close(0, b"");
}

/// Its track, which nobody asked for, goes through the relay to another such client.
async fn offers(draft: DraftVersion, reader: DraftVersion) {
    let (_origin, address) = relay();
    let mut client = connect(address, draft).await;
    let (room, audio) = (namespace("room/bob"), b"audio".to_vec());
    let alias = VarInt::from_u64(77).unwrap();
    let mut offer =
        client.publish(room.clone(), audio.clone(), alias, Forward::Forward).await.unwrap();
    answers(&mut client, &mut offer, &["PublishOk RequestOk"]).await;

    let mut reader = connect(address, reader).await;
    let (order, filter) = (GroupOrder::Ascending, FilterType::LargestObject);
    let mut request = reader.subscribe(room, audio, 7, order, filter).await.unwrap();
    // It is answered at once, because the relay has the track.
    answers(&mut reader, &mut request, &["SubscribeOk"]).await;
    transfer(&client, &reader).await;
    client.close(0, b"");
    reader.close(0, b"");
}

/// It is offered each track below a prefix, of the relay and of another such client: those that there are, and one that
/// comes later. It accepts one and refuses the others, which changes nothing else.
async fn asks_for_tracks(draft: DraftVersion, publisher: DraftVersion) {
    let (origin, address) = relay();
    let mut broadcast = origin.create_broadcast("room/alice").unwrap();
    let _track = broadcast.create_track("video").unwrap();
    let mut client = connect(address, publisher).await;
    let (room, audio) = (namespace("room/bob"), b"audio".to_vec());
    let alias = VarInt::from_u64(77).unwrap();
    let mut offer = client.publish(room.clone(), audio, alias, Forward::Forward).await.unwrap();
    answers(&mut client, &mut offer, &["PublishOk RequestOk"]).await;

    let mut reader = connect(address, draft).await;
    let mut tracks = reader.subscribe_tracks(namespace("room"), Forward::Forward).await.unwrap();
    answers(&mut reader, &mut tracks, &["RequestOk"]).await;
    let mut accepted = Vec::new();
    let mut names = Vec::new();
    for _ in 0..2 {
        let (name, mut published) = published(&mut reader).await;
        if name == "room/bob:audio" {
            answer(&mut reader, &mut published, true).await;
            // To drop it would reset its stream.
            accepted.push(published);
        } else {
            answer(&mut reader, &mut published, false).await;
        }
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["room/alice:video", "room/bob:audio"]);
    // Until the relay resumes the track, it takes no group of it.
    let is_resumed =
        |update| format!("{update:?}").contains("VarInt(16), value: Varint(VarInt(1))");
    while !is_resumed(within("an update", client.recv_response(&mut offer)).await.unwrap()) {}
    transfer(&client, &reader).await;

    let alias = VarInt::from_u64(78).unwrap();
    let chat = client.publish(room, b"chat".to_vec(), alias, Forward::Forward).await;
    let mut chat = chat.unwrap();
    answers(&mut client, &mut chat, &["PublishOk RequestOk"]).await;
    let (name, mut late) = published(&mut reader).await;
    assert_eq!(name, "room/bob:chat");
    answer(&mut reader, &mut late, false).await;
    // The session goes on.
    let mut status = reader.track_status(namespace("room/bob"), b"audio".to_vec()).await.unwrap();
    answers(&mut reader, &mut status, &["RequestOk"]).await;
    client.close(0, b"");
    reader.close(0, b"");
}

macro_rules! requests_of_the_relay {
    ($($draft:ident $module:ident),*) => {
        /// The name of the next track that the relay offers, and the request. The facade would refuse it.
        async fn published(client: &mut AnyConnection) -> (String, AnyInboundRequest) {
            loop {
                match client {
                    $(AnyConnection::$draft(it) => {
                        use moqtap_codec::$module::message::ControlMessage;
                        let accepted = within("PUBLISH", it.accept_request_stream()).await;
                        let (message, stream) = accepted.unwrap();
                        let mut request = AnyInboundRequest::$draft(stream);
                        match message {
                            ControlMessage::Publish(offer) => {
                                let fields = offer.track_namespace.0.join(&b'/');
                                let name = [fields, offer.track_name].join(&b':');
                                return (String::from_utf8(name).unwrap(), request);
                            }
                            // The relay asks for broadcasts.
                            _ => answer(client, &mut request, false).await,
                        }
                    })*
                    other => panic!("{:?}", other.draft()),
                }
            }
        }

        /// Accepts a request of the relay, or refuses it.
        async fn answer(client: &mut AnyConnection, request: &mut AnyInboundRequest, accept: bool) {
            match (client, request) {
                $((AnyConnection::$draft(it), AnyInboundRequest::$draft(stream)) => {
                    use moqtap_codec::$module::message::{RequestError, RequestOk};
                    let [code, never] = [0x20, 0].map(|it| VarInt::from_u64(it).unwrap());
                    let answered = match accept {
                        true => {
                            let (parameters, track_properties) = Default::default();
                            let ok = RequestOk { parameters, track_properties };
                            it.respond_ok(stream, ok).await
                        }
                        false => {
                            let (reason_phrase, redirect) = Default::default();
                            let (error_code, retry_interval) = (code, never);
                            let error =
                                RequestError { error_code, retry_interval, reason_phrase, redirect };
                            it.respond_error(stream, error).await
                        }
                    };
                    answered.unwrap();
                })*
                (client, _) => panic!("{:?}", client.draft()),
            }
        }
    };
}

requests_of_the_relay! {
    Draft18 draft18, Draft19 draft19, Draft20 draft20, Draft21 draft21, Draft22 draft22
}

/// The load of the relay: subgroups of a track, with the ids of their objects.
const TRACK: [(u64, u64, &[u64]); 8] = [
    // A group in one subgroup.
    (5, 0, &[0, 1, 2]),
    // Ids with gaps, of groups and objects.
    (8, 0, &[0, 3, 6]),
    // Two subgroups.
    (10, 0, &[0, 2, 4]),
    (10, 1, &[1, 3, 5]),
    // A subgroup for each object.
    (11, 0, &[0]),
    (11, 1, &[1]),
    (11, 2, &[2]),
    // A group without subgroup 0.
    (12, 7, &[3]),
];

/// All subgroups arrive as they were.
async fn transfer(client: &AnyConnection, reader: &AnyConnection) {
    for (group, subgroup, ids) in TRACK {
        let mut objects = client.open_subgroup(77, group, subgroup, 200).await.unwrap();
        for id in ids {
            objects.write_object(*id, &payload(*id)).await.unwrap();
        }
        objects.finish().await.unwrap();
    }
    let mut arrived = BTreeMap::new();
    for _ in TRACK {
        let (header, mut objects) = within("a group", reader.accept_subgroup()).await.unwrap();
        let objects = rest_of_group(&mut objects).await;
        let key = (header.group_id(), header.subgroup_id().unwrap_or(objects[0].0));
        assert_eq!(arrived.insert(key, objects), None, "{key:?}");
    }
    for (group, subgroup, ids) in TRACK {
        let objects: Vec<_> = ids.iter().map(|id| (*id, payload(*id))).collect();
        assert_eq!(arrived[&(group, subgroup)], objects, "{group} {subgroup}");
    }
}

/// NEW_GROUP_REQUEST in SUBSCRIBE and in REQUEST_UPDATE, for a track with DYNAMIC_GROUPS.
async fn asks_for_groups(draft: DraftVersion) {
    let (origin, address) = relay();
    let mut broadcast = origin.create_broadcast("room/alice").unwrap();
    let mut track = broadcast.create_track(Track::new("video").dynamic_groups(true)).unwrap();
    track.write_frame(0, payload(0)).unwrap();
    let mut client = connect(address, draft).await;
    let number = |n| VarInt::from_u64(n).unwrap();
    let asking =
        |group| vec![KeyValuePair { key: number(0x32), value: KvpValue::Varint(number(group)) }];
    let (room, video) = (namespace("room/alice"), b"video".to_vec());
    macro_rules! subscribe {
        ($($on:ident),*) => {
            match &mut client {
                AnyConnection::Draft16(it) => {
                    let request_id = it.subscribe(room, video, asking(0)).await.unwrap();
                    AnyRequest::ControlPlane { request_id, draft }
                }
                $(AnyConnection::$on(it) => {
                    AnyRequest::$on(it.subscribe(room, video, asking(0)).await.unwrap())
                })*
                _ => unreachable!("a draft of this test"),
            }
        };
    }
    let mut request = subscribe!(Draft17, Draft18, Draft19, Draft20, Draft21, Draft22);
    within("a request", track.new_group_requested()).await.unwrap();
    // On 16 announcements may come before it.
    let ok = loop {
        let message = within("SUBSCRIBE_OK", client.recv_response(&mut request)).await.unwrap();
        let message = format!("{:?}", message.expect("an answer"));
        if message.contains("SubscribeOk") {
            break message;
        }
    };
    let flag = KeyValuePair { key: number(0x30), value: KvpValue::Varint(number(1)) };
    assert!(ok.contains(&format!("{flag:?}")), "{ok}");

    track.write_frame(1, payload(1)).unwrap();
    macro_rules! update {
        ($($on:ident $module:ident),*) => {
            match (&mut client, &mut request) {
                (AnyConnection::Draft16(it), AnyRequest::ControlPlane { request_id, .. }) => {
                    it.request_update(*request_id, asking(2)).await.map(drop).unwrap();
                }
                $((AnyConnection::$on(it), AnyRequest::$on(stream)) => {
                    use moqtap_codec::$module::message::{ControlMessage, RequestUpdate};
                    let (request_id, parameters) = (number(2), asking(2));
                    let update = RequestUpdate { request_id, parameters };
                    let update = ControlMessage::RequestUpdate(update);
                    it.send_on_request_stream(stream, &update).await.unwrap();
                })*
                // REQUEST_UPDATE of 17 has a field more.
                _ => return,
            }
        };
    }
    update!(Draft18 draft18, Draft19 draft19, Draft20 draft20, Draft21 draft21, Draft22 draft22);
    within("a request", track.new_group_requested()).await.unwrap();
    client.close(0, b"");
}

/// A relay with an origin, and its address.
fn relay() -> (OriginProducer, SocketAddr) {
    let origin = Origin::default().produce();
    let server = Server::new().with_origin(&origin);
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let endpoint = quic::server(config::server(&identity, server.versions()).unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let connection = incoming.await.unwrap();
                let (_session, driving) = smoq_quinn::accept(connection, &server).await.unwrap();
                let _ = driving.await;
            });
        }
    });
    (origin, address)
}

async fn connect(address: SocketAddr, draft: DraftVersion) -> AnyConnection {
    // It fails if another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = AnyClientConfig {
        draft,
        additional_versions: Vec::new(),
        transport: AnyTransportType::Quic,
        skip_cert_verification: true,
        ca_certs: Vec::new(),
        // MAX_REQUEST_ID, which up to 16 allows the relay to subscribe; and the name of the implementation.
        setup_parameters: {
            let granted = KvpValue::Varint(VarInt::from_u64(100).unwrap());
            let name = KvpValue::Bytes(b"moqtap".to_vec());
            let needs_grant = matches!(draft, Draft14 | Draft15 | Draft16);
            [(0x2, granted, needs_grant), (0x7, name, true)]
                .into_iter()
                .filter(|(.., is_sent)| *is_sent)
                .map(|(key, value, _)| KeyValuePair { key: VarInt::from_u64(key).unwrap(), value })
                .collect()
        },
    };
    within("a session", AnyConnection::connect(&address.to_string(), config)).await.unwrap()
}

/// The facade asks for PUBLISH on 16 and 17. These tests want the names of broadcasts.
async fn subscribe_namespace(client: &mut AnyConnection, prefix: TrackNamespace) -> AnyRequest {
    const NAMESPACES: u64 = 1;
    match client {
        AnyConnection::Draft16(it) => AnyRequest::Draft16(
            it.subscribe_namespace(prefix, VarInt::from_u64(NAMESPACES).unwrap(), Vec::new())
                .await
                .unwrap(),
        ),
        AnyConnection::Draft17(it) => AnyRequest::Draft17(
            it.subscribe_namespace(prefix, VarInt::from_u64(NAMESPACES).unwrap(), Vec::new())
                .await
                .unwrap(),
        ),
        client => client.subscribe_namespace(prefix).await.unwrap(),
    }
}

/// Reads messages until one of each of these kinds has come, in any order. Kinds have other names on some drafts.
async fn answers(client: &mut AnyConnection, request: &mut AnyRequest, kinds: &[&str]) {
    let mut missing = kinds.to_vec();
    while !missing.is_empty() {
        let message = within(missing[0], client.recv_response(request)).await.unwrap();
        let message = format!("{:?}", message.expect("an answer"));
        // Draft18(RequestOk(RequestOk { ... }))
        let kind = message.split('(').nth(1).unwrap_or_default();
        let before = missing.len();
        missing.retain(|names| !names.split(' ').any(|name| name == kind));
        assert!(missing.len() < before || !kind.contains("Error"), "{message}");
    }
}

/// The ids and payloads of the objects to the end of the stream.
async fn rest_of_group(stream: &mut AnySubgroupReader) -> Vec<(u64, Vec<u8>)> {
    let mut objects = Vec::new();
    loop {
        match within("an object", stream.read_object()).await {
            Ok(object) if object.status.is_some() => {}
            Ok(object) => objects.push((object.object_id, object.payload)),
            Err(error) => {
                assert_eq!(*error.cause(), ErrorCause::StreamEnded, "{error}");
                return objects;
            }
        }
    }
}

/// The groups, ids and payloads of the objects to the end of the stream.
async fn rest_of_fetch(stream: &mut AnyFetchReader) -> Vec<(u64, u64, Vec<u8>)> {
    let mut objects = Vec::new();
    loop {
        match within("an object", stream.read_object()).await {
            Ok(object) => objects.push((object.group_id, object.object_id, object.payload)),
            Err(error) => {
                assert_eq!(*error.cause(), ErrorCause::StreamEnded, "{error}");
                return objects;
            }
        }
    }
}

fn namespace(path: &str) -> TrackNamespace {
    TrackNamespace(path.split('/').map(|field| field.as_bytes().to_vec()).collect())
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 1_000 * (n as usize + 1)]
}
