//! How the frames of a group are laid out on a stream, for writing and for reading.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::event::{FramePosition, ObjectRun};
use super::frame_view::{FrameView, WireFrame};
use super::stream_buffers::RecvBuffer;
use crate::coding::DecodeError;
use crate::coding::ietf::{
    Draft, FetchObject, FetchRecord, FetchRecords, GroupOrder, HeadBytes, Location, MALFORMED,
    MAX_BLOCK, ObjectHead, ObjectStatus, PROPERTIES_OF_STATUS, RecordForm,
};
use crate::coding::lite::{Features, FrameHead, HEAD_BYTES};
use crate::coding::varint::{self, Form};
use crate::error::Error;
use crate::properties::Properties;
use crate::time::Timestamp;
use crate::version::Version;

/// The bytes before a payload, or before the frames of a group.
pub(crate) type Head = HeadBytes;

/// More than the head of any frame takes.
pub(crate) const HEAD_MAX: usize = MAX_BLOCK + 128;

/// How the frames of a group are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// FRAME of moq-lite: timestamp delta (05 and later), size, payload.
    Lite(Version),
    /// Objects of moq-transport: object id delta, properties, size, status, payload.
    Objects {
        draft: &'static Draft,
        /// Objects have a block of properties, of which the timestamp is one.
        properties: bool,
        /// The track has a timescale.
        timed: bool,
        /// A reader reports objects after a gap, and objects with a status.
        gaps: bool,
    },
    /// Records of objects in the answer to a FETCH of moq-transport. They are only written; [`RecordReader`]
    /// reads them.
    Records { writer: RecordWriter, run: ObjectRun },
}

/// Writes the records in the answer to a FETCH of moq-transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordWriter {
    draft: &'static Draft,
    order: GroupOrder,
    /// The publisher's priority of the track.
    priority: u8,
    /// Objects may have properties.
    properties: bool,
    /// The record before the next one.
    previous: Option<FramePosition>,
}

/// Reads the heads of the frames on the stream of a group.
#[derive(Debug)]
pub(crate) enum HeadReader {
    Frames(Layout),
    /// The same, from this frame of the group on.
    Tail(Layout, u64),
    Records(Box<RecordReader>),
}

/// How many bytes are looked at first to read a record: one of usual length.
const FETCH_FRONT: usize = 96;

/// Where the bytes of a record are looked at.
pub(crate) struct RecordFront {
    usual: [u8; FETCH_FRONT],
    /// With a long block of properties.
    long: Vec<u8>,
}

impl Default for RecordFront {
    fn default() -> Self {
        Self { usual: [0; FETCH_FRONT], long: Vec::new() }
    }
}

/// Reads the heads of the frames of one group in the answer to a FETCH of moq-transport.
#[derive(Debug)]
pub(crate) struct RecordReader {
    records: FetchRecords,
    group: u64,
    /// The object that is the next frame.
    next: u64,
    /// The track has a timescale.
    timed: bool,
    draft: &'static Draft,
}

/// The head of a frame.
pub(crate) struct FrameStart {
    /// `None` where the layout has none.
    pub(crate) timestamp: Option<Timestamp>,
    /// `None` where the layout has none, or if the timestamp is the only one.
    pub(crate) properties: Option<Properties>,
    pub(crate) size: u64,
}

impl FrameStart {
    /// The head of an object with this timestamp, or with all these properties. `timed`: its track has a timescale.
    pub(crate) fn of_object(
        timestamp: Option<Timestamp>,
        all: Option<&[u8]>,
        size: u64,
        timed: bool,
        draft: &Draft,
    ) -> Self {
        let properties = match (all, timestamp) {
            (Some(all), _) => Some(Properties::of_pairs(all, draft.pair_form())),
            (None, None) => Some(Properties::NONE),
            (None, Some(_)) if timed => None,
            (None, Some(timestamp)) => Some(Properties::of_timestamp(timestamp, draft)),
        };
        Self { timestamp: timestamp.filter(|_| timed), properties, size }
    }

    /// The same, for an object that does not follow the one before it, or has a status.
    fn apart(self, gap: u32, status: ObjectStatus, draft: &Draft) -> Self {
        if (gap, status) == (0, ObjectStatus::Normal) {
            return self;
        }
        let alone = || Properties::of_timestamp(self.timestamp.unwrap_or_default(), draft);
        let properties = self.properties.unwrap_or_else(alone);
        Self { properties: Some(properties.with_gap_and_status(gap, status as u8)), ..self }
    }
}

/// The properties of a frame as a sender of moq-transport writes them, where objects `have_any`: the timestamp, or all of
/// them as they came.
pub(crate) fn properties_of(
    have_any: bool,
    timestamp: Timestamp,
    properties: Option<&Properties>,
    draft: &Draft,
) -> (Option<Timestamp>, Option<Bytes>) {
    match properties {
        _ if !have_any => (None, None),
        None => (Some(timestamp), None),
        Some(all) => {
            let pairs = all.in_form(draft.pair_form(), MAX_BLOCK);
            (None, Some(pairs).filter(|pairs| !pairs.is_empty()))
        }
    }
}

/// A fault in an object that closes the session, and one that ends its group.
pub(crate) fn object_fault(error: DecodeError) -> Error {
    match error {
        PROPERTIES_OF_STATUS => Error::ProtocolViolation("properties of a status"),
        DecodeError::BoundsExceeded => Error::ProtocolViolation("the types of properties"),
        error => Error::Malformed(error),
    }
}

/// The next item on the stream of a group.
pub(crate) enum Item {
    Frame(FrameStart),
    /// A payload of this size that is no frame of the group.
    Foreign(u64),
    /// The group ends here, whatever may follow.
    End,
    /// The next head has not arrived completely.
    NeedMore,
}

impl Layout {
    /// The layout of groups that we send.
    pub(crate) fn of(version: Version) -> Self {
        match Draft::of(version) {
            // Where track properties can't be written the timescale is unknown, so that a timestamp
            // would mean nothing.
            Some(draft) => Self::objects(draft, draft.writes_properties()),
            None => Self::Lite(version),
        }
    }

    /// The layout of objects that we send.
    pub(crate) fn objects(draft: &'static Draft, properties: bool) -> Self {
        Self::Objects { draft, properties, timed: true, gaps: false }
    }

    /// From which byte on a frame can be sent as the cache holds it; `None` if it must be written
    /// anew. `restarts`: it is the first frame on its stream, and not the first of its group.
    pub(crate) fn as_it_lies(self, wire: &WireFrame<'_>, restarts: bool) -> Option<usize> {
        match self {
            Self::Lite(_) if restarts => None,
            Self::Lite(version) => match Features::of(version) {
                // 07 has another form of varints than the cache.
                Features { form: Form::LeadingOnes62, .. } => None,
                Features { timestamps: true, .. } => Some(0),
                _ => Some(wire.delta_len),
            },
            Self::Objects { .. } | Self::Records { .. } => None,
        }
    }

    /// The bytes before the payload of a frame, the `index`-th of its group; `None` if they can't
    /// be written. `base`: it is the first on its stream, and so many objects come before it and its gap.
    pub(crate) fn head(self, frame: &FrameView<'_>, index: u64, base: Option<u64>) -> Option<Head> {
        match self {
            Self::Lite(version) => {
                let previous = if base.is_some() { Timestamp::ZERO } else { frame.previous };
                let head = FrameHead::between(previous, frame.timestamp, frame.size);
                Some(Head::from_slice(&head.encode(version).ok()?))
            }
            Self::Objects { draft, properties, timed, .. } => {
                let (gap, status) = frame.properties.map_or((0, 0), |it| (it.gap, it.status));
                let have_any = properties && timed;
                let (timestamp, all) =
                    properties_of(have_any, frame.timestamp, frame.properties, draft);
                let head = ObjectHead {
                    delta: base.unwrap_or(0) + u64::from(gap),
                    timestamp,
                    properties: all.as_deref(),
                    size: frame.size,
                    status: ObjectStatus::of(status.into(), draft).ok()?,
                };
                head.encode(properties, draft).ok()
            }
            Self::Records { writer, run } => writer.object(run, frame, index, base.is_some()),
        }
    }

    /// The layout for a track that has a timescale, or has none.
    pub(crate) fn of_track(self, has_timescale: bool) -> Self {
        match self {
            Self::Objects { draft, properties, timed, gaps } => {
                Self::Objects { draft, properties, timed: timed && has_timescale, gaps }
            }
            other @ (Self::Lite(_) | Self::Records { .. }) => other,
        }
    }

    /// Takes the head of the next frame off a stream, if it arrived completely. `previous` is the
    /// timestamp of the frame before it, `number` that of the frame if it is the first on its stream, and 0
    /// otherwise.
    fn read(self, recv: &mut RecvBuffer, previous: Timestamp, number: u64) -> Result<Item, Error> {
        match self {
            Self::Lite(version) => {
                let mut front = [0; HEAD_BYTES];
                let Some((head, len)) = FrameHead::read(recv.peek(&mut front), version)? else {
                    return Ok(Item::NeedMore);
                };
                recv.skip(len);
                let timestamp = head
                    .timestamp(previous)
                    .map_err(|_| Error::Malformed(DecodeError::BoundsExceeded))?;
                let timestamp = Features::of(version).timestamps.then_some(timestamp);
                Ok(Item::Frame(FrameStart { timestamp, properties: None, size: head.size }))
            }
            Self::Objects { draft, properties, timed, gaps } => {
                let mut front = [0; 48];
                let mut long;
                let front = recv.peek(&mut front);
                let mut read = ObjectHead::read(front, properties, draft).map_err(object_fault)?;
                if read.is_none() && front.len() == 48 {
                    // A long block of properties.
                    long = vec![0; recv.len().min(ObjectHead::MAX)];
                    let front = recv.peek(&mut long);
                    read = ObjectHead::read(front, properties, draft).map_err(object_fault)?;
                }
                let Some((head, len)) = read else { return Ok(Item::NeedMore) };
                let is_end =
                    matches!(head.status, ObjectStatus::EndOfGroup | ObjectStatus::EndOfTrack);
                if head.status != ObjectStatus::Normal && !(gaps && is_end) {
                    return Ok(Item::End);
                }
                let gap = head.delta.checked_sub(number).and_then(|gap| u32::try_from(gap).ok());
                let gap = gap.filter(|gap| *gap == 0 || gaps).ok_or(Error::Lagged)?;
                let ObjectHead { timestamp, properties: all, size, status, .. } = head;
                let start = FrameStart::of_object(timestamp, all, size, timed, draft);
                let start = start.apart(gap, status, draft);
                recv.skip(len);
                Ok(Item::Frame(start))
            }
            Self::Records { .. } => unreachable!("read by `RecordReader`"),
        }
    }
}

impl RecordWriter {
    /// Writes records for a track whose publisher gave it this priority. `properties`: objects may have some.
    pub(crate) fn new(
        draft: &'static Draft,
        order: GroupOrder,
        priority: u8,
        properties: bool,
    ) -> Self {
        Self { draft, order, priority, properties, previous: None }
    }

    /// The state after the record before, of which the next one leaves out no field.
    fn state(&self) -> FetchRecords {
        let records = FetchRecords::new(self.order, self.draft);
        self.previous.map_or(records.clone(), |it| records.after_range(it.into()))
    }

    /// The end of objects that may exist, or did not arrive in time. `None` where the draft can't say it.
    pub(crate) fn gap(&mut self, end: FramePosition, is_timed_out: bool) -> Option<Head> {
        let end = FramePosition::new(end.group, end.frame.min(varint::MAX));
        let record = match is_timed_out && self.draft.records == RecordForm::TimedOut {
            true => FetchRecord::TimedOut(end.into()),
            false => FetchRecord::Unknown(end.into()),
        };
        let head = self.state().encode(&record).ok()?;
        self.previous = Some(end);
        Some(head)
    }

    /// The layout of these objects, which come next.
    pub(crate) fn objects(&mut self, mut run: ObjectRun) -> Layout {
        // Up to 15 no record says that an object was a datagram.
        run.subgroup = run.subgroup.or((self.draft.records <= RecordForm::Byte).then_some(0));
        let layout = Layout::Records { writer: *self, run };
        // After a whole group only its number is needed.
        let last = run.last_frame.map_or(run.object, |last| run.object_of(last));
        self.previous = Some(FramePosition::new(run.sequence, last));
        layout
    }

    /// The head of an object of `run`, the `index`-th frame where that is read.
    fn object(
        self,
        run: ObjectRun,
        frame: &FrameView<'_>,
        index: u64,
        restarts: bool,
    ) -> Option<Head> {
        let (timestamp, all) =
            properties_of(self.properties, frame.timestamp, frame.properties, self.draft);
        let location = |index| Location::new(run.sequence, run.object_of(index));
        let (subgroup, priority) = (run.subgroup, run.priority.unwrap_or(self.priority));
        let mut records = match index.checked_sub(1).filter(|_| !restarts) {
            Some(before) => self.state().after(location(before), subgroup, priority),
            None => self.state(),
        };
        let (location, properties, size) = (location(index), all.as_deref(), frame.size);
        let object = FetchObject { location, subgroup, priority, timestamp, properties, size };
        records.encode(&FetchRecord::Object(object)).ok()
    }
}

impl HeadReader {
    /// Takes the head of the next frame off a stream.
    pub(crate) fn read(
        &mut self,
        recv: &mut RecvBuffer,
        previous: Timestamp,
    ) -> Result<Item, Error> {
        match self {
            Self::Frames(layout) => layout.read(recv, previous, 0),
            Self::Tail(layout, first) => {
                let (layout, first) = (*layout, *first);
                let item = layout.read(recv, previous, first)?;
                if matches!(item, Item::Frame(_)) {
                    *self = Self::Frames(layout);
                }
                Ok(item)
            }
            Self::Records(reader) => reader.read(recv),
        }
    }
}

impl RecordReader {
    /// Reads a group from its frame `first` on.
    pub(crate) fn new(draft: &'static Draft, group: u64, first: u64, timed: bool) -> Self {
        let records = FetchRecords::new(GroupOrder::Ascending, draft);
        Self { records, group, next: first, timed, draft }
    }

    /// Reads the next record of the group without taking it. `None` if it has not arrived completely.
    ///
    /// # Errors
    ///
    /// [`Error::ProtocolViolation`] ends the session (*Fetch Header*). A record of another group, or with more
    /// properties than are accepted, concerns this FETCH alone.
    pub(crate) fn peek<'a>(
        &self,
        recv: &RecvBuffer,
        front: &'a mut RecordFront,
    ) -> Result<Option<(FetchRecord<'a>, FetchRecords, usize)>, Error> {
        // A block of properties may be legal and yet too long for this end.
        let error = |error| match error {
            DecodeError::TooLong | MALFORMED => Error::Malformed(error),
            _ => Error::ProtocolViolation("malformed fetch record"),
        };
        let mut records = self.records.clone();
        let RecordFront { usual, long } = front;
        let front = recv.peek(usual);
        let mut read = records.read(front).map_err(error)?;
        if read.is_none() && front.len() == FETCH_FRONT {
            // A long block of properties.
            *long = vec![0; recv.len().min(FetchRecords::MAX)];
            read = records.read(recv.peek(long)).map_err(error)?;
        }
        let Some((record, len)) = read else { return Ok(None) };
        if record.location().group != self.group {
            return Err(Error::Malformed(DecodeError::BoundsExceeded));
        }
        Ok(Some((record, records, len)))
    }

    fn read(&mut self, recv: &mut RecvBuffer) -> Result<Item, Error> {
        loop {
            let mut front = RecordFront::default();
            let Some((record, records, len)) = self.peek(recv, &mut front)? else {
                return Ok(Item::NeedMore);
            };
            self.records = records;
            recv.skip(len);
            match record {
                // A group of the model is subgroup 0. An object that was a datagram has no subgroup.
                FetchRecord::Object(object) if object.subgroup.unwrap_or(0) != 0 => {
                    return Ok(Item::Foreign(object.size));
                }
                FetchRecord::Object(object) if object.location.object != self.next => {
                    return Err(Error::Lagged);
                }
                FetchRecord::Object(object) => {
                    self.next += 1;
                    let FetchObject { timestamp, properties: all, size, .. } = object;
                    return Ok(Item::Frame(FrameStart::of_object(
                        timestamp, all, size, self.timed, self.draft,
                    )));
                }
                // Objects that do not exist are missed only if there are others after them.
                FetchRecord::Absent(_) if recv.is_finished() => return Ok(Item::End),
                FetchRecord::Absent(_) => {}
                FetchRecord::Unknown(_) => return Err(Error::Lagged),
                FetchRecord::TimedOut(_) => return Err(Error::Timeout),
                FetchRecord::EndOfGroup(_) | FetchRecord::EndOfTrack(_) => return Ok(Item::End),
            }
        }
    }
}
