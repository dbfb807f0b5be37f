//! What comes on unidirectional streams: set-up and GOAWAY, and subgroups (*Data Streams*).

use super::super::Core;
use super::super::dialect::Look;
use super::super::incoming::{Header, Part, State};
use super::super::layout::Layout;
use super::super::leave::obey;
use super::{Ietf, read_message, violation};
use crate::coding::DecodeError;
use crate::coding::ietf::{Goaway, Message, ObjectHead, ObjectStatus, UniStream};
use crate::error::Error;
use crate::slab::Key;
use crate::stream::Side;

impl Ietf {
    /// Reads what a stream is for, and what a control stream carries.
    pub(super) fn look_at_stream(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = core.incoming.get(key) else { return Look::More };
        if matches!(stream.state, State::Control) {
            return self.look_at_control_stream(core, key);
        }
        if stream.recv.reset().is_some() {
            core.incoming.remove(key);
            return Look::More;
        }
        let mut front = [0; UniStream::MAX];
        match UniStream::read(stream.recv.peek(&mut front), self.draft) {
            Ok(None) if stream.recv.has_fin() => drop(core.incoming.remove(key)),
            Ok(None) => {}
            Ok(Some((UniStream::Setup, _))) => {
                stream.state = State::Control;
                core.incoming.queue(key);
            }
            Ok(Some((UniStream::Subgroup(_), _))) => {
                stream.state = State::Header;
                core.incoming.queue(key);
            }
            // Nothing was fetched.
            Ok(Some((UniStream::Fetch { .. } | UniStream::Padding, _))) => {
                core.incoming.stop(&mut core.actions, key, &Error::Cancelled);
            }
            Err(_) => core.violation("unknown stream type"),
        }
        Look::More
    }

    /// SETUP, and behind it GOAWAY at most once.
    fn look_at_control_stream(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(stream) = core.incoming.get(key) else { return Look::More };
        if stream.recv.reset().is_some() || stream.recv.is_finished() {
            // The drafts call this a fault, but some peers let go of the stream behind SETUP.
            if self.peer.is_none() {
                core.violation("the control stream ended");
            }
            core.incoming.remove(key);
            return Look::More;
        }
        if self.peer.is_some() && core.undecided {
            self.early_stream = Some(key);
            return Look::More;
        }
        let (kind, body) = match read_message(&mut stream.recv, self.draft, &core.limits) {
            Ok(Some(message)) => message,
            Ok(None) => return Look::More,
            Err(error) => return violation(core, &error),
        };
        let look = match Message::decode(kind, &body, self.draft) {
            Ok(Message::Setup(_)) if self.peer.is_some() => {
                core.violation("second SETUP");
                return Look::Wait;
            }
            Ok(Message::Setup(setup)) => {
                self.set_up(core, setup);
                Look::More
            }
            Ok(Message::Goaway(goaway)) => self.going_away(core, goaway),
            Ok(_) => {
                core.violation("not a message of the control stream");
                return Look::Wait;
            }
            Err(error) => return violation(core, &error),
        };
        if let Some(stream) = core.incoming.get(key) {
            let resumes = stream.recv.release(super::super::buffer(&core.limits), false);
            if resumes {
                core.actions.push_back(super::super::Action::Resume { id: stream.id });
            }
        }
        core.incoming.queue(key);
        look
    }

    pub(super) fn going_away(&mut self, core: &mut Core, goaway: Goaway) -> Look {
        if self.side == Side::Server && !goaway.uri.is_empty() {
            core.violation("GOAWAY of a client with a URI");
            return Look::Wait;
        }
        let timeout = Some(goaway.timeout).filter(|timeout| !timeout.is_zero());
        obey(self, core, goaway.uri, timeout)
    }

    /// Reads a subgroup's header, and looks at its first object: a group is one subgroup, 0, from its
    /// first object on.
    pub(super) fn read_subgroup(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<Header>, Error> {
        let Some(stream) = core.incoming.get(key) else { return Ok(None) };
        if let Some(code) = stream.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        let has_fin = stream.recv.has_fin();
        let mut front = [0; UniStream::MAX + OBJECT_FRONT];
        let front = stream.recv.peek(&mut front);
        let read = UniStream::read(front, self.draft)?;
        let Some((UniStream::Subgroup(header), len)) = read else { return Ok(None) };
        let rest = &front[len..];
        let (first, status) = match ObjectHead::read(rest, header.properties, self.draft)? {
            Some((head, _)) => (head.delta, head.status),
            // Not all of it is here, but its number may be, and one with so many properties is an object
            // as others.
            None if rest.len() >= OBJECT_FRONT => {
                let number = self.draft.varint.read(rest);
                (number.map_or(0, |(number, _)| number), ObjectStatus::Normal)
            }
            None if rest.is_empty() && has_fin => (0, ObjectStatus::Normal),
            None if has_fin => return Err(Error::Malformed(DecodeError::Truncated)),
            None => return Ok(None),
        };
        stream.recv.skip(len);
        let part = match status {
            _ if header.subgroup.unwrap_or(first) != 0 => Part::Other,
            ObjectStatus::EndOfTrack if first == 0 => Part::EndOfTrack,
            _ if first != 0 => Part::Other,
            _ => Part::Group,
        };
        let (draft, properties) = (self.draft, header.properties);
        Ok(Some(Header {
            subscription: header.alias,
            sequence: header.group,
            first_frame: 0,
            part,
            layout: Layout::Objects { draft, properties, timed: true },
        }))
    }
}

/// Bytes of a first object that are looked at before its group begins.
const OBJECT_FRONT: usize = 64;
