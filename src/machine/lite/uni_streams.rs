//! The peer's unidirectional streams: SETUP (moq-lite-06, 6.3.1), and the headers of groups
//! (6.3.2).

use super::session::{Lite, read_message};
use crate::coding::lite::{GroupHeader as Message, HEAD_BYTES, Setup, UniStream};
use crate::error::Error;
use crate::machine::engine::{Core, GroupDialect, GroupHeader, GroupPart, Progress, StreamState};
use crate::machine::layout::Layout;
use crate::slab::Key;

impl Lite {
    /// Reads the type of a stream, and the whole of SETUP. Group streams are only sorted here: they
    /// are read by priority.
    pub(super) fn read_stream(&mut self, core: &mut Core, key: Key) -> Progress {
        let Some(stream) = core.recv_streams.get(key) else { return Progress::More };
        // A stream that was reset before its type asked for nothing.
        if stream.recv.reset().is_some() {
            core.recv_streams.remove(key);
            return Progress::More;
        }
        if matches!(stream.state, StreamState::New) {
            let mut front = [0; HEAD_BYTES];
            let Some((kind, len)) = self.features.form.read(stream.recv.peek(&mut front)) else {
                if stream.recv.has_fin() {
                    core.recv_streams.remove(key);
                }
                return Progress::More;
            };
            stream.recv.skip(len);
            // An unknown type is stopped, and the session lives (7.2).
            match UniStream::from_u64(kind, self.version) {
                Some(UniStream::Group) => {
                    core.recv_streams.sort(key, StreamState::Header);
                    return Progress::More;
                }
                Some(UniStream::Setup) => stream.state = StreamState::Control,
                None => {
                    core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
                    return Progress::More;
                }
            }
        }
        // A malformed SETUP closes the session, and so does a stream that ends without one: without SETUP
        // nothing else of the peer can be understood (3.1).
        let limit = core.limits.message_bytes;
        let message = read_message(&mut stream.recv, self.version, false, limit);
        let body = match message {
            Ok(Some((_, body))) => body,
            Ok(None) if !stream.recv.has_fin() => return Progress::More,
            Ok(None) | Err(_) => {
                core.violation("malformed SETUP");
                return Progress::Wait;
            }
        };
        let setup = Setup::decode_body(&body, self.version);
        match (setup, &self.peer) {
            (Ok(setup), None) => self.set_up(core, setup),
            // One Setup stream a session (6.3.1).
            (Ok(_), Some(_)) => core.violation("second SETUP"),
            (Err(_), _) => core.violation("malformed SETUP"),
        }
        // SETUP is followed by FIN. Deployed peers ignore bytes after it, and so do we.
        core.recv_streams.stop(&mut core.actions, key, &Error::Cancelled);
        Progress::More
    }
}

impl GroupDialect for Lite {
    /// Reads the header of a group, GROUP (7.19). FIN before it is a group that was abandoned.
    fn read_group_header(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<GroupHeader>, Error> {
        let Some(stream) = core.recv_streams.get(key) else { return Ok(None) };
        if let Some(code) = stream.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        let limit = core.limits.message_bytes;
        let message = read_message(&mut stream.recv, self.version, false, limit)?;
        let Some((_, body)) = message else {
            return if stream.recv.has_fin() { Err(Error::Cancelled) } else { Ok(None) };
        };
        let Message { subscribe, sequence, first_frame } =
            Message::decode_body(&body, self.version)?;
        // We ask for whole groups only, so that a part of one has no place in the track.
        let part = if first_frame == 0 { GroupPart::Group } else { GroupPart::Other };
        let layout = Layout::Lite(self.version);
        let (subscription, subgroup) = (subscribe, None);
        Ok(Some(GroupHeader { subscription, sequence, first_frame, part, subgroup, layout }))
    }
}
