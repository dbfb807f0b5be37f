//! A source that holds its groups in vectors.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::coding::lite::FrameHead;
use crate::coding::varint;
use crate::error::Error;
use crate::machine::{Announcement, FrameView, Run, Source, Supply, Token, WireFrame};
use crate::properties::Properties;
use crate::time::Timestamp;
use crate::version::Version;

/// A frame of a [`Shelf`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The presentation time.
    pub timestamp: Timestamp,
    /// The properties with which it came, see [`FrameView::properties`].
    pub properties: Option<Properties>,
    /// The size of the whole payload.
    pub size: u64,
    /// The part of the payload that exists so far.
    pub payload: Vec<Bytes>,
}

impl Frame {
    /// A whole frame.
    pub fn new(timestamp: u64, payload: impl Into<Bytes>) -> Self {
        let payload = payload.into();
        let size = payload.len() as u64;
        let timestamp = Timestamp::new(timestamp);
        Self { timestamp, properties: None, size, payload: Vec::from([payload]) }
    }

    /// The payload as one vector.
    pub fn bytes(&self) -> Vec<u8> {
        self.payload.concat()
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    frames: Vec<Frame>,
    end: Option<Result<(), Error>>,
}

/// Groups and announcements that a test provides, by token.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Shows whole frames in their wire format, [`FrameView::wire`]. By default they are shown in pieces.
    pub as_wire: bool,
    /// How often frames were asked for.
    pub calls: usize,
    groups: BTreeMap<Token, Group>,
    announcements: BTreeMap<Token, VecDeque<Announcement>>,
    gone: Vec<Token>,
}

impl Shelf {
    /// An empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a group without frames.
    pub fn begin(&mut self, group: Token) {
        self.groups.entry(group).or_default();
    }

    /// Appends a frame to a group.
    pub fn push(&mut self, group: Token, frame: Frame) {
        self.groups.entry(group).or_default().frames.push(frame);
    }

    /// Appends payload to the last frame of a group.
    ///
    /// # Panics
    ///
    /// If the group has no frame.
    pub fn extend(&mut self, group: Token, payload: impl Into<Bytes>) {
        let frames = &mut self.groups.entry(group).or_default().frames;
        frames.last_mut().expect("a frame that begins").payload.push(payload.into());
    }

    /// Ends a group: after its frames, or with an error that makes all of it unavailable.
    pub fn end(&mut self, group: Token, result: Result<(), Error>) {
        self.groups.entry(group).or_default().end = Some(result);
    }

    /// Adds a whole group.
    pub fn insert(&mut self, group: Token, frames: impl IntoIterator<Item = Frame>) {
        let group = self.groups.entry(group).or_default();
        group.frames.extend(frames);
        group.end = Some(Ok(()));
    }

    /// Adds the next announcement for a reader.
    pub fn announce(&mut self, reader: Token, announcement: Announcement) {
        self.announcements.entry(reader).or_default().push_back(announcement);
    }

    /// The groups that were requested and answered with [`Supply::Gone`], in order.
    pub fn told_gone(&self) -> &[Token] {
        &self.gone
    }
}

impl Source for Shelf {
    fn frames(&mut self, token: Token, from: u64, run: &mut Run<'_>) -> Supply {
        self.calls += 1;
        let error = match self.groups.get(&token) {
            None => Error::Internal,
            Some(Group { end: Some(Err(error)), .. }) => error.clone(),
            Some(group) => return show(group, from, self.as_wire, run),
        };
        self.gone.push(token);
        Supply::Gone(error)
    }

    fn announcement(&mut self, reader: Token) -> Option<Announcement> {
        self.announcements.get_mut(&reader)?.pop_front()
    }
}

fn show(group: &Group, from: u64, as_wire: bool, run: &mut Run<'_>) -> Supply {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(group.frames.len());
    let mut previous =
        from.checked_sub(1).map_or(Timestamp::ZERO, |before| group.frames[before].timestamp);
    for (index, frame) in group.frames.iter().enumerate().skip(from) {
        let (timestamp, size, payload) = (frame.timestamp, frame.size, &frame.payload);
        let wire = if as_wire { on_wire(frame, previous) } else { None };
        let wire = wire.as_ref().map(|(bytes, delta_len, head_len)| WireFrame {
            bytes,
            delta_len: *delta_len,
            head_len: *head_len,
        });
        let (properties, offset) = (frame.properties.as_ref(), 0);
        let went_on =
            run.push(FrameView { timestamp, previous, size, properties, wire, payload, offset });
        if !went_on && index + 1 < group.frames.len() {
            return Supply::More;
        }
        previous = timestamp;
    }
    if group.end.is_some() { Supply::End } else { Supply::Pending }
}

/// A whole frame in the format of moq-lite 05 and 06, with the sizes of its timestamp delta and of its
/// head.
fn on_wire(frame: &Frame, previous: Timestamp) -> Option<(Bytes, usize, usize)> {
    let payload = frame.bytes();
    let head = FrameHead::between(previous, frame.timestamp, frame.size);
    let head = head.encode(Version::Lite06).ok()?;
    let head_len = head.len();
    let delta_len = head_len - varint::len(frame.size);
    let whole = payload.len() as u64 == frame.size;
    whole.then(|| ([&*head, &*payload].concat().into(), delta_len, head_len))
}
