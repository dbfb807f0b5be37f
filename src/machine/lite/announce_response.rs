//! Our answer to an announce request of the peer (moq-lite-06, 5.1.1): the broadcasts that we have,
//! and then every change.
//!
//! The versions differ in the form of announcements:
//!
//! | | first answer | another route | end |
//! |---|---|---|---|
//! | 01, 02 | ANNOUNCE_INIT with the whole set | can't be expressed | by path |
//! | 03, 04 | none | an end and a beginning | by path |
//! | 05 | ANNOUNCE_OK with a count | the announcement again | by path |
//! | 06, 07 | ANNOUNCE_OK with a count | ANNOUNCE_UPDATE | by id |

use bytes::BytesMut;

use super::roles::{AnnounceResponse, AnnouncedPath, Role};
use super::session::Lite;
use crate::coding::lite::{Announce, AnnounceInit, AnnounceOk, Base, Bases, HopsForm};
use crate::hop::Hops;
use crate::machine::engine::{Core, Dialect, MAX_UNSENT_ANNOUNCEMENTS, Progress};
use crate::machine::source::{Announcement, Source, Token};
use crate::slab::Key;

/// The size at which ANNOUNCE_INIT is closed, give or take one entry. It has no continuation, so
/// that the rest follows as single announcements; a message that is larger than the peer's limit
/// would lose all of them.
const INIT_BYTES: usize = 16 << 10;

impl Lite {
    /// The application answers the request: `reader` gives the broadcasts, `active` of them at
    /// first. The set that ANNOUNCE_OK counts is exactly the announcements that follow at once
    /// (7.5).
    pub(super) fn accept_announce(
        &mut self,
        core: &mut Core,
        key: Key,
        reader: Token,
        active: u64,
    ) {
        let features = self.features;
        let Some(Role::AnnounceResponse(response)) = self.roles.get_mut(key) else { return };
        // A second answer to one request would announce everything twice.
        if response.reader.is_some() {
            return;
        }
        response.reader = Some(reader);
        response.ready = true;
        response.answered = !features.announce_init;
        response.initial = features.announce_init.then_some(active);
        self.write_announce_ok(core, key, active);
        core.requests.queue_write(key);
    }

    /// Writes ANNOUNCE_OK, where the version has it.
    fn write_announce_ok(&self, core: &mut Core, key: Key, active: u64) {
        if self.features.announce_ok {
            let ok = AnnounceOk { hop: self.hop, active };
            // This fails only for a count of more than 62 bits, which no set reaches.
            let _ = self.write(core, key, |out, version| ok.encode(out, version));
        }
    }

    /// The reader, which was up to date, has changes again. They are read when QUIC can take bytes.
    pub(super) fn on_announcements_ready(&mut self, core: &mut Core, key: Key) {
        if let Some(Role::AnnounceResponse(response)) = self.roles.get_mut(key) {
            response.ready = true;
            core.requests.queue_write(key);
        }
    }

    /// Writes announcements, but no more than QUIC is about to take: changes that a slow peer has
    /// not read yet are coalesced in the reader, and nothing is queued here.
    pub(super) fn fill_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        source: &mut impl Source,
    ) {
        let Some(mut role) = self.roles.remove(key) else { return };
        if let Role::AnnounceResponse(response) = &mut role {
            if let (Some(reader), Some(active)) = (response.reader, response.initial.take()) {
                self.announce_init(core, key, response, active, || source.announcement(reader));
            }
            // A reader that is up to date is asked again after `on_announcements_ready`.
            while let (Some(reader), true) = (response.reader, response.ready) {
                if core.requests.unsent(key)
                    >= core.limits.request_buffer.min(MAX_UNSENT_ANNOUNCEMENTS)
                {
                    break;
                }
                match source.announcement(reader) {
                    Some(change) => self.announce(core, key, response, change),
                    None => response.ready = false,
                }
            }
        }
        self.set_role(key, role);
    }

    /// Writes ANNOUNCE_INIT with the first `active` broadcasts (01 and 02). Broadcasts that do
    /// not fit follow as single announcements, which have the same meaning in these versions.
    fn announce_init(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        active: u64,
        mut next: impl FnMut() -> Option<Announcement>,
    ) {
        let version = self.version;
        let (mut size, mut large) = (BytesMut::new(), None);
        for _ in 0..active {
            match next() {
                Some(Announcement::Active { suffix, hops, cost }) => {
                    // The encoder refuses the whole message for one entry that it can't write, so each
                    // entry is tried alone. A large one goes into a message of its own, whose loss
                    // would not take the others with it.
                    let before = size.len();
                    let message = AnnounceInit { suffixes: [suffix.clone()].into() };
                    let fits = core.limits.check_path(&suffix).is_ok();
                    if !fits || message.encode(&mut size, version).is_err() {
                        continue;
                    }
                    if size.len() - before > INIT_BYTES {
                        large = Some(Announcement::Active { suffix, hops, cost });
                        break;
                    }
                    let announced =
                        AnnouncedPath { id: response.next_id, ..AnnouncedPath::default() };
                    response.announced.insert(suffix, announced);
                    response.next_id += 1;
                }
                // It ended before it was announced.
                Some(Announcement::Ended { suffix }) => drop(response.announced.remove(&suffix)),
                // Nobody asked for tracks.
                Some(Announcement::Track { .. }) => {}
                None => break,
            }
            if size.len() >= INIT_BYTES.min(core.limits.request_buffer) {
                break;
            }
        }
        let suffixes = response.announced.keys().cloned().collect();
        response.answered = true;
        let _ = self.write(core, key, |out, _| AnnounceInit { suffixes }.encode(out, version));
        if let Some(large) = large {
            self.announce(core, key, response, large);
        }
    }

    /// Writes one change, as the version says it.
    fn announce(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        change: Announcement,
    ) {
        let features = self.features;
        let write = |core: &mut Core, message: Announce| {
            self.write(core, key, |out, version| message.encode(out, version)).is_ok()
        };
        match change {
            Announcement::Active { suffix, mut hops, cost } => {
                let says_sender = matches!(features.hops, HopsForm::Count | HopsForm::WithSender);
                let is_full = says_sender && hops.push(self.hop).is_err();
                if is_full || core.limits.check_path(&suffix).is_err() {
                    // It can't be announced. Nor does what the peer knows of it hold any more.
                    return self.announce(core, key, response, Announcement::Ended { suffix });
                }
                let mut announced = AnnouncedPath { id: response.next_id, hops: Hops::new() };
                let known = response.announced.get(&suffix);
                // The id stays the same, so that the subscriber sees a change of route, not an end (7.8).
                if let (Some(AnnouncedPath { id, .. }), true) = (known, features.announce_ids) {
                    write(core, Announce::Update { id: *id, hops, cost, base: Base::default() });
                    return;
                }
                if !features.announce_ok {
                    // Up to 04 a second announcement of a live path ends the session, and an end and a
                    // beginning with the same hops mean another broadcast. So only a change of hops is
                    // said, and nothing where the version has no hops.
                    let says_hops = features.hops == HopsForm::WithSender;
                    if says_hops {
                        announced.hops.clone_from(&hops);
                    }
                    match known {
                        Some(known) if !says_hops || known.hops == hops => return,
                        Some(_) => drop(write(core, Announce::Ended { suffix: suffix.clone() })),
                        None => {}
                    }
                }
                // Bases (07) are optional for a sender: the path and the hops are written in full.
                let bases = Bases::default();
                if write(core, Announce::Active { suffix: suffix.clone(), hops, cost, bases }) {
                    response.announced.insert(suffix, announced);
                    response.next_id += 1;
                }
            }
            Announcement::Track { .. } => {}
            Announcement::Ended { suffix } => {
                // A retired id is never named again (7.7).
                let Some(AnnouncedPath { id, .. }) = response.announced.remove(&suffix) else {
                    return;
                };
                write(
                    core,
                    match features.announce_ids {
                        true => Announce::EndedId { id },
                        false => Announce::Ended { suffix },
                    },
                );
            }
        }
    }

    /// The subscriber writes nothing after its request (5.1.1): any byte is malformed, a reset or
    /// STOP_SENDING ends the request.
    pub(super) fn read_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &AnnounceResponse,
    ) -> Progress {
        // A FIN alone means nothing: some deployed peers end their half after the request, others keep it
        // open. Only the end of both halves says that they are no longer interested.
        let Some(error) = core.requests.get(key).and_then(|request| request.ended()) else {
            return Progress::Wait;
        };
        self.finish_announce_response(core, key, response);
        Progress::request_ended(key, error)
    }

    /// Ends the announcements with FIN. FIN is legal only after ANNOUNCE_INIT or ANNOUNCE_OK, so
    /// that an empty one is written first if need be. A reset is never sent here: the deployed
    /// subscribers end the whole session on it.
    pub(super) fn finish_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &AnnounceResponse,
    ) {
        if !response.answered && self.features.announce_init {
            let init = AnnounceInit::default();
            let _ = self.write(core, key, |out, version| init.encode(out, version));
        } else if !response.answered {
            self.write_announce_ok(core, key, 0);
        }
        self.finish(core, key);
    }
}
