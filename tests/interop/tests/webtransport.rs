//! Sessions on WebTransport over HTTP/3 with the published peers, and with their transport alone.

use std::net::SocketAddr;

use ::smoq_quinn::config;
use ::smoq_quinn::smoq_quic::{Identity, Trust};
use smoq::stream::Code;
use smoq::{Client, Error, Origin, Server, Version};
use smoq_interop::{
    peers::web::{lite016, net03, smoq_blocking, smoq_quinn},
    quic, suite, tests, within,
};
use wtq_net03::proto::{ConnectRequest, ConnectResponse};

macro_rules! on_webtransport {
    ($($name:ident: $publisher:ident, $subscriber:ident, $version:literal;)*) => {$(
        mod $name {
            use super::*;
            tests! {
                round_trip_subscriber_dials: suite::round_trip::<$publisher::Peer, $subscriber::Peer>(
                    $version, suite::Dials::Subscriber);
                round_trip_publisher_dials: suite::round_trip::<$publisher::Peer, $subscriber::Peer>(
                    $version, suite::Dials::Publisher);
                burst_of_small_groups: suite::burst::<$publisher::Peer, $subscriber::Peer>($version);
                partial_groups: suite::partial::<$publisher::Peer, $subscriber::Peer>($version);
                dropped_publisher: suite::dropped::<$publisher::Peer, $subscriber::Peer>($version);
                vanished_publisher: suite::vanished::<$publisher::Peer, $subscriber::Peer>($version);
            }
        }
    )*};
}

on_webtransport! {
    web_lite016_to_smoq_quinn_in_01: lite016, smoq_quinn, "moq-lite-01";
    web_lite016_to_smoq_blocking_in_03: lite016, smoq_blocking, "moq-lite-03";
    web_lite016_to_smoq_quinn_in_04: lite016, smoq_quinn, "moq-lite-04";
    web_smoq_blocking_to_lite016_in_02: smoq_blocking, lite016, "moq-lite-02";
    web_smoq_quinn_to_lite016_in_03: smoq_quinn, lite016, "moq-lite-03";
    web_smoq_blocking_to_lite016_in_04: smoq_blocking, lite016, "moq-lite-04";
    web_net03_to_smoq_blocking_in_02: net03, smoq_blocking, "moq-lite-02";
    web_net03_to_smoq_quinn_in_05: net03, smoq_quinn, "moq-lite-05";
    web_net03_to_smoq_blocking_in_06: net03, smoq_blocking, "moq-lite-06";
    web_net03_to_smoq_quinn_in_07: net03, smoq_quinn, "moq-lite-07-wip";
    web_net03_to_smoq_blocking_in_14: net03, smoq_blocking, "moqt-14";
    web_net03_to_smoq_quinn_in_16: net03, smoq_quinn, "moqt-16";
    web_net03_to_smoq_blocking_in_18: net03, smoq_blocking, "moqt-18";
    web_net03_to_smoq_quinn_in_22: net03, smoq_quinn, "moqt-22";
    web_smoq_quinn_to_net03_in_02: smoq_quinn, net03, "moq-lite-02";
    web_smoq_blocking_to_net03_in_05: smoq_blocking, net03, "moq-lite-05";
    web_smoq_quinn_to_net03_in_06: smoq_quinn, net03, "moq-lite-06";
    web_smoq_quinn_to_net03_in_14: smoq_quinn, net03, "moqt-14";
    web_smoq_blocking_to_net03_in_17: smoq_blocking, net03, "moqt-17";
    web_smoq_quinn_to_net03_in_22: smoq_quinn, net03, "moqt-22";
}

tests! {
    versions_are_agreed_on_with_an_old_client: suite::negotiation::<lite016::Peer, smoq_quinn::Peer>(
        &["moq-lite-03", "moq-lite-04"], &["moq-lite-05", "moq-lite-04"], "moq-lite-04");
    versions_are_agreed_on_with_a_new_server: suite::negotiation::<smoq_blocking::Peer, net03::Peer>(
        &["moq-lite-05", "moq-lite-06"], &["moq-lite-06", "moq-lite-05"], "moq-lite-05");
}

/// A smoq server, and the address to dial.
fn listen(versions: &[Version]) -> (quinn::Endpoint, SocketAddr, Server) {
    let server = Server::new().with_origin(&Origin::default().produce());
    let server = server.with_versions(versions.iter().copied().collect::<smoq::Versions>());
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let config = config::server(&identity, server.versions()).unwrap();
    let endpoint = quic::server(config).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr, server)
}

/// A client of web-transport-quinn, without MoQ.
async fn dial(
    addr: SocketAddr,
    protocols: &[&str],
) -> (quinn::Endpoint, Result<wtq_net03::Session, wtq_net03::ClientError>) {
    let endpoint = quic::client(quic::client_config(&["h3"])).unwrap();
    let connection = endpoint.connect(addr, "localhost").unwrap().await.unwrap();
    let url: url::Url = format!("https://{addr}/room/a?token=7").parse().unwrap();
    let origin = ("origin".parse().unwrap(), "https://example.org".parse().unwrap());
    let request = ConnectRequest::new(url)
        .with_protocols(protocols.iter().map(ToString::to_string))
        .with_header(origin.0, origin.1);
    (endpoint, wtq_net03::Session::connect(connection, request).await)
}

#[tokio::test]
async fn the_decision_sees_the_request_and_a_rejection_has_its_code() {
    let (endpoint, addr, server) = listen(&[Version::Lite04]);
    let serving = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut request, driving) = ::smoq_quinn::incoming(connection, &server).await.unwrap();
        let driving = tokio::spawn(driving);
        request.ready().await.unwrap();
        let http = request.http().unwrap();
        assert_eq!(http.origin(), Some("https://example.org"));
        assert_eq!(request.authority(), addr.to_string());
        assert_eq!((request.path().as_str(), request.query()), ("room/a", "token=7"));
        request.reject(Error::App(7));
        assert_eq!(driving.await.unwrap(), Err(Error::App(7)));
    };
    let (_, (_endpoint, session)) =
        within("a rejection", async { tokio::join!(serving, dial(addr, &["x", "moq-lite-04"])) })
            .await;
    let session = session.unwrap();
    assert_eq!(session.protocol(), Some("moq-lite-04"));
    let closed = within("the close", session.closed()).await;
    let expected = Error::App(7).session_code().as_u64() as u32;
    let wtq_net03::SessionError::WebTransportError(wtq_net03::WebTransportError::Closed(code, _)) =
        closed
    else {
        panic!("{closed}");
    };
    assert_eq!(code, expected);
}

/// Stream type and SUBSCRIBE of moq-lite 04: id 0, broadcast `demo/bbb`, track `video`.
const SUBSCRIBE: &[u8] = b"\x02\x16\x00\x08demo/bbb\x05video\x02\x00\x40\xfa\x00\x00";

#[tokio::test]
async fn a_foreign_client_gets_resets_and_ends_the_session_with_codes() {
    let (endpoint, addr, server) = listen(&[Version::Lite04]);
    let serving = tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (session, driving) = ::smoq_quinn::accept(connection, &server).await.unwrap();
        let end = driving.await;
        drop(session);
        end
    });
    let (_endpoint, session) = within("a session", dial(addr, &["moq-lite-04"])).await;
    let session = session.unwrap();
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(SUBSCRIBE).await.unwrap();
    let reset = within("a reset", recv.read_to_end(64)).await.unwrap_err();
    let expected = Error::Unroutable.stream_code().as_u64() as u32;
    assert!(
        matches!(reset, wtq_net03::ReadToEndError::ReadError(wtq_net03::ReadError::Reset(code))
            if code == expected),
        "{reset}"
    );
    session.close(64 + 9, b"enough");
    let end = within("the end", serving).await.unwrap();
    assert_eq!(end, Err(Error::App(9)));
}

#[tokio::test]
async fn a_client_without_a_common_version_gets_no_session() {
    let (endpoint, addr, server) = listen(&[Version::Lite06]);
    let serving = tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        ::smoq_quinn::accept(connection, &server).await.err()
    });
    let (_endpoint, session) = within("a refusal", dial(addr, &["moq-lite-99"])).await;
    assert!(session.is_err());
    let refused = within("the error", serving).await.unwrap();
    let expected = ::smoq_quinn::smoq_quic::http3::Error::Version;
    assert_eq!(refused, Some(::smoq_quinn::Error::WebTransport(expected)));
}

/// A server of web-transport-quinn answers with `response`.
async fn served_by_others(
    response: ConnectResponse,
    client: &Client,
) -> (Option<wtq_net03::Session>, Result<smoq::Session, ::smoq_quinn::Error>) {
    let endpoint = quic::server(quic::server_config(&["h3"])).unwrap();
    let addr = endpoint.local_addr().unwrap();
    let dialing = quic::client(config::webtransport_client(&Trust::Insecure).unwrap()).unwrap();
    let serving = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let request = wtq_net03::Request::accept(connection).await.unwrap();
        assert_eq!(request.url.path(), "/room");
        assert_eq!(request.protocols, ["moq-lite-04"]);
        let is_ok = response.status.is_success();
        let session = request.respond(response).await.unwrap();
        is_ok.then_some(session)
    };
    let joining = async {
        let connection = dialing.connect(addr, "localhost").unwrap().await.unwrap();
        let (session, driving) = ::smoq_quinn::connect(connection, client).await?;
        tokio::spawn(driving);
        Ok(session)
    };
    within("an answer", async { tokio::join!(serving, joining) }).await
}

#[tokio::test]
async fn a_foreign_server_accepts_refuses_and_closes() {
    let client = Client::new().with_versions(Version::Lite04).with_path("room");
    let ok = ConnectResponse::OK.with_protocol("moq-lite-04");
    let (theirs, ours) = served_by_others(ok, &client).await;
    let mut ours = ours.unwrap();
    let theirs = theirs.unwrap();
    theirs.close(64 + 5, b"");
    let closed = within("the close", ours.closed()).await;
    drop(theirs);
    assert_eq!(closed, smoq::CloseReason::Error(Error::App(5)));
    assert_eq!(Error::App(5).session_code(), Code::new(64 + 5));

    let status = ConnectResponse::new(wtq_net03::http::StatusCode::NOT_FOUND);
    let (_, refused) = served_by_others(status, &client).await;
    let expected = ::smoq_quinn::smoq_quic::http3::Error::Refused(404);
    assert_eq!(refused.err(), Some(::smoq_quinn::Error::WebTransport(expected)));
}
