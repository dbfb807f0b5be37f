use std::task::Poll;

use super::*;
use crate::Subscription;
use crate::model::base::lock;

fn sizes(broadcast: &BroadcastProducer) -> (usize, usize) {
    let state = broadcast.shared().lock();
    (state.tracks.len(), state.requests.by_turn.len())
}

#[test]
fn unwanted_names_are_removed() {
    let mut broadcast = Broadcast::new().produce();
    let consumer = broadcast.consume();
    let _never_asked = broadcast.dynamic();
    let kept = consumer.subscribe_track("kept", Subscription::default()).unwrap();
    for n in 0..10_000 {
        let name = format!("track {n}");
        drop(consumer.subscribe_track(&name, Subscription::default()).unwrap());
        drop(broadcast.create_track(&*format!("made {n}")).unwrap());
        let (tracks, requests) = sizes(&broadcast);
        assert!(tracks <= 16 && requests <= 16, "{tracks} tracks, {requests} requests");
    }
    assert!(lock(&broadcast.shared().state).requests.turns.contains_key("kept"));
    drop(kept);
}

/// A publisher may end a track and create it again for the life of its broadcast. Its counters go on.
#[test]
fn a_track_that_is_created_again_and_again_leaves_nothing() {
    let mut broadcast = Broadcast::new().produce();
    for n in 1..=10_000 {
        let mut track = broadcast.create_track("video").unwrap();
        track.write_frame(0, "frame").unwrap();
        drop(track);
        let accounts = broadcast.shared().lock().accounts.len();
        assert!(accounts <= 16, "{accounts} accounts");
        assert_eq!(broadcast.stats().frames, n);
    }
}

/// A subscriber finds a request that has no reader. Before the subscriber becomes one, the handler
/// withdraws the request.
#[test]
fn a_withdrawn_request_is_not_joined() {
    let broadcast = Broadcast::new().produce();
    let consumer = broadcast.consume();
    let mut dynamic = broadcast.dynamic();
    let asker = consumer.subscribe_track("video", Subscription::default()).unwrap();
    let find = || {
        let state = broadcast.shared().lock();
        (state.tracks["video"].clone(), state.withdrawn)
    };
    let (track, withdrawn) = find();
    let join = || broadcast.shared().join(&track, withdrawn, Some(Subscription::default()), None);
    assert!(join().is_some(), "others share it");
    drop(asker);
    assert!(join().is_some(), "it waits for the handler still");
    // Held, as between the withdrawal and the drop of what was withdrawn.
    let _held = lock(&broadcast.shared().state).requests.by_turn.values().next().cloned();
    assert!(dynamic.try_requested_track().is_pending());
    assert!(join().is_none());
    let _again = consumer.subscribe_track("video", Subscription::default()).unwrap();
    assert!(matches!(dynamic.try_requested_track(), Poll::Ready(Ok(_))));
}
