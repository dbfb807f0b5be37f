//! A group that the peer is sending, and what comes of it.

use super::super::frame::FrameProducer;
use super::super::group::GroupProducer;
use super::super::track::Rest;
use crate::census::census;
use crate::error::Error;
use crate::machine::{GroupKey, Token};
use crate::time::Timestamp;

pub(super) struct Receiving {
    pub(super) key: GroupKey,
    pub(super) group: GroupProducer,
    pub(super) frame: Option<FrameProducer>,
    /// Where its track is, if it was subscribed.
    pub(super) ask: Option<Token>,
    known: Known,
}

/// What comes although it is here, because the group was begun by another session.
#[derive(Default)]
struct Known {
    /// Whole frames.
    frames: u64,
    /// Bytes of payload of the frame that comes.
    bytes: u64,
    /// The next frame is the open one.
    resumes: bool,
}

impl Receiving {
    pub(super) fn new(key: GroupKey, group: GroupProducer, ask: Option<Token>) -> Self {
        Self { key, group, frame: None, ask, known: Known::default() }
    }

    /// Goes on with a group of which the first `frames` come although they are here.
    pub(super) fn resume(key: GroupKey, rest: Rest, frames: u64) -> Self {
        let (group, frame) = rest.into_parts();
        let known = Known { frames, bytes: 0, resumes: frame.is_some() };
        Self { key, group, frame, ask: None, known }
    }

    pub(super) fn frame(
        &mut self,
        timestamp: Option<Timestamp>,
        now: u64,
        size: u64,
        payload: &[u8],
    ) -> Result<(), Error> {
        if let Some(frames) = self.known.frames.checked_sub(1) {
            self.known = Known { frames, bytes: size, ..self.known };
            return self.payload(payload);
        }
        if std::mem::take(&mut self.known.resumes) {
            self.known.bytes = self.group.resume_frame(timestamp, size)?;
            return self.payload(payload);
        }
        let timestamp = timestamp.unwrap_or(Timestamp::new(now));
        self.frame = self.group.ingest(timestamp, size, payload)?;
        self.settle()
    }

    pub(super) fn payload(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let known = self.known.bytes.min(bytes.len() as u64);
        self.known.bytes -= known;
        let bytes = &bytes[known as usize..];
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(frame) = &mut self.frame else { return Err(Error::WrongSize) };
        frame.write(bytes)?;
        self.settle()
    }

    /// A frame is over as soon as all its bytes are there.
    fn settle(&mut self) -> Result<(), Error> {
        match self.frame.take_if(|frame| frame.remaining() == 0) {
            Some(frame) => frame.finish(),
            None => Ok(()),
        }
    }
}

census! { each Receiving { plain: key, group, frame, ask, known; } }
