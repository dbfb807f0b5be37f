//! Features of moq-lite 05, for the peers that have them.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Broadcast, Failure, Group, Peer, Track};
use crate::within;

/// A peer with groups by number, datagrams, and subscriptions that can be changed.
pub trait Modern: Peer<Broadcast: Broadcast<Track: ModernTrack>> {
    /// One group of a track that is announced now, from the cache or by FETCH.
    fn fetch(
        &self,
        path: &str,
        track: &str,
        sequence: u64,
    ) -> impl Future<Output = Result<Group, Failure>> + Send;

    /// The datagrams of a track that is announced now.
    fn datagrams(
        &self,
        path: &str,
        track: &str,
    ) -> impl Future<Output = Result<Datagrams, Failure>> + Send;
}

/// A track of such a peer.
pub trait ModernTrack: Track {
    /// Appends a group of one frame as a datagram.
    fn datagram(&mut self, payload: Bytes) -> Result<(), Failure>;

    /// Waits until the combined subscription has this `priority` and `max_age`.
    fn wanted(
        &mut self,
        priority: u8,
        max_age: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Datagrams as they arrive. Dropping it unsubscribes.
pub struct Datagrams {
    incoming: mpsc::UnboundedReceiver<(u64, Bytes)>,
    _task: JoinSet<()>,
}

impl Datagrams {
    pub(super) fn spawn<F>(task: impl FnOnce(mpsc::UnboundedSender<(u64, Bytes)>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(task(outgoing));
        Self { incoming, _task: tasks }
    }

    /// Number and payload of the next datagram.
    pub async fn next(&mut self) -> (u64, Bytes) {
        within("a datagram", self.incoming.recv()).await.expect("the track has not ended")
    }
}
