//! A group that is arriving from the peer.

use bytes::Bytes;

use crate::census::census;
use crate::machine::Token;
use crate::model::base::Result;
use crate::model::cache::{FrameProducer, GroupProducer, PartialGroup, WeakTrack};
use crate::{Error, Properties, Timestamp};

pub(crate) struct IncomingGroup {
    track: WeakTrack,
    pub(crate) group: GroupProducer,
    pub(crate) frame: Option<FrameProducer>,
    /// Its track, if the group was subscribed and not fetched.
    pub(crate) remote_track: Option<Token>,
    received: ReceivedPart,
    /// Only sessions of moq-transport read it: it is another subgroup than 0, or what follows a gap.
    pub(crate) is_apart: bool,
}

/// The part of a group that is here already and arrives again, because another session began the group.
#[derive(Default)]
struct ReceivedPart {
    /// The number of whole frames.
    frames: u64,
    /// The number of payload bytes of the current frame.
    bytes: u64,
    /// Whether the next frame is the open one.
    resumes: bool,
}

impl IncomingGroup {
    pub(crate) fn new(track: WeakTrack, group: GroupProducer, remote_track: Option<Token>) -> Self {
        let (frame, received, is_apart) = Default::default();
        Self { track, group, frame, remote_track, received, is_apart }
    }

    /// Continues a group of which the first `frames` arrive although they are here.
    pub(crate) fn resume(partial: PartialGroup, frames: u64) -> Self {
        let (track, group, frame) = partial.into_parts();
        let received = ReceivedPart { frames, bytes: 0, resumes: frame.is_some() };
        Self { track, group, frame, remote_track: None, received, is_apart: false }
    }

    pub(crate) fn frame(
        &mut self,
        timestamp: Option<Timestamp>,
        now: u64,
        properties: Option<Properties>,
        size: u64,
        payload: &[Bytes],
    ) -> Result<(), Error> {
        if let Some(frames) = self.received.frames.checked_sub(1) {
            self.received = ReceivedPart { frames, bytes: size, ..self.received };
            return payload.iter().try_for_each(|bytes| self.payload(bytes));
        }
        if std::mem::take(&mut self.received.resumes) {
            self.received.bytes = self.group.resume_frame(timestamp, size)?;
            return payload.iter().try_for_each(|bytes| self.payload(bytes));
        }
        if let Some(properties) = properties.as_ref().filter(|it| it.is_apart() && !self.is_apart) {
            let track = self.track.upgrade().ok_or(Error::Cancelled)?;
            let rest = track.add_rest(self.group.sequence());
            let is_end = properties.status() != 0;
            match is_end {
                true => self.group.finish()?,
                false => self.group.abort(Error::Lagged),
            }
            match rest {
                Ok(rest) => (self.group, self.is_apart) = (rest, true),
                Err(_) => return if is_end { Ok(()) } else { Err(Error::Lagged) },
            }
        }
        let timestamp = timestamp.unwrap_or(Timestamp::new(now));
        self.frame = self.group.ingest(timestamp, properties, size, payload)?;
        self.finish_if_complete()
    }

    pub(crate) fn payload(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let received = self.received.bytes.min(bytes.len() as u64);
        self.received.bytes -= received;
        let bytes = &bytes[received as usize..];
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(frame) = &mut self.frame else { return Err(Error::WrongSize) };
        frame.write(bytes)?;
        self.finish_if_complete()
    }

    /// The session is over. Another session that has the track is asked for the rest.
    pub(crate) fn cut_off(mut self, error: Error) {
        if self.is_apart {
            return self.group.abort(error);
        }
        PartialGroup::cut_off(self.track, self.group, self.frame, error);
    }

    /// Finishes the frame as soon as all its bytes are here.
    fn finish_if_complete(&mut self) -> Result<(), Error> {
        match self.frame.take_if(|frame| frame.remaining() == 0) {
            Some(mut frame) => frame.finish(),
            None => Ok(()),
        }
    }
}

census! { each IncomingGroup { plain: track, group, frame, remote_track, received, is_apart; } }
