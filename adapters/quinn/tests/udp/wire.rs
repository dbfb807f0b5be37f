//! Codes and closes as the other end of the connection sees them: a bare quinn.

use crate::ends::{Link, both, bounded, on_this_thread, pair_on};
use quinn::{ConnectionError, ReadError, VarInt};
use smoq::stream::Code;
use smoq::{Client, Error, Origin, Server, Version, Versions};

fn on_tokio(test: impl Future<Output = ()>) {
    on_this_thread().block_on(bounded(test));
}

fn application_code(error: ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// Stream type and SUBSCRIBE of moq-lite 04: id 0, broadcast `demo/bbb`, track `video`.
const SUBSCRIBE: &[u8] = b"\x02\x16\x00\x08demo/bbb\x05video\x02\x00\x40\xfa\x00\x00";
/// ANNOUNCE of moq-lite 04: active, suffix `demo/bbb`, from hop 7.
const ANNOUNCE: &[u8] = b"\x0c\x01\x08demo/bbb\x01\x07";

#[test]
fn an_unknown_broadcast_is_refused_with_a_mapped_code() {
    on_tokio(async {
        let server =
            Server::new().with_origin(&Origin::default().produce()).with_versions(Version::Lite04);
        let link = Link::new(server.versions(), server.versions()).await;
        let (session, driving) = smoq_quinn::accept(link.server, &server).await.unwrap();
        let peer = async {
            let (mut send, mut recv) = link.client.open_bi().await.unwrap();
            send.write_all(SUBSCRIBE).await.unwrap();
            let expected = Error::Unroutable.stream_code().to_http3().as_u64();
            let reset = recv.read_to_end(64).await.unwrap_err();
            assert_eq!(reset, ReadError::Reset(VarInt::from_u64(expected).unwrap()).into());
            link.client.close(0u32.into(), b"");
        };
        let (ended, ()) = both(driving, peer).await;
        assert_eq!(ended, Ok(()));
        drop(session);
    });
}

/// Peers of an early time send codes as they are, others map them.
#[test]
fn both_forms_of_a_code_are_understood() {
    on_tokio(async {
        for form in [Code::new(64 + 7), Code::new(64 + 7).to_http3()] {
            let code = VarInt::from_u64(form.as_u64()).unwrap();
            let near = Origin::default().produce();
            let server = Server::new().with_origin(&near).with_versions(Version::Lite04);
            let link = Link::new(server.versions(), server.versions()).await;
            let (session, driving) = smoq_quinn::accept(link.server, &server).await.unwrap();
            let peer = async {
                // The server asks what there is, and then for a track of it.
                let (mut announce, _recv) = link.client.accept_bi().await.unwrap();
                announce.write_all(ANNOUNCE).await.unwrap();
                let broadcast = near.consume().announced_broadcast("demo/bbb").await.unwrap();
                let mut track = broadcast.subscribe_track("video", Default::default()).unwrap();
                let (mut subscribe, _recv) = link.client.accept_bi().await.unwrap();
                subscribe.reset(code).unwrap();
                assert_eq!(track.recv_group().await.err(), Some(Error::App(7)));
                link.client.close(0u32.into(), b"");
            };
            let (ended, ()) = both(driving, peer).await;
            assert_eq!(ended, Ok(()));
            drop(session);
        }
    });
}

/// A request that waits and whose peer says nothing but STOP_SENDING is over.
#[test]
fn a_request_that_is_only_stopped_is_over() {
    on_tokio(async {
        let near = Origin::default().produce();
        let mut broadcast = near.create_broadcast("demo/bbb").unwrap();
        let mut track = broadcast.create_track("video").unwrap();
        let server = Server::new().with_publish(near.consume()).with_versions(Version::Lite04);
        let link = Link::new(server.versions(), server.versions()).await;
        let (session, driving) = smoq_quinn::accept(link.server, &server).await.unwrap();
        let peer = async {
            let (mut send, mut recv) = link.client.open_bi().await.unwrap();
            send.write_all(SUBSCRIBE).await.unwrap();
            track.used().await.unwrap();
            recv.stop(0u32.into()).unwrap();
            track.unused().await.unwrap();
            link.client.close(0u32.into(), b"");
        };
        let (ended, ()) = both(driving, peer).await;
        assert_eq!(ended, Ok(()));
        drop(session);
    });
}

#[test]
fn a_version_that_was_not_asked_for_closes_the_connection() {
    on_tokio(async {
        let all = Versions::default();
        let link = Link::new(&all, &all).await;
        let client = Client::new().with_versions(Version::Lite03);
        let refused = smoq_quinn::connect(link.client, &client).await.err();
        assert_eq!(refused, Some(smoq_quinn::Error::Version));
        assert_eq!(application_code(link.server.closed().await), 0x15);
    });
}

/// Where TLS agrees on nothing, and where it agrees on `moql`, set-up settles it.
#[test]
fn set_up_settles_on_a_version() {
    use Version::{Lite01, Lite02};
    on_tokio(async {
        let (nothing, moql) = (Versions::from([]), Versions::from([Lite02, Lite01]));
        for offered in [nothing, moql] {
            let link = Link::new(&offered, &offered).await;
            let (mut drivings, near, far) = pair_on(link, Versions::default(), Lite01.into()).await;
            assert_eq!(near.session.version(), Lite02, "the most wanted, until it is settled");
            let _broadcast = far.origin.create_broadcast("live").unwrap();
            let mut seen = near.origin.consume();
            drivings.run(seen.announced_broadcast("live")).await.unwrap();
            assert_eq!(near.session.version(), Lite01);
            assert_eq!(far.session.version(), Lite01);
        }
        let moql = Versions::from(Lite01);
        let link = Link::new(&moql, &moql).await;
        let (mut drivings, near, far) = pair_on(link, Lite01.into(), Lite02.into()).await;
        assert_eq!(drivings.ended().await, [(); 2].map(|()| Err(Error::Version)));
        drop((near, far));
    });
}

/// With smol there is always one.
#[cfg(not(feature = "runtime-smol"))]
#[test]
fn without_a_runtime_there_is_an_error() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let runtime = on_this_thread();
    let all = Versions::default();
    let link = runtime.block_on(bounded(Link::new(&all, &all)));
    let client = Client::new();
    let mut dialing = pin!(smoq_quinn::connect(link.client, &client));
    let refused = dialing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(smoq_quinn::Error::NoRuntime)) = refused else { panic!("{refused:?}") };
    let closed = runtime.block_on(link.server.closed());
    assert_eq!(application_code(closed), Error::Internal.session_code().as_u64());
}
