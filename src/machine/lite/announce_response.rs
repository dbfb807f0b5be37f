//! Our answer to an announce request of the peer: the broadcasts that we have (moq-lite, *Announce*).

use bytes::BytesMut;

use super::roles::{AnnounceResponse, AnnouncedPath, Role};
use super::session::Lite;
use crate::coding::lite::{Announce, AnnounceInit, AnnounceOk, Base, Bases, HopsForm};
use crate::error::Error;
use crate::hop::Hops;
use crate::machine::engine::{Core, Dialect, MAX_UNSENT_ANNOUNCEMENTS, Progress};
use crate::machine::source::{Announcement, Source, Token};
use crate::slab::Key;

/// What ANNOUNCE_INIT has at most, or little more: less than any peer takes.
const INIT_BYTES: usize = 16 << 10;

impl Lite {
    pub(super) fn accept_announce(
        &mut self,
        core: &mut Core,
        key: Key,
        reader: Token,
        active: u64,
    ) {
        if core.requests.get(key).is_none() {
            return;
        }
        let (version, features, hop) = (self.version, self.features, self.hop);
        let Role::AnnounceResponse(response) = self.role(key) else { return };
        if response.reader.is_some() {
            return;
        }
        response.reader = Some(reader);
        response.ready = true;
        response.answered = !features.announce_init;
        response.initial = features.announce_init.then_some(active);
        if features.announce_ok {
            core.requests.write(key, |out| {
                // A count that does not fit is one that nobody has.
                let _ = AnnounceOk { hop, active }.encode(out, version);
            });
        }
        core.requests.queue_write(key);
    }

    pub(super) fn on_announcements_ready(&mut self, core: &mut Core, key: Key) {
        if core.requests.get(key).is_none() {
            return;
        }
        if let Role::AnnounceResponse(response) = self.role(key) {
            response.ready = true;
            core.requests.queue_write(key);
        }
    }

    /// Reads announcements only when they can go out, so that a slow peer finds them coalesced.
    pub(super) fn fill_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        source: &mut impl Source,
    ) {
        let mut role = core::mem::take(self.role(key));
        if let Role::AnnounceResponse(response) = &mut role {
            if let (Some(reader), Some(active)) = (response.reader, response.initial.take()) {
                self.announce_init(core, key, response, active, || source.announcement(reader));
            }
            while let (Some(reader), true) = (response.reader, response.ready) {
                if core.requests.unsent(key) >= core.limits.owed_bytes.min(MAX_UNSENT_ANNOUNCEMENTS)
                {
                    break;
                }
                match source.announcement(reader) {
                    Some(change) => self.announce(core, key, response, change),
                    None => response.ready = false,
                }
            }
        }
        *self.role(key) = role;
    }

    /// What there is at first goes out in one message, unless it is too much: then the rest follows.
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
                    // One that can't be said would take the others with it, and one that is large may.
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
                Some(Announcement::Ended { suffix }) => drop(response.announced.remove(&suffix)),
                None => break,
            }
            if size.len() >= INIT_BYTES.min(core.limits.owed_bytes) {
                break;
            }
        }
        let suffixes = response.announced.keys().cloned().collect();
        response.answered = true;
        core.requests.write(key, |out| {
            let _ = AnnounceInit { suffixes }.encode(out, version);
        });
        if let Some(large) = large {
            self.announce(core, key, response, large);
        }
    }

    fn announce(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &mut AnnounceResponse,
        change: Announcement,
    ) {
        let (version, features) = (self.version, self.features);
        let write = |core: &mut Core, message: Announce| {
            let mut result = Ok(());
            core.requests.write(key, |out| result = message.encode(out, version));
            result.is_ok()
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
                if let (Some(AnnouncedPath { id, .. }), true) = (known, features.announce_ids) {
                    write(core, Announce::Update { id: *id, hops, cost, base: Base::default() });
                    return;
                }
                if !features.announce_ok {
                    // These versions take a second one for a fault, and an end and a beginning of the same
                    // hops for another broadcast. Where they can't name hops it is left out.
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
                let bases = Bases::default();
                if write(core, Announce::Active { suffix: suffix.clone(), hops, cost, bases }) {
                    response.announced.insert(suffix, announced);
                    response.next_id += 1;
                }
            }
            Announcement::Ended { suffix } => {
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

    /// The peer has nothing more to say on its request.
    pub(super) fn read_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &AnnounceResponse,
    ) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let error = match request.abandoned() {
            Some(code) => Error::from_stream_code(code),
            None if request.recv.len() > 0 => Error::Malformed(crate::DecodeError::TrailingBytes),
            // A FIN alone says nothing: the deployed peers finish their half or keep it as they like.
            None => return Progress::Wait,
        };
        self.finish_announce_response(core, key, response);
        Progress::request_ended(key, error)
    }

    /// No more announcements: FIN, which is legal only behind ANNOUNCE_INIT or ANNOUNCE_OK. Never RESET,
    /// which ends the session of the deployed peers.
    pub(super) fn finish_announce_response(
        &mut self,
        core: &mut Core,
        key: Key,
        response: &AnnounceResponse,
    ) {
        let version = self.version;
        if !response.answered {
            let (features, hop) = (self.features, self.hop);
            core.requests.write(key, |out| {
                let _ = match features.announce_init {
                    true => AnnounceInit::default().encode(out, version),
                    false if features.announce_ok => {
                        AnnounceOk { hop, active: 0 }.encode(out, version)
                    }
                    false => Ok(()),
                };
            });
        }
        self.finish(core, key);
    }
}
