use std::{collections::BTreeMap, future::Future};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Failure, Options};
use crate::within;

/// One step of a subscription. Groups are numbered by their arrival.
#[derive(Clone, Debug)]
pub enum Event {
    Group {
        arrival: usize,
        sequence: u64,
    },
    Frame {
        arrival: usize,
        payload: Bytes,
        millis: Option<u64>,
    },
    GroupEnd {
        arrival: usize,
        end: Result<(), Failure>,
    },
    /// No more groups arrive. Groups that are still open go on to their own end.
    TrackEnd(Result<(), Failure>),
}

/// A group, as far as it came.
#[derive(Clone, Debug)]
pub struct Group {
    pub sequence: u64,
    pub frames: Vec<Bytes>,
    /// The frames' timestamps; empty from a peer that has none.
    pub millis: Vec<u64>,
    /// Complete, or why it is not.
    pub end: Result<(), Failure>,
}

/// A running subscription; dropping it unsubscribes.
///
/// Read it in steps by [`event`](Self::event), or in groups by [`next_group`](Self::next_group) and
/// [`next_ended`](Self::next_ended), not by both.
pub struct Subscription {
    what: String,
    incoming: mpsc::UnboundedReceiver<Event>,
    arrived: BTreeMap<usize, (Group, bool)>,
    end: Option<Result<(), Failure>>,
    update: Option<Box<Update>>,
    _task: JoinSet<()>,
}

/// Changes what a subscription wants.
type Update = dyn Fn(&Options) -> Result<(), Failure> + Send + Sync;

impl Subscription {
    pub(super) fn spawn<F>(
        what: String,
        task: impl FnOnce(mpsc::UnboundedSender<Event>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(task(outgoing));
        Self { what, incoming, arrived: BTreeMap::new(), end: None, update: None, _task: tasks }
    }

    /// With a way to change it.
    pub(super) fn updating(
        mut self,
        update: impl Fn(&Options) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        self.update = Some(Box::new(update));
        self
    }

    /// Changes what it wants, for a peer that can.
    pub fn update(&self, options: &Options) -> Result<(), Failure> {
        self.update.as_ref().ok_or_else(|| Failure::local("it can't be changed"))?(options)
    }

    /// The next step, or `None` after the last.
    pub async fn event(&mut self) -> Option<Event> {
        let wait = format!("the next step of {}", self.what);
        within(wait, self.incoming.recv()).await
    }

    /// The next group in the order of arrival, when it has ended; `None` at the track's end.
    pub async fn next_group(&mut self) -> Option<Group> {
        loop {
            if self.arrived.first_key_value().is_some_and(|(_, (_, ended))| *ended) {
                return self.arrived.pop_first().map(|(_, (group, _))| group);
            }
            if !self.advance().await {
                return None;
            }
        }
    }

    /// The next group that has ended, whenever it arrived; `None` at the track's end.
    pub async fn next_ended(&mut self) -> Option<Group> {
        loop {
            let ended =
                self.arrived.iter().find(|(_, (_, ended))| *ended).map(|(arrival, _)| *arrival);
            if let Some(arrival) = ended {
                return self.arrived.remove(&arrival).map(|(group, _)| group);
            }
            if !self.advance().await {
                return None;
            }
        }
    }

    /// How the track ended, once it has.
    pub fn end(&self) -> Option<&Result<(), Failure>> {
        self.end.as_ref()
    }

    /// All groups to come in the order of arrival, and the track's end.
    pub async fn drain(mut self) -> (Vec<Group>, Result<(), Failure>) {
        let mut groups = Vec::new();
        while let Some(group) = self.next_group().await {
            groups.push(group);
        }
        let end = self.end.take().expect("a subscription ends with its track's end");
        (groups, end)
    }

    async fn advance(&mut self) -> bool {
        let wait =
            format!("groups of {} ({} open, end {:?})", self.what, self.arrived.len(), self.end);
        let Some(event) = within(wait, self.incoming.recv()).await else {
            return false;
        };
        match event {
            Event::Group { arrival, sequence } => {
                let group = Group { sequence, frames: Vec::new(), millis: Vec::new(), end: Ok(()) };
                self.arrived.insert(arrival, (group, false));
            }
            Event::Frame { arrival, payload, millis } => {
                let (group, _) = self.arrived.get_mut(&arrival).expect("a frame of an open group");
                group.frames.push(payload);
                group.millis.extend(millis);
            }
            Event::GroupEnd { arrival, end } => {
                let (group, ended) =
                    self.arrived.get_mut(&arrival).expect("the end of an open group");
                group.end = end;
                *ended = true;
            }
            Event::TrackEnd(end) => self.end = Some(end),
        }
        true
    }
}
