//! The names that users of `moq-lite` 0.16 know. None of them needs a runtime: everything is built, used,
//! awaited and dropped on a plain thread.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use smoq::bytes::Bytes;
use smoq::machine::Machine;
use smoq::{
    Announce, BoundsExceeded, Broadcast, BroadcastConsumer, BroadcastDynamic, BroadcastProducer,
    BroadcastRequest, Client, CloseReason, DecodeError, Driver, EncodeError, Error, Frame,
    FrameConsumer, FrameProducer, Group, GroupConsumer, GroupProducer, GroupRequest, Hop, Hops,
    IncomingSession, Instant, Limits, Origin, OriginConsumer, OriginDynamic, OriginProducer, Path,
    Probe, Server, Session, Subscription, Timescale, Timestamp, Track, TrackConsumer, TrackDynamic,
    TrackInfo, TrackNames, TrackProducer, TrackRequest, TracksRequest, Version, Versions,
};

/// Polls a future once, as an executor does.
fn once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The output of a future that must be ready.
fn now<F: Future>(future: F) -> F::Output {
    match once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is pending"),
    }
}

fn use_everything() {
    let origin: OriginProducer = Origin::new(Hop::new(7)).limits(Limits::default()).produce();
    let mut announced: OriginConsumer = origin.consume();
    assert!(once(announced.announced()).is_pending());

    let mut broadcast: BroadcastProducer = origin.create_broadcast("room/alice").unwrap();
    let Announce { path, broadcast: seen } = now(announced.announced()).unwrap();
    assert_eq!(path, Path::new("/room//alice/"));
    let seen: BroadcastConsumer = seen.unwrap();
    let mut dynamic: BroadcastDynamic = broadcast.dynamic();

    let track = Track::new("video").timescale(90_000).priority(3);
    let mut video: TrackProducer = broadcast.create_track(track).unwrap();
    let mut reader: TrackConsumer =
        seen.subscribe_track("video", Subscription::default().priority(9)).unwrap();
    assert_eq!(now(video.used()), Ok(()));
    let info: TrackInfo = now(reader.info()).unwrap();
    assert_eq!(info.timescale, Timescale::new(90_000).unwrap());

    let mut group: GroupProducer = video.create_group(Group { sequence: 4 }).unwrap();
    let mut there: GroupConsumer = now(reader.next_group()).unwrap().unwrap();
    assert!(once(there.read_frame()).is_pending());
    let mut streamed: FrameProducer = group.create_frame(Timestamp::new(90), 4).unwrap();
    streamed.write(b"ab").unwrap();
    let mut early: FrameConsumer = now(there.start_frame()).unwrap().unwrap();
    let chunk: Option<Bytes> = now(early.read_chunk()).unwrap();
    assert_eq!(chunk.unwrap(), "ab");
    streamed.write(b"cd").unwrap();
    streamed.finish().unwrap();
    group.write_frame(180, "whole").unwrap();
    group.finish().unwrap();
    let frame: Frame = reader.latest_frame().unwrap();
    assert_eq!((frame.timestamp(), frame.payload()), (Timestamp::new(180), &b"whole"[..]));

    let mut asked = seen.subscribe_track("audio", Subscription::default()).unwrap();
    let request: TrackRequest = now(dynamic.requested_track()).unwrap();
    assert_eq!(request.name(), "audio");
    request.reject(Error::NotFound);
    assert_eq!(now(asked.recv_group()).err(), Some(Error::NotFound));

    let client = Client::new().with_origin(&origin).with_versions(Versions::from(Version::Lite06));
    let (session, mut driver): (Session, Driver) = client.connect(Version::Lite06, Instant::ZERO);
    assert!(driver.has_work());
    while driver.work(Instant::ZERO) {}
    assert_eq!(session.version(), Version::Lite06);
    let server = Server::new().with_publish(origin.consume()).with_consume(origin.clone());
    let (mut other, driver) = server.accept(Version::Lite03, Instant::ZERO);
    assert!(once(other.closed()).is_pending());
    drop(driver);
    assert_eq!(now(other.closed()), CloseReason::Clean);

    broadcast.finish().unwrap();
    let gone = now(announced.announced()).unwrap();
    assert!(gone.broadcast.is_none());
    let alone: BroadcastProducer = Broadcast::new().produce();
    drop(alone);
    let hops: Hops = [Hop::new(1)].into_iter().collect();
    assert_eq!(hops.len(), 1);
    let errors = (DecodeError::from(BoundsExceeded), EncodeError::from(BoundsExceeded));
    assert_eq!(errors, (DecodeError::BoundsExceeded, EncodeError::BoundsExceeded));
}

/// Checked by the compiler: handles are shared between threads, and a driver can move to another one.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    const fn moved<T: Send + 'static>() {}
    shared::<(OriginProducer, OriginConsumer, OriginDynamic, BroadcastRequest)>();
    shared::<(BroadcastProducer, BroadcastConsumer, BroadcastDynamic, TrackRequest, TrackNames)>();
    shared::<(TrackProducer, TrackConsumer, TrackDynamic, GroupRequest)>();
    shared::<(GroupProducer, GroupConsumer, FrameProducer, FrameConsumer, Frame)>();
    shared::<(Client, Server, Session, IncomingSession, Probe, TracksRequest, Error, CloseReason)>(
    );
    moved::<(Driver, Machine)>();
};

#[test]
fn everything_is_used_and_dropped_on_a_plain_thread() {
    thread::Builder::new().spawn(use_everything).unwrap().join().unwrap();
}
