//! Sessions that the application decides on, over real UDP, in every version.

use smoq::{Client, CloseReason, Error, Origin, Subscription, Version};

use crate::ends::{asked, in_every_version, is_webtransport};

in_every_version! {
    an_accepted_client_gets_its_part
    a_rejected_client_learns_why
    each_end_tells_its_own_reason
    a_client_that_leaves_is_noticed
}

async fn an_accepted_client_gets_its_part(version: Version) {
    let [mine, received] = [(); 2].map(|()| Origin::default().produce());
    let mut broadcast = mine.create_broadcast("room/alice").unwrap();
    let mut track = broadcast.create_track("video").unwrap();
    let client = Client::new().with_path("room?token=7").with_authority("relay.example:4443");
    let client = client.with_consume(received.clone());
    let (mut drivings, session, mut request) = asked(version, client).await;
    drivings.run(request.ready()).await.unwrap();
    let says = is_webtransport() || version >= Version::Lite05;
    assert_eq!(request.path().as_str(), if says { "room" } else { "" });
    assert_eq!(request.query(), if says { "token=7" } else { "" });
    let says = is_webtransport() || version >= Version::Moqt14;
    assert_eq!(request.authority(), if says { "relay.example:4443" } else { "" });
    assert_eq!(request.http().is_some(), is_webtransport());
    // SETUP, which is printed, has them only where there is no request.
    let says = !is_webtransport() && version >= Version::Lite05;
    assert_eq!(format!("{request:?}").contains("token=7"), says);
    let part = mine.with_root("room").unwrap();
    let served = request.with_publish(part.consume()).accept();
    drivings
        .run(async {
            let alice = received.consume().announced_broadcast("alice").await.unwrap();
            let mut video = alice.subscribe_track("video", Subscription::default()).unwrap();
            track.used().await.unwrap();
            track.write_frame(0_u64, "hello").unwrap();
            let frame = video.read_frame().await.unwrap().unwrap();
            assert_eq!(frame.payload(), b"hello");
        })
        .await;
    drop(session);
    assert_eq!(drivings.ended().await, [Ok(()), Ok(())]);
    drop(served);
}

async fn a_rejected_client_learns_why(version: Version) {
    for (error, reason) in [(Some(Error::App(7)), Error::App(7)), (None, Error::Unauthorized)] {
        let (mut drivings, mut session, mut request) = asked(version, Client::new()).await;
        drivings.run(request.ready()).await.unwrap();
        match error {
            Some(error) => request.reject(error),
            None => drop(request),
        }
        assert_eq!(drivings.ended().await, [Err(reason.clone()), Err(reason.clone())]);
        assert_eq!(session.closed().await, CloseReason::Error(reason));
    }
}

/// The code on the wire has a meaning for the peer alone.
async fn each_end_tells_its_own_reason(version: Version) {
    let (mut drivings, mut session, mut request) = asked(version, Client::new()).await;
    drivings.run(request.ready()).await.unwrap();
    request.reject(Error::NotFound);
    let [told, rejected] = drivings.ended().await;
    assert_eq!(rejected, Err(Error::NotFound));
    assert_eq!(told, session.closed().await.into_result());
    assert!(told.is_err());
}

async fn a_client_that_leaves_is_noticed(version: Version) {
    let (mut drivings, session, mut request) = asked(version, Client::new()).await;
    drivings.run(request.ready()).await.unwrap();
    session.close(Error::App(3));
    assert_eq!(drivings.ended().await[1], Err(Error::App(3)));
    assert_eq!(request.ready().await, Err(Error::App(3)));
}
