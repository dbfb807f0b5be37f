//! Groups, frames and announcements as streams (feature `stream`).

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use smoq::{Error, Origin, Subscription};

/// Everything that the stream yields now, and whether it ended.
fn drain<S: Stream + Unpin>(stream: &mut S) -> (Vec<S::Item>, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut items = Vec::new();
    loop {
        match pin!(&mut *stream).poll_next(&mut cx) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return (items, true),
            Poll::Pending => return (items, false),
        }
    }
}

#[test]
fn streams_yield_what_consumers_return_and_end_after_one_error() {
    let origin = Origin::default().produce();
    let mut announcements = origin.consume().into_announcements();
    let mut broadcast = origin.create_broadcast("live").unwrap();
    let (announced, is_over) = drain(&mut announcements);
    assert_eq!((announced[0].path.as_str(), announced.len(), is_over), ("live", 1, false));

    let mut track = broadcast.create_track("video").unwrap();
    let mut groups =
        track.subscribe(Subscription::default().start(0).max_age(Duration::MAX)).into_groups();
    for n in 0..3_u64 {
        track.write_frame(n, n.to_string()).unwrap();
    }
    track.abort(Error::App(7));
    let (mut read, is_over) = drain(&mut groups);
    assert!(is_over, "the error ends the stream");
    assert_eq!(read.pop().unwrap().err(), Some(Error::App(7)));
    let texts = read.into_iter().flat_map(|group| {
        let (frames, is_over) = drain(&mut group.unwrap().into_frames());
        assert!(is_over);
        frames.into_iter().map(|frame| frame.unwrap().payload().to_vec())
    });
    assert_eq!(texts.collect::<Vec<_>>(), [b"0", b"1", b"2"]);

    drop((broadcast, track, origin));
    let (last, is_over) = drain(&mut announcements);
    assert!(last[0].broadcast.is_none() && is_over, "the origin ended");
}
