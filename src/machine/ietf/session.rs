//! The state of a moq-transport session, and the functions that all its modules use: roles, messages,
//! refusals.
//!
//! A draft is a row of [`Draft`]. The modules read its columns and never its number: mostly whether requests have
//! streams of their own, and which forms namespaces, errors and FETCH have.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

use super::offers::{Offers, RetiredAliases};
use super::peer_broadcasts::PeerBroadcasts;
use super::request_ids::RequestIds;
use super::roles::{AnnounceResponse, Role};
use super::token_cache::{CACHE_OVERFLOW, DUPLICATE_ALIAS, TokenCache, has_duplicate};
use crate::auth_token::AuthToken;
use crate::census::census;
use crate::coding::ietf::{
    Draft, MALFORMED_AUTH_TOKEN, MALFORMED_AUTHORITY, MALFORMED_PATH, MALFORMED_VALUE, Message,
    MessageType, NOT_SUPPORTED, NamespaceForm, PREFIX_OVERLAP, Parameters, PublishDone,
    RequestError, RequestOk, RequestUpdate, Setup, TrackProperties, UNKNOWN_AUTH_TOKEN_ALIAS,
    Wanted, frame_message,
};
use crate::coding::{DecodeError, EncodeError};
use crate::error::Error;
use crate::limits::Limits;
use crate::machine::config::Config;
use crate::machine::engine::{Core, Dialect, Progress};
use crate::machine::stream_buffers::RecvBuffer;
use crate::path::Path;
use crate::slab::Key;
use crate::stream::Side;
use crate::time::Instant;

/// Session codes that have no error of their own (session termination codes).
const PROTOCOL_VIOLATION: u64 = 0x3;
const KEY_VALUE_FORMATTING_ERROR: u64 = 0x6;
const AUTH_TOKEN_CACHE_OVERFLOW: u64 = 0x13;
const DUPLICATE_AUTH_TOKEN_ALIAS: u64 = 0x14;
pub(super) const INVALID_REQUEST_ID: u64 = 0x4;
pub(super) const DUPLICATE_TRACK_ALIAS: u64 = 0x5;
pub(super) const TOO_MANY_REQUESTS: u64 = 0x7;
/// INVALID_REQUIRED_REQUEST_ID, on 17 alone.
const INVALID_REQUIRED_ID: u64 = 0x7;

/// A session of moq-transport, in any draft.
#[derive(Debug)]
pub(in crate::machine) struct Ietf {
    /// The draft's row in the table of drafts.
    pub(super) draft: &'static Draft,
    /// Which end of the connection this is.
    pub(super) side: Side,
    /// The peer's set-up. `None` until it arrived: everything else waits.
    pub(super) peer: Option<Setup>,
    /// The request that stands for the control stream (up to 16).
    pub(super) control: Option<Key>,
    /// The role of each request, by its slot.
    pub(super) roles: Vec<Role>,
    /// The request ids of both sides.
    pub(super) ids: RequestIds,
    /// Requests that arrived before the session was ready. Streams may overtake the set-up.
    pub(super) early: BTreeSet<Key>,
    /// The peer's control stream (17 and later), if it carries more than the set-up and the
    /// application has not accepted the peer yet.
    pub(super) early_stream: Option<Key>,
    /// The prefixes under which we ask for announcements. Empty means that we refuse those of the
    /// peer.
    pub(super) interests: Vec<Path>,
    /// The broadcasts of the peer, and the paths that we announced.
    pub(super) broadcasts: PeerBroadcasts,
    /// The tracks that the peer offers.
    pub(super) offers: Offers,
    /// The tokens that the peer registered.
    pub(super) tokens: TokenCache,
    /// The tokens of our requests, by the prefix of their paths.
    pub(super) request_tokens: BTreeMap<Path, Vec<AuthToken>>,
    /// The tokens that this end shows in its set-up.
    pub(super) own_tokens: Vec<AuthToken>,
    /// The aliases of subscriptions that are over.
    pub(super) retired_aliases: RetiredAliases,
    /// Joining FETCHes of the peer, each after the id of the subscription that it waits for.
    pub(super) joins: BTreeSet<(u64, Key)>,
    /// GOAWAY that is to be sent once the peer is set up: its URI, and the deadline.
    pub(super) pending_goaway: Option<(Box<str>, Instant)>,
}

impl Ietf {
    /// The state before anything was sent or received. It takes the prefixes of interest out of the
    /// configuration.
    pub(super) fn new(config: &mut Config, draft: &'static Draft) -> Self {
        Self {
            draft,
            side: config.side,
            peer: None,
            control: None,
            roles: Vec::new(),
            ids: RequestIds::new(config.side, &config.limits),
            early: BTreeSet::new(),
            early_stream: None,
            interests: mem::take(&mut config.interests),
            broadcasts: PeerBroadcasts::default(),
            offers: Offers::default(),
            tokens: TokenCache::new(config.limits.token_bytes),
            request_tokens: BTreeMap::new(),
            own_tokens: mem::take(&mut config.tokens),
            retired_aliases: RetiredAliases::default(),
            joins: BTreeSet::new(),
            pending_goaway: None,
        }
    }

    /// Frees the memory of a session whose end was reported.
    pub(in crate::machine) fn forget(&mut self) {
        self.ids.forget_all();
        (self.roles, self.early, self.early_stream, self.interests) = Default::default();
        (self.broadcasts, self.offers, self.retired_aliases, self.pending_goaway) =
            Default::default();
        self.joins.clear();
        self.request_tokens.clear();
        self.tokens = TokenCache::new(0);
    }

    // ---- roles -------------------------------------------------------------------------------

    /// The role of a request. The table grows to the slot, which is reused after the request.
    pub(super) fn role(&mut self, key: Key) -> &mut Role {
        let slot = key.0 as usize;
        if slot >= self.roles.len() {
            self.roles.resize_with(slot + 1, Role::default);
        }
        &mut self.roles[slot]
    }

    /// The role of a request, unless it is over.
    pub(super) fn live_role(&mut self, core: &mut Core, key: Key) -> Option<&mut Role> {
        core.requests.get(key).map(|_| self.role(key))
    }

    /// Says what a request is from now on.
    pub(super) fn set_role(&mut self, key: Key, role: Role) {
        *self.role(key) = role;
    }

    /// Discards what the peer still sends on a request that is over, and forgets it at the end.
    pub(super) fn read_done(&mut self, core: &mut Core, key: Key) -> Read {
        if core.retire(key) {
            *self.role(key) = Role::New;
        }
        Ok(Progress::Wait)
    }

    // ---- messages ----------------------------------------------------------------------------

    /// Writes a message after what waits on a request. Returns `false` if it can't be encoded.
    pub(super) fn write(&self, core: &mut Core, key: Key, message: &Message) -> bool {
        self.try_write(core, key, message).is_ok()
    }

    /// As [`write`](Self::write), with the reason.
    pub(super) fn try_write(
        &self,
        core: &mut Core,
        key: Key,
        message: &Message,
    ) -> Result<(), EncodeError> {
        let kind = message.kind().answering(self.ids.kind_of(key), self.draft);
        let mut result = Ok(());
        core.requests.write(key, |out| result = message.encode_as(kind, out, self.draft));
        // The first message answers the request, so that its updates can be answered now.
        let early = core.requests.take_early_updates(key);
        if result.is_ok() && !matches!(message, Message::RequestError(_)) {
            (0..early).for_each(|_| self.write_ok(core, key));
        }
        result
    }

    /// The next message of a request.
    pub(super) fn next_message(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<Message>, DecodeError> {
        let limits = &core.limits;
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        // The messages of a request that are handled alike everywhere are consumed here.
        while let Some((kind, body)) = read_message(&mut request.recv, self.draft, limits)? {
            let mut message = Message::decode(kind, &body, self.draft)?.unified();
            self.resolve_tokens(&mut message)?;
            let is_client = self.side == Side::Client;
            let breaks_rule = match &message {
                // A client names no URI to which a server should move (9.2).
                Message::Goaway(goaway) => !is_client && !goaway.uri.is_empty(),
                // Nor here, and the answer to a request about a prefix names no track (9.4.1).
                Message::RequestError(RequestError { redirect: Some(redirect), .. }) => {
                    let is_about_names = matches!(
                        self.ids.kind_of(key),
                        MessageType::SubscribeNamespace
                            | MessageType::SubscribeTracks
                            | MessageType::PublishNamespace
                    );
                    !is_client && !redirect.uri.is_empty()
                        || is_about_names && !redirect.track.is_empty()
                }
                // Only the answer to TRACK_STATUS has properties, and this end asks none (9.3).
                Message::RequestOk(ok) => ok.properties != TrackProperties::default(),
                _ => false,
            };
            if breaks_rule {
                return Err(DecodeError::InvalidValue("a field out of place"));
            }
            match message {
                // GOAWAY on a request stream asks once to move this request alone (18 and later, 9.2).
                // The request stays here until the peer ends it.
                Message::Goaway(_) if self.draft.has_request_streams() => {
                    if mem::replace(&mut request.has_goaway, true) {
                        return Err(DecodeError::Duplicate);
                    }
                }
                // The end of a request follows an update that failed (9.5.1).
                Message::RequestOk(_) | Message::RequestError(_) if request.end_update() => {}
                message => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// Resolves the tokens of a request or an update, and registers and deletes their aliases. If they are no use, the
    /// message is refused (8.9).
    pub(super) fn resolve_tokens(&mut self, message: &mut Message) -> Result<(), DecodeError> {
        let Some((_, parameters)) = message.request_mut() else { return Ok(()) };
        match self.tokens.resolve(mem::take(&mut parameters.tokens), false)? {
            None => parameters.unusable = Some(UNKNOWN_AUTH_TOKEN_ALIAS),
            Some(tokens) if has_duplicate(&tokens) => {
                parameters.unusable = Some(MALFORMED_AUTH_TOKEN);
            }
            Some(tokens) => parameters.shown = tokens,
        }
        Ok(())
    }

    /// The id that a reply carries. Without a control stream replies have none: the stream says
    /// what they answer.
    pub(super) fn reply_id(&self, key: Key) -> Option<u64> {
        (!self.draft.has_request_streams()).then(|| self.ids.of(key))
    }

    /// Reads REQUEST_UPDATE on a request about namespaces or tracks. Only of a request for `tracks` something can be
    /// changed. Any other message is a violation. `None`: the update failed, and so the request is over (9.5.1, 18 and
    /// later).
    pub(super) fn read_update(
        &mut self,
        core: &mut Core,
        key: Key,
        tracks: Option<&mut AnnounceResponse>,
    ) -> Result<Option<Progress>, Fault> {
        let RequestUpdate { id, parameters, .. } = match self.next_message(core, key)? {
            None => return Ok(Some(Progress::Wait)),
            Some(Message::RequestUpdate(update)) => update,
            Some(_) => return fault("not a message of this request"),
        };
        let Parameters { unusable, forward, ref prefix, .. } = parameters;
        let wanted = tracks.as_ref().map_or(Wanted::Namespaces, |tracks| tracks.wanted);
        let overlaps = prefix.as_ref().is_some_and(|it| self.overlaps(it, wanted));
        let possible = match &tracks {
            Some(_) => Parameters { forward, prefix: prefix.clone(), ..Parameters::default() },
            None => Parameters::default(),
        };
        let code = overlaps.then_some(PREFIX_OVERLAP).filter(|_| unusable.is_none());
        let code = code.or_else(|| fault_of(&parameters, possible));
        if let Some(tracks) = tracks.filter(|_| code.is_none()) {
            return Ok(Some(self.update_tracks(core, key, tracks, id, parameters)));
        }
        let goes_on =
            self.draft.namespaces < NamespaceForm::Plain && !core.requests.is_unanswered(key);
        self.answer_update(core, key, id, code);
        Ok((code.is_none() || goes_on).then_some(Progress::More))
    }

    // ---- ends --------------------------------------------------------------------------------

    /// Writes REQUEST_ERROR and ends the request. Every request gets exactly one answer (9.6).
    pub(super) fn refuse(&mut self, core: &mut Core, key: Key, code: u64) -> Progress {
        let error = RequestError { id: self.reply_id(key), code, ..RequestError::default() };
        self.write(core, key, &Message::RequestError(error));
        self.finish(core, key);
        Progress::Wait
    }

    /// As [`refuse`](Self::refuse), with the code of an error.
    pub(super) fn refuse_for(&mut self, core: &mut Core, key: Key, error: &Error) -> Progress {
        let code = self.draft.request_code(error);
        self.refuse(core, key, code)
    }

    /// Writes REQUEST_OK without parameters.
    pub(super) fn write_ok(&self, core: &mut Core, key: Key) {
        let id = self.reply_id(key);
        self.write(core, key, &Message::RequestOk(RequestOk { id, ..RequestOk::default() }));
    }

    /// Writes PUBLISH_DONE (9.9). `streams` tells the subscriber how many groups to wait for.
    pub(super) fn done(&mut self, core: &mut Core, key: Key, status: u64, streams: u64) {
        let id = self.reply_id(key);
        let done = PublishDone { id, status, streams: Some(streams), ..PublishDone::default() };
        self.write(core, key, &Message::PublishDone(done));
    }
}

/// The fault of the peer that closes the session.
#[derive(Debug)]
pub(super) struct Fault {
    code: u64,
    rule: &'static str,
}

/// The result of reading from a stream once.
pub(super) type Read = Result<Progress, Fault>;

/// Fails with PROTOCOL_VIOLATION.
pub(super) fn fault<T>(rule: &'static str) -> Result<T, Fault> {
    fault_as(PROTOCOL_VIOLATION, rule)
}

/// Fails with a session code.
pub(super) fn fault_as<T>(code: u64, rule: &'static str) -> Result<T, Fault> {
    Err(Fault { code, rule })
}

/// Bytes that are no message of the draft close the session: unlike moq-lite, where one bad stream
/// is reset, an unknown or malformed message is a protocol violation (9).
impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let (code, rule) = match error {
            DecodeError::UnknownMessage(_) => (PROTOCOL_VIOLATION, "unknown message"),
            DecodeError::InvalidValue(rule @ "required request id") => (INVALID_REQUIRED_ID, rule),
            DecodeError::InvalidValue(rule @ DUPLICATE_ALIAS) => (DUPLICATE_AUTH_TOKEN_ALIAS, rule),
            DecodeError::InvalidValue(rule @ CACHE_OVERFLOW) => (AUTH_TOKEN_CACHE_OVERFLOW, rule),
            MALFORMED_PATH => (0x9, "malformed path"),
            MALFORMED_AUTHORITY => (0x1a, "malformed authority"),
            MALFORMED_VALUE => (KEY_VALUE_FORMATTING_ERROR, "malformed value"),
            _ => (PROTOCOL_VIOLATION, "malformed message"),
        };
        Self { code, rule }
    }
}

/// The code with which an update must fail: if its tokens are no use, or if it has more than what is `possible`.
pub(super) fn fault_of(update: &Parameters, possible: Parameters) -> Option<u64> {
    let possible = Parameters { shown: update.shown.clone(), ..possible };
    update.unusable.or((*update != possible).then_some(NOT_SUPPORTED))
}

/// Closes the session if reading failed.
pub(super) fn close_on_fault(core: &mut Core, read: Read) -> Progress {
    read.unwrap_or_else(|Fault { code, rule }| {
        core.violation_as(code, rule);
        Progress::Wait
    })
}

/// Takes the next message off the front of a stream.
pub(super) fn read_message(
    recv: &mut RecvBuffer,
    draft: &Draft,
    limits: &Limits,
) -> Result<Option<(MessageType, Bytes)>, DecodeError> {
    let mut front = [0; 16];
    let framed = frame_message(recv.peek(&mut front), draft, limits.message_bytes)?;
    let body = recv.take_message(framed.map(|it| (it.head, it.body)))?;
    Ok(framed.zip(body).map(|(framed, body)| (framed.kind, body)))
}

census! { Ietf {
    counts: early, early_stream, joins, pending_goaway, request_tokens;
    within: roles, ids, broadcasts, offers, tokens;
    plain: draft, side, peer, control, interests, own_tokens, retired_aliases;
} }
