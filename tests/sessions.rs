//! The version of a session, and its lifetime.

use std::task::Poll;
use std::time::Duration;

use smoq::sim::{Link, Pair};
use smoq::{Client, Instant, Origin, Server, Version, Versions};

/// The identifiers offered in TLS, and the versions that remain after its choice.
#[test]
fn alpn_agrees_on_a_version() {
    let all = Versions::default();
    let offered: Vec<_> = all.alpns().collect();
    let lite = ["moq-lite-06", "moq-lite-05", "moq-lite-04", "moq-lite-03", "moql"];
    let moqt = (15..=22).rev().map(|draft| format!("moqt-{draft}")).collect::<Vec<_>>();
    let moqt = moqt.iter().map(String::as_str);
    assert_eq!(offered, lite.into_iter().chain(moqt).chain(["moq-00"]).collect::<Vec<_>>());
    for version in Version::ALL {
        let agreed =
            all.agreed(Some(version.alpn().as_bytes())).expect("the identifier was offered");
        let left: Vec<_> = agreed.iter().collect();
        match version {
            // The SETUP exchange selects one of them.
            Version::Lite01 | Version::Lite02 => {
                assert_eq!(left, [Version::Lite02, Version::Lite01])
            }
            version => assert_eq!(left, [version]),
        }
        assert_eq!(version.name().parse(), Ok(version));
    }
    let unnamed: Vec<_> = all.agreed(None).unwrap().iter().collect();
    assert_eq!(unnamed, [Version::Lite02, Version::Lite01, Version::Moqt14], "SETUP names those");
    let one = Versions::from(Version::Moqt14);
    assert_eq!(one.agreed(None), one.agreed(Some(b"moq-00")));
    for unknown in ["moq-lite-07-wip", "moq-lite-08", "moqt-13", "h3", ""] {
        assert_eq!(all.agreed(Some(unknown.as_bytes())), None);
    }

    let pinned = Versions::from(Version::Lite05);
    assert!(pinned.alpns().eq(["moq-lite-05"]));
    assert!(pinned.agreed(Some(b"moq-lite-05")).is_some());
    assert_eq!((pinned.agreed(Some(b"moq-lite-06")), pinned.agreed(None)), (None, None));
    let wip = Versions::from(Version::Lite07Wip);
    assert!(
        wip.agreed(Some(b"moq-lite-07-wip")).is_some(),
        "drafts in progress are offered on request"
    );
}

#[test]
fn a_session_ends_with_its_last_handle() {
    for version in Version::ALL.into_iter().chain(Version::WIP) {
        let origin = Origin::default().produce();
        let (session, client) = Client::new().with_origin(&origin).connect(version, Instant::ZERO);
        let server = Server::new().with_consume(Origin::default().produce());
        let (mut far, server) = server.accept(version, Instant::ZERO);
        let mut pair = Pair::new(client, server, Link::wide(3));
        pair.advance(Duration::from_millis(500));
        let clones = [session.clone(), session.clone()];
        drop(session);
        pair.advance(Duration::from_secs(5));
        assert_eq!(far.try_closed(), Poll::Pending, "{version}");
        drop(clones);
        pair.advance(Duration::from_secs(5));
        assert!(pair.client.close_reason().is_some() && far.try_closed().is_ready(), "{version}");
    }
}
