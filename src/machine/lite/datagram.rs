//! Groups that come in datagrams (moq-lite 05+, *Datagrams*).

use bytes::Bytes;

use super::super::Core;
use super::super::app::Event;
use super::super::dialect::Dialect;
use super::Lite;
use crate::coding::lite::DatagramHead;

impl Lite {
    /// What nobody waits for is lost, as it may be anywhere on its way.
    pub(super) fn read_datagram(&mut self, core: &mut Core, mut bytes: Bytes) -> Option<Event> {
        let (head, len) = DatagramHead::decode(&bytes, self.version).ok()?;
        let payload = bytes.split_off(len);
        let DatagramHead { subscribe, sequence, timestamp } = head;
        let key = core.subs.by_number(subscribe)?;
        let sub = core.subs.get_mut(key)?;
        let is_wanted = !sub.late && sub.start.is_none_or(|start| start <= sequence);
        if sub.info.is_none() || !is_wanted || payload.len() as u64 > core.limits.frame_bytes {
            return None;
        }
        // 07 counts streams; before, END says which groups there were.
        sub.seen += u64::from(!self.features.stream_count);
        let subscription = sub.token;
        // Behind the event that is told first.
        self.check_over(core, key);
        Some(Event::Datagram { subscription, sequence, timestamp, payload })
    }
}
