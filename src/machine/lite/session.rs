//! The state of a moq-lite session, and what all its conversations use: roles, messages, ends.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::roles::{ProbeReports, ProbeRequest, Role};
use crate::census::census;
use crate::coding::DecodeError;
use crate::coding::lite::{Features, HEAD_BYTES, Setup, frame_message};
use crate::error::Error;
use crate::hop::{Cost, Hop};
use crate::machine::config::Config;
use crate::machine::engine::{Core, Progress};
use crate::machine::source::Token;
use crate::machine::stream_buffers::RecvBuffer;
use crate::slab::Key;
use crate::stream::Side;
use crate::version::{Agreed, Version};

#[derive(Debug)]
pub(in crate::machine) struct Lite {
    pub(super) side: Side,
    pub(super) agreed: Agreed,
    /// The one of them that is spoken; before it is settled, the most wanted.
    pub(super) version: Version,
    pub(super) features: &'static Features,
    pub(super) hop: Hop,
    /// Our own price for the link.
    pub(super) cost: Option<u64>,
    /// What the peer said in SETUP; before it came, requests and groups wait.
    pub(super) peer: Option<Setup>,
    /// Requests of the peer that came before the version was settled.
    pub(super) early: BTreeSet<Key>,
    /// By slot of the request.
    pub(super) roles: Vec<Role>,
    /// What we only asked about, until it is answered.
    pub(super) queries: BTreeMap<Token, Key>,
    pub(super) next_sub_id: u64,
    /// The peer wants to know of the path.
    pub(super) reports: Option<ProbeReports>,
    /// We do.
    pub(super) probe: ProbeRequest,
}

impl Lite {
    pub(super) fn new(config: &Config) -> Self {
        let version = config.agreed.version();
        let features = Features::of(version);
        Self {
            side: config.side,
            agreed: config.agreed.clone(),
            version,
            features,
            hop: config.hop,
            cost: config.cost.map(|cost| cost.min(Cost::MAX)),
            peer: None,
            early: BTreeSet::new(),
            roles: Vec::new(),
            queries: BTreeMap::new(),
            next_sub_id: 0,
            reports: None,
            probe: ProbeRequest::default(),
        }
    }

    /// The session is over, and that was told.
    pub(in crate::machine) fn forget(&mut self) {
        (self.early, self.roles, self.queries) = Default::default();
        (self.reports, self.probe) = Default::default();
    }

    /// Questions that are open, and requests that wait.
    #[cfg(test)]
    pub(in crate::machine) fn entries(&self) -> usize {
        self.queries.len() + self.early.len()
    }

    // ---- roles -------------------------------------------------------------------------------

    pub(super) fn role(&mut self, key: Key) -> &mut Role {
        let slot = key.0 as usize;
        if slot >= self.roles.len() {
            self.roles.resize_with(slot + 1, Role::default);
        }
        &mut self.roles[slot]
    }

    pub(super) fn set_role(&mut self, key: Key, role: Role) {
        *self.role(key) = role;
    }

    pub(super) fn read_done(&mut self, core: &mut Core, key: Key) -> Progress {
        if core.requests.retire(key) {
            *self.role(key) = Role::New;
        }
        Progress::Wait
    }

    // ---- messages ----------------------------------------------------------------------------

    /// The next whole message on a request, or `None` if more bytes are needed.
    pub(super) fn next_message(
        &self,
        core: &mut Core,
        key: Key,
        typed: bool,
    ) -> Result<Option<(Option<u64>, Bytes)>, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        Ok(read_message(&mut request.recv, self.version, typed, core.limits.message_bytes)?)
    }
}

/// Takes the next whole message off the front of a stream.
pub(super) fn read_message(
    recv: &mut RecvBuffer,
    version: Version,
    typed: bool,
    limit: usize,
) -> Result<Option<(Option<u64>, Bytes)>, DecodeError> {
    let mut front = [0; HEAD_BYTES];
    let framed = frame_message(recv.peek(&mut front), version, typed, limit)?;
    match framed {
        Some(framed) if recv.len() >= framed.head + framed.body => {
            recv.skip(framed.head);
            Ok(Some((framed.kind, recv.take(framed.body))))
        }
        _ if recv.has_fin() && recv.len() > 0 => Err(DecodeError::Truncated),
        _ => Ok(None),
    }
}

census! { Lite {
    counts: early, queries;
    within: roles, reports, probe;
    plain: side, agreed, version, features, hop, cost, peer, next_sub_id;
} }
