//! Groups whose session ended while they were open. Another session may have the rest.

use smallvec::SmallVec;

use crate::Error;
use crate::census::census;
use crate::model::cache::group::{FrameProducer, GroupProducer};

/// Open groups that no session was asked for yet, and groups to abort after the lock is released.
#[derive(Default)]
pub(crate) struct PartialGroups {
    pub(super) open: SmallVec<[OpenPart; 1]>,
    abandoned: SmallVec<[OpenPart; 1]>,
    /// The sessions that can be asked.
    sessions: SmallVec<[u64; 2]>,
    last: u64,
}

/// An open group whose session went away. Its producers keep the group open.
pub(super) struct OpenPart {
    pub(super) group: GroupProducer,
    pub(super) frame: Option<FrameProducer>,
    /// Why the session went away.
    pub(super) error: Error,
    /// The sessions that were asked for it.
    pub(super) asked: SmallVec<[u64; 1]>,
}

impl PartialGroups {
    /// Adds a session that can be asked, and returns its number.
    pub(crate) fn add_session(&mut self) -> u64 {
        self.last += 1;
        self.sessions.push(self.last);
        self.last
    }

    pub(crate) fn remove_session(&mut self, session: u64) {
        self.sessions.retain(|other| *other != session);
    }

    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Takes a group that this session was not asked for.
    pub(crate) fn take(&mut self, session: u64) -> Option<OpenPart> {
        let at = self.open.iter().rposition(|partial| !partial.asked.contains(&session))?;
        let mut partial = self.open.remove(at);
        partial.asked.push(session);
        Some(partial)
    }

    /// Abandons the groups that every session was asked for.
    pub(super) fn abandon_failed(&mut self) {
        let Self { open, abandoned, sessions, .. } = self;
        for partial in std::mem::take(open) {
            let is_abandoned = sessions.iter().all(|session| partial.asked.contains(session));
            if is_abandoned { abandoned.push(partial) } else { open.push(partial) }
        }
    }

    /// Abandons all groups: no session will deliver them.
    pub(crate) fn abandon(&mut self) {
        self.abandoned.append(&mut self.open);
    }

    /// Takes the abandoned groups, to be aborted after the lock is released.
    pub(crate) fn take_abandoned(&mut self) -> SmallVec<[OpenPart; 1]> {
        std::mem::take(&mut self.abandoned)
    }
}

impl OpenPart {
    /// Aborts the group. Its complete frames stay readable.
    pub(super) fn abort(mut self) {
        self.group.abort(self.error);
    }
}

census! { PartialGroups { counts: open, abandoned, sessions; plain: last; } }
