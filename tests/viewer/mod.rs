//! A reader of the broadcast `live` that waits for it to return.

#![allow(dead_code, reason = "each test uses some of it")]

use std::task::Poll;
use std::time::Duration;

use smoq::{GroupConsumer, OriginConsumer, Subscription, TrackConsumer};

use crate::net::Net;

/// A reader at a node that waits for the broadcast to return whenever it ends.
pub(crate) struct Viewer {
    announced: OriginConsumer,
    pub(crate) reader: Option<TrackConsumer>,
    groups: Vec<GroupConsumer>,
    /// For each announcement, whether it was a beginning.
    pub(crate) changes: Vec<bool>,
    pub(crate) seen: Vec<String>,
}

impl Viewer {
    pub(crate) fn new(net: &Net, node: usize) -> Self {
        let announced = net.origins[node].consume();
        Self { announced, reader: None, groups: vec![], changes: vec![], seen: vec![] }
    }

    pub(crate) fn look(&mut self) {
        while let Poll::Ready(Some(change)) = self.announced.try_announced() {
            assert_eq!(change.path.as_str(), "live");
            self.changes.push(change.broadcast.is_some());
            self.groups.clear();
            self.reader = change.broadcast.map(|it| it.subscribe_track("clock", latest()).unwrap());
        }
        let Some(reader) = &mut self.reader else { return };
        while let Poll::Ready(Ok(Some(group))) = reader.try_recv_group() {
            self.groups.push(group);
        }
        self.groups.retain_mut(|group| {
            loop {
                match group.try_read_frame() {
                    Poll::Ready(Ok(Some(frame))) => {
                        let text = String::from_utf8_lossy(frame.payload()).into_owned();
                        self.seen.push(text);
                    }
                    Poll::Ready(_) => return false,
                    Poll::Pending => return true,
                }
            }
        });
    }

    /// The announcements since the last call, and the publisher of the last frame.
    pub(crate) fn take(&mut self) -> (Vec<bool>, Option<String>) {
        let last = self.seen.last().map(|text| text[..1].to_owned());
        self.seen.clear();
        (std::mem::take(&mut self.changes), last)
    }
}

pub(crate) fn latest() -> Subscription {
    Subscription::default().max_age(Duration::from_secs(5))
}
