//! The state of a moq-lite session, and the functions that all its modules use: roles and messages.
//!
//! A version is a row of [`Features`]. No module compares version numbers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::roles::{ProbeReports, ProbeRequest, Role};
use crate::census::census;
use crate::coding::lite::{BiStream, Features, HEAD_BYTES, Setup, frame_message};
use crate::coding::{DecodeError, EncodeError};
use crate::error::Error;
use crate::hop::{Cost, Hop};
use crate::machine::config::Config;
use crate::machine::engine::{Core, Progress};
use crate::machine::source::Token;
use crate::machine::stream_buffers::RecvBuffer;
use crate::path::Path;
use crate::slab::{Key, SideTable};
use crate::stream::Side;
use crate::version::{Agreed, Version};

/// A session of moq-lite, in any version.
#[derive(Debug)]
pub(in crate::machine) struct Lite {
    /// Which end of the connection this is.
    pub(super) side: Side,
    /// The versions that remain after ALPN. More than one only for 01 and 02, which share an ALPN.
    pub(super) agreed: Agreed,
    /// The version that is spoken; before the set-up agreed on it, the most preferred one.
    pub(super) version: Version,
    /// The features of this version.
    pub(super) features: &'static Features,
    /// Our Hop ID in announcements (7.3.5).
    pub(super) hop: Hop,
    /// The configured price of the link; it wins over the price that the peer sends (7.3.4).
    pub(super) cost: Option<u64>,
    /// SETUP of the peer, or a default where the version has none. `None` until it arrived:
    /// requests and groups wait, because their meaning depends on it (3.1).
    pub(super) peer: Option<Setup>,
    /// The prefixes that we are interested in, until the version is agreed on (01 and 02).
    pub(super) interests: Vec<Path>,
    /// Requests of the peer that arrived before the session was ready.
    pub(super) early: BTreeSet<Key>,
    /// The kind of each request. One of the peer that has none is new: its type has not arrived yet.
    pub(super) roles: SideTable<Role>,
    /// Track queries without a subscription, until they are answered.
    pub(super) queries: BTreeMap<Token, Key>,
    /// The next subscribe id. Ids count up from 0 and are never used again (7.9).
    pub(super) next_sub_id: u64,
    /// The peer's request for PROBE messages.
    pub(super) reports: Option<ProbeReports>,
    /// Our request for PROBE messages.
    pub(super) probe: ProbeRequest,
}

impl Lite {
    /// The state before anything was sent or received.
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
            interests: Vec::new(),
            early: BTreeSet::new(),
            roles: SideTable::default(),
            queries: BTreeMap::new(),
            next_sub_id: 0,
            reports: None,
            probe: ProbeRequest::default(),
        }
    }

    /// Frees the memory of a session whose end was reported.
    pub(in crate::machine) fn forget(&mut self) {
        (self.early, self.roles, self.queries) = Default::default();
        (self.reports, self.probe) = Default::default();
    }

    // ---- roles -------------------------------------------------------------------------------

    /// Says what a request is from now on.
    pub(super) fn set_role(&mut self, key: Key, role: Role) {
        self.roles.insert(key, role);
    }

    /// Discards what the peer still sends on a request that was answered (4.3), and forgets it at
    /// the end.
    pub(super) fn read_done(&mut self, core: &mut Core, key: Key) -> Progress {
        if core.retire(key) {
            self.roles.remove(key);
        }
        Progress::Wait
    }

    // ---- messages ----------------------------------------------------------------------------

    /// Writes a message after what waits on a request.
    pub(super) fn write(
        &self,
        core: &mut Core,
        key: Key,
        encode: impl FnOnce(&mut BytesMut, Version) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut result = Ok(());
        core.requests.write(key, |out| result = encode(out, self.version));
        result
    }

    /// Opens a stream of this kind with its first message, which `encode` writes. Opens none if the version
    /// can't write it.
    pub(super) fn open(
        &self,
        core: &mut Core,
        kind: BiStream,
        encode: impl FnOnce(&mut BytesMut, Version) -> Result<(), EncodeError>,
    ) -> Result<Key, EncodeError> {
        let key = core.requests.open();
        core.requests.write(key, |out| kind.encode(out));
        let result = self.write(core, key, encode);
        if result.is_err() {
            core.requests.cancel(key, &Error::Cancelled, &mut core.actions);
        }
        result.map(|()| key)
    }

    /// The body of the next message of a request, where messages have no type; `None` if more bytes are
    /// needed. A reset is an error, and the end of the stream is `at_end`.
    pub(super) fn next_body(
        &self,
        core: &mut Core,
        key: Key,
        at_end: Error,
    ) -> Result<Option<Bytes>, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        if let Some(code) = request.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(at_end);
        }
        Ok(self.next_message(core, key, false)?.map(|(_, body)| body))
    }

    /// The next message of a request; `None` if more bytes are needed. `typed`: a type stands
    /// before the length, as in subscribe responses and, from 06 on, announcements.
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

/// Takes the next message off the front of a stream.
pub(super) fn read_message(
    recv: &mut RecvBuffer,
    version: Version,
    typed: bool,
    limit: usize,
) -> Result<Option<(Option<u64>, Bytes)>, DecodeError> {
    let mut front = [0; HEAD_BYTES];
    let framed = frame_message(recv.peek(&mut front), version, typed, limit)?;
    let body = recv.take_message(framed.as_ref().map(|it| (it.head, it.body)))?;
    Ok(framed.zip(body).map(|(framed, body)| (framed.kind, body)))
}

census! { Lite {
    counts: early, queries;
    within: roles, reports, probe;
    plain: side, agreed, version, features, hop, cost, peer, interests, next_sub_id;
} }
