//! Groups that go as datagrams, by the same rule as those that have streams.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use super::super::io::{Source, Supply, Token};
use super::super::layout::{Head, Layout};
use super::super::run::{Run, Scratch};
use super::{Outgoing, Pick, Range, Released, Schedule};
use crate::coding::lite::{DatagramHead, FrameHead};
use crate::version::Version;

/// What a sender must not exceed (moq-lite, *Datagrams*), however much the path takes.
pub(in super::super) const MAX_DATAGRAM: usize = 1_200;

impl Schedule {
    /// Takes a group that is to go as a datagram; `number` is what it names its subscription by. `head`
    /// is for the stream that it has if it does not fit into `max` bytes.
    pub(in super::super) fn push_datagram(
        &mut self,
        pick: Pick,
        token: Token,
        number: u64,
        head: Head,
        max: usize,
    ) {
        if max == 0 {
            return self.push(pick, token, 0, head);
        }
        let released = |group| Released { track: pick.track, group, sent: false };
        let max_pending = self.max_pending;
        let track = self.tracks.get(pick.track);
        if track.is_none_or(|track| track.groups.contains_key(&pick.sequence)) {
            self.released.push_back(released(token));
            return;
        }
        let mut dropped = None;
        self.reorder(pick.track, |track| {
            let range = Range { first: 0, last: None };
            let group = Outgoing { datagram: Some(number), ..Outgoing::new(token, range, head) };
            track.groups.insert(pick.sequence, group);
            track.datagrams.insert(pick.sequence);
            if track.datagrams.len() > max_pending {
                // The one that would go last.
                let datagrams = &mut track.datagrams;
                let last = if track.ordered { datagrams.pop_last() } else { datagrams.pop_first() };
                dropped = last.and_then(|sequence| track.groups.remove(&sequence));
            }
        });
        self.released.extend(dropped.map(|group| released(group.token)));
    }

    /// The group that should go as a datagram next, shown in `scratch` as two slices: what stands before
    /// the payload, and the payload. Those that do not fit into `max` bytes get streams.
    pub(in super::super) fn pick_datagram(
        &mut self,
        source: &mut impl Source,
        scratch: &mut Scratch,
        max: usize,
    ) -> Option<Pick> {
        loop {
            let (_, key) = *self.to_send.first()?;
            let track = self.tracks.get(key)?;
            let sequence = track.best(&track.datagrams)?;
            let group = &track.groups[&sequence];
            let (token, number) = (group.token, group.datagram.unwrap_or_default());
            let pick = Pick { track: key, sequence };
            scratch.clear();
            // Of two frames neither is the group.
            let few = Range { first: 0, last: Some(1) };
            let mut run = Run::new(scratch, self.layout, few, 0, 0, true);
            let supply = source.frames(token, 0, &mut run);
            scratch.flush();
            let is_whole = scratch.ends.len() == 1;
            match (supply, self.layout) {
                (Supply::Gone(_), _) => {
                    self.release(pick, false);
                }
                // It waits for `ready`.
                (Supply::Pending, _) => self.reorder(key, |track| {
                    track.datagrams.remove(&sequence);
                }),
                (Supply::End, Layout::Lite(version))
                    if is_whole && wrap(scratch, version, number, sequence, max) =>
                {
                    return Some(pick);
                }
                _ => self.reorder(key, |track| {
                    track.datagrams.remove(&sequence);
                    track.unopened.insert(sequence);
                    if let Some(group) = track.groups.get_mut(&sequence) {
                        group.datagram = None;
                    }
                }),
            }
        }
    }

    /// QUIC took the datagram, of so many bytes.
    pub(in super::super) fn datagram_sent(&mut self, pick: Pick, bytes: usize) {
        self.reorder(pick.track, |track| {
            track.datagrams.remove(&pick.sequence);
            track.urgency.served = track.urgency.served.saturating_add(bytes as u64);
        });
        self.set_clock(pick.track);
        self.release(pick, true);
    }

    pub(in super::super) fn has_datagrams(&self) -> bool {
        !self.to_send.is_empty()
    }
}

/// Makes a datagram of a frame that is shown as it is on a stream. `false` if it has more than `max` bytes,
/// or can't be written.
fn wrap(
    scratch: &mut Scratch,
    version: Version,
    subscribe: u64,
    sequence: u64,
    max: usize,
) -> bool {
    let mut chunks = core::mem::take(&mut scratch.chunks).into_iter();
    let mut payload = chunks.next().unwrap_or_default();
    let Ok(Some((frame, len))) = FrameHead::read(&payload, version) else { return false };
    payload.advance(len);
    let rest: Vec<Bytes> = chunks.collect();
    if !rest.is_empty() {
        payload = [&payload[..], &rest.concat()].concat().into();
    }
    let Ok(timestamp) = frame.timestamp(crate::Timestamp::ZERO) else { return false };
    let Ok(head) = (DatagramHead { subscribe, sequence, timestamp }).encode(version) else {
        return false;
    };
    scratch.total = head.len() + payload.len();
    scratch.chunks.extend([Bytes::copy_from_slice(&head), payload]);
    scratch.total <= max.min(MAX_DATAGRAM)
}
