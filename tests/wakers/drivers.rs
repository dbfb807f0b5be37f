//! The driver of a session.

use std::any::Any;
use std::sync::Arc;
use std::task::Context;

use smoq::{Client, Error, Goaway, Instant, Subscription, Version};

use super::{Joined, Table, everything, joined};

/// Rows for operations of an application after which its session has work.
pub(crate) fn rows(table: &mut Table) {
    type Act = fn(&mut Joined) -> Box<dyn Any>;
    let acts: [(&str, Act); 9] = [
        ("close", |it| {
            it.sessions[0].close(Error::Cancelled);
            Box::new(())
        }),
        ("drain", |it| {
            it.sessions[0].drain();
            Box::new(())
        }),
        ("GOAWAY", |it| Box::new(it.sessions[0].go_away(Goaway::default()))),
        ("a probe", |it| Box::new(it.sessions[0].probe())),
        ("a broadcast", |it| Box::new(it.origins[0].create_broadcast("new").unwrap())),
        ("a broadcast is requested from the peer", |it| {
            Box::new(it.sessions[0].request_broadcast("there/unknown").unwrap())
        }),
        ("a track of the peer is read", |it| {
            let seen = it.origins[0].consume().broadcast("there").unwrap();
            Box::new(seen.subscribe_track("other", Subscription::default()).unwrap())
        }),
        ("a prefix", |it| Box::new(it.origins[0].dynamic("store").unwrap())),
        ("the last handle is dropped", |it| {
            let (fresh, _) = Client::new().connect(Version::Lite06, Instant::ZERO);
            drop(std::mem::replace(&mut it.sessions[0], fresh));
            Box::new(())
        }),
    ];
    for (cause, act) in acts {
        table.row("Driver::poll_wake", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut there = joined.origins[1].create_broadcast("there").unwrap();
            let tracks = ["video", "other"].map(|name| there.create_track(name).unwrap());
            joined.pair.run_until_idle();
            let driver = Arc::new(std::sync::Mutex::new(None::<Joined>));
            let held = driver.clone();
            *held.lock().unwrap() = Some(joined);
            let poll = move |cx: &mut Context<'_>| {
                driver.lock().unwrap().as_mut().unwrap().pair.client.poll_wake(cx).is_ready()
            };
            case.waits(poll);
            move || {
                let mut joined = held.lock().unwrap();
                let kept = act(joined.as_mut().unwrap());
                drop(joined);
                (kept, there, tracks)
            }
        });
    }
    for cause in ["a group", "a frame", "the end of a group", "the end of the track", "abort"] {
        table.row("Driver::poll_wake", cause, |case| {
            let mut joined = joined(Version::Lite06);
            let mut broadcast = joined.origins[0].create_broadcast("live").unwrap();
            let mut track = broadcast.create_track("video").unwrap();
            joined.pair.run_until_idle();
            let seen = joined.origins[1].consume().broadcast("live").unwrap();
            let reader = seen.subscribe_track("video", everything()).unwrap();
            joined.pair.run_until_idle();
            let mut group = (!matches!(cause, "a group")).then(|| track.append_group().unwrap());
            joined.pair.run_until_idle();
            let driver = Arc::new(std::sync::Mutex::new(joined));
            let held = driver.clone();
            case.waits(move |cx| driver.lock().unwrap().pair.client.poll_wake(cx).is_ready());
            move || {
                match cause {
                    "a group" => group = Some(track.append_group().unwrap()),
                    "a frame" => group.as_mut().unwrap().write_frame(1, "a").unwrap(),
                    "the end of a group" => group.as_mut().unwrap().finish().unwrap(),
                    "the end of the track" => track.finish().unwrap(),
                    _ => track.abort(Error::Cancelled),
                }
                (group, track, reader, seen, broadcast, held)
            }
        });
    }
}
