//! The peer's unidirectional streams (moq-transport-22, 6.4.1 and 11): its control stream with
//! SETUP and GOAWAY (17 and later), and subgroups.

use super::session::{Ietf, Read, fault, read_message};
use crate::coding::DecodeError;
use crate::coding::ietf::{Goaway, MALFORMED, Message, ObjectHead, ObjectStatus, UniStream};
use crate::error::Error;
use crate::machine::engine::{
    Core, GroupDialect, GroupHeader, GroupPart, Progress, StreamState, goaway,
};
use crate::machine::event::Subgroup;
use crate::machine::layout::{Layout, object_fault};
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Reads the type of a stream, and the messages of a control stream. Subgroups are only sorted
    /// here: they are read by priority.
    pub(super) fn read_stream(&mut self, core: &mut Core, key: Key) -> Read {
        let Some(stream) = core.recv_streams.get(key) else { return Ok(Progress::More) };
        match stream.state {
            StreamState::Control => return self.read_control_stream(core, key),
            StreamState::Answer(fetch) => return self.read_first_record(core, key, fetch),
            _ => {}
        }
        // A stream that was reset before its type asked for nothing.
        if stream.recv.reset().is_some() {
            core.recv_streams.remove(key);
            return Ok(Progress::More);
        }
        let mut front = [0; UniStream::MAX];
        match UniStream::read(stream.recv.peek(&mut front), self.draft) {
            Ok(None) if stream.recv.has_fin() => drop(core.recv_streams.remove(key)),
            Ok(None) => {}
            Ok(Some((UniStream::Setup, _))) => core.recv_streams.sort(key, StreamState::Control),
            Ok(Some((UniStream::Subgroup(_), _))) => {
                core.recv_streams.sort(key, StreamState::Header);
            }
            Ok(Some((UniStream::Fetch { request }, len))) => {
                self.read_fetch_header(core, key, request, len);
            }
            // Padding is thrown away (11.5).
            Ok(Some((UniStream::Padding, _))) => {
                core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
            }
            // Unlike in moq-lite an unknown stream type closes the session (6.4.1).
            Err(_) => return fault("unknown stream type"),
        }
        Ok(Progress::More)
    }

    /// Reads SETUP, and then GOAWAY at most once. Nothing else may come (6.3).
    fn read_control_stream(&mut self, core: &mut Core, key: Key) -> Read {
        let Some(stream) = core.recv_streams.get(key) else { return Ok(Progress::More) };
        if stream.recv.reset().is_some() || stream.recv.is_finished() {
            // The drafts demand that control streams stay open. Some peers drop the stream after
            // SETUP, which does no harm.
            if self.peer.is_none() {
                core.control_ended();
            }
            core.recv_streams.remove(key);
            return Ok(Progress::More);
        }
        if self.peer.is_some() && core.awaits_accept {
            // Messages after SETUP wait for the application.
            self.early_stream = Some(key);
            return Ok(Progress::More);
        }
        let message = read_message(&mut stream.recv, self.draft, &core.limits)?;
        let Some((kind, body)) = message else { return Ok(Progress::More) };
        let progress = match Message::decode(kind, &body, self.draft)? {
            Message::Setup(_) if self.peer.is_some() => return fault("second SETUP"),
            Message::Setup(setup) => {
                self.set_up(core, setup);
                Ok(Progress::More)
            }
            Message::Goaway(goaway) => self.on_goaway_message(core, goaway),
            Message::TrackStatus(it) if self.draft.has_stray_track_status() => {
                self.accept_id(core, it.id)?;
                Ok(Progress::More)
            }
            _ => return fault("not a message of the control stream"),
        };
        // The message is consumed: a stream that was full is read on.
        core.recv_streams.release(key, false, &mut core.actions);
        core.recv_streams.queue(key);
        progress
    }

    /// GOAWAY of the peer. A client must not name a URI (9.2). A timeout of zero means that there
    /// is none.
    pub(super) fn on_goaway_message(&mut self, core: &mut Core, goaway: Goaway) -> Read {
        if self.side == Side::Server && !goaway.uri.is_empty() {
            return fault("GOAWAY of a client with a URI");
        }
        // Drafts without a timeout decode it as zero.
        let timeout = Some(goaway.timeout).filter(|timeout| !timeout.is_zero());
        Ok(goaway::on_goaway(self, core, goaway.uri, timeout))
    }
}

impl GroupDialect for Ietf {
    /// Reads the header of a subgroup (11.3.1), and looks at its first object without taking it: a
    /// group of ours is subgroup 0 from its first object on.
    fn read_group_header(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<GroupHeader>, Error> {
        let Some(stream) = core.recv_streams.get(key) else { return Ok(None) };
        if let Some(code) = stream.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        let has_fin = stream.recv.has_fin();
        let mut front = [0; UniStream::MAX + OBJECT_FRONT];
        let front = stream.recv.peek(&mut front);
        let read = UniStream::read(front, self.draft)?;
        let Some((UniStream::Subgroup(header), len)) = read else { return Ok(None) };
        let rest = &front[len..];
        let head = match ObjectHead::read(rest, header.properties, self.draft) {
            // It ends the track, once the group has begun.
            Err(MALFORMED) => Some((ObjectHead::default(), 0)),
            head => head.map_err(object_fault)?,
        };
        let (first, status) = match head {
            Some((head, _)) => (head.delta, head.status),
            // The object is not complete, but its number is enough here. One with a status has no
            // properties, so that one with so many is an ordinary object.
            None if rest.len() >= OBJECT_FRONT => {
                let number = self.draft.varint.read(rest);
                (number.map_or(0, |(number, _)| number), ObjectStatus::Normal)
            }
            // A subgroup without objects is an empty group.
            None if rest.is_empty() && has_fin => (0, ObjectStatus::Normal),
            None if has_fin => return Err(Error::Malformed(DecodeError::Truncated)),
            None => return Ok(None),
        };
        stream.recv.skip(len);
        // Where the header leaves the subgroup out, it is the number of the first object.
        let number = header.subgroup.unwrap_or(first);
        let part = match status {
            // Objects before the first one of a subgroup do not exist.
            _ if number != 0 || first != 0 && header.first_object => GroupPart::Other,
            ObjectStatus::EndOfTrack if first == 0 => GroupPart::EndOfTrack,
            _ => GroupPart::Group,
        };
        let (draft, properties, gaps) = (self.draft, header.properties, core.takes_subgroups);
        let subgroup = Subgroup {
            number,
            first_frame: first,
            priority: header.priority,
            is_from_start: header.first_object,
            ends_group: header.end_of_group,
        };
        Ok(Some(GroupHeader {
            subscription: header.alias,
            sequence: header.group,
            first_frame: first,
            part,
            subgroup: Some(subgroup).filter(|it| gaps && !it.is_datagram()),
            layout: Layout::Objects { draft, properties, timed: true, gaps },
        }))
    }

    fn may_become_known(&self, subscription: u64) -> bool {
        // A publisher chooses the alias, so that groups may arrive before SUBSCRIBE_OK names it (3.1.3). No
        // subscription will come for an alias that is retired, or that is an offer nobody subscribed to.
        !self.retired_aliases.contains(subscription) && !self.offers.has_alias(subscription)
    }

    fn ends_track(&self, error: &Error) -> bool {
        // Properties that contradict each other make the track malformed (12.1).
        *error == Error::Malformed(MALFORMED)
    }
}

/// How many bytes of a first object are looked at before its group begins.
const OBJECT_FRONT: usize = 64;
