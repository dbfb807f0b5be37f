//! moq-transport: two machines over links of every kind, and one against a peer made of bytes. The
//! sections are those of draft-ietf-moq-transport-18.

use super::*;
use Version::{Moqt16, Moqt18};

const DRAFTS: [Version; 2] = [Moqt16, Moqt18];

/// Both ends want to hear of everything, and tell unasked.
fn joined(version: Version, link: Link) -> Peers {
    let end = |side| Config { interests: vec![Path::root()], ..config(side, version) };
    let mut pair = join(end(Side::Client), end(Side::Server), link);
    pair.run_until_idle();
    for events in [pair.server.take_events(), pair.client.take_events()] {
        // What is told unasked, and what was asked for.
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events.iter().all(|it| matches!(it, Event::AnnounceRequested { .. })));
    }
    pair
}

fn on_every_draft(test: impl Fn(Version, Peers)) {
    for version in DRAFTS {
        for link in links() {
            println!("{version} {link:?}");
            test(version, joined(version, link));
        }
    }
}

#[test]
fn a_subscription_runs_to_its_end() {
    on_every_draft(|version, mut pair| {
        pair.client.apply(subscribe(3));
        pair.run_until_idle();
        let event = one(pair.server.take_events());
        let Event::SubscribeRequested { request, broadcast, track, subscription } = event else {
            panic!("{event:?}");
        };
        assert_eq!((broadcast, &*track), (path("demo"), "video"));
        assert_eq!((subscription.priority, subscription.start), (127, None));
        let info = TrackInfo { priority: 200, ..TrackInfo::default() };
        pair.server.apply(Command::AcceptSubscribe { request, info: info.clone() });
        let frames = [Frame::new(1000, "hello"), Frame::new(1040, "hi"), Frame::new(1020, "")];
        for sequence in [4, 5, 7] {
            pair.server.source.insert(token(sequence), frames.clone());
            pair.server.apply(group(request, sequence.into()));
        }
        pair.run_until_idle();
        pair.server.apply(Command::FinishSubscribe { request, end: 8 });
        while pair.sleep_to_deadline() {}

        let heard = Heard::of(pair.client.take_events());
        assert_eq!(heard.groups.keys().copied().collect::<Vec<_>>(), [(3, 4), (3, 5), (3, 7)]);
        for group in heard.groups.values() {
            let frames = frames.iter().map(|frame| {
                let timestamp = (version == Moqt18).then_some(frame.timestamp.units());
                (timestamp, frame.size, frame.bytes())
            });
            assert_eq!(group.frames, frames.collect::<Vec<_>>());
            assert_eq!(group.result, Some(Ok(())));
        }
        assert_eq!(heard.ended[&3], Ok(None));
        assert_eq!(
            pair.server.take_events().pop(),
            Some(Event::RequestEnded { request, result: Ok(()) })
        );
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
    });
}
