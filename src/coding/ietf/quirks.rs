//! Differences between deployed peers and the drafts that are tolerated. Each entry names the peer, its
//! versions, and the test.

use super::draft::{Draft, MOQT_17, MOQT_18, MOQT_19, MOQT_20};
use super::message::MessageType;
use super::parameters::GROUP_ORDER;
use super::setup::Setup;
use crate::coding::cursor::Cursor;

/// Messages that a draft does not have, and peers send all the same. They are only read.
const MESSAGES: [(u8, u8, u64, MessageType); 3] = [
    // Cloudflare `moq-transport` 0.17 and aiomoqt 0.10 cancel with UNSUBSCRIBE
    // (`unsubscribe_is_read_but_not_written_on_18`).
    (18, u8::MAX, 0x0a, MessageType::Unsubscribe),
    // `moq-lite` 0.16 asks for announcements in the form of 16 and 17
    // (`the_former_subscribe_namespace_is_read_in_18`).
    (18, 18, 0x11, MessageType::FormerSubscribeNamespace),
    // The table of 18 has PUBLISH_OK, and its text answers PUBLISH with REQUEST_OK (`each_draft_has_its_messages`).
    (18, 18, 0x1e, MessageType::RequestOk),
];

/// The type of a message that only peers of another draft have.
pub(super) fn message(number: u64, draft: &Draft) -> Option<MessageType> {
    let mut rows = MESSAGES.iter();
    let row =
        rows.find(|(first, last, id, _)| *id == number && (*first..=*last).contains(&draft.number));
    row.map(|(.., kind)| *kind)
}

/// `moq-lite` 0.16 writes GROUP_ORDER in SUBSCRIBE_OK on 15 to 18; only 15 has it there
/// (`parameters_in_the_wrong_message_are_ignored_up_to_16`).
pub(super) fn may_carry(id: u64, kind: MessageType, draft: &Draft) -> bool {
    id == GROUP_ORDER && kind == MessageType::SubscribeOk && (16..=18).contains(&draft.number)
}

/// Whether this value stands for an absent parameter. shaka-player 5.2 writes the 0 of draft 14, the publisher's order, in
/// SUBSCRIBE on 16 as well (`the_publishers_order_may_be_written_on_16`).
pub(super) fn is_absent(id: u64, value: &Cursor<'_>, draft: &Draft) -> bool {
    id == GROUP_ORDER && draft.number == 16 && value.clone().varint() == Ok(0)
}

/// Cloudflare `moq-transport` 0.17 writes GOAWAY without the fields after the URI
/// (`goaway_may_lack_its_last_fields`).
pub(super) const GOAWAY_MAY_END: bool = true;

/// `moq-lite` 0.16 writes this status in PUBLISH_DONE for TRACK_ENDED (`a_track_ends_with_the_status_of_moq_lite`).
pub(crate) const DONE_BY_MOQ_LITE: u64 = 200;

/// `@moq/net` 0.3 has a length before LARGEST_OBJECT, which ended with 16
/// (`largest_object_has_a_length_for_moq_lite_js`).
static OF_MOQ_LITE_JS: [Draft; 4] = [
    Draft { has_location_length: true, ..MOQT_17 },
    Draft { has_location_length: true, ..MOQT_18 },
    Draft { has_location_length: true, ..MOQT_19 },
    Draft { has_location_length: true, ..MOQT_20 },
];

impl Draft {
    /// Cloudflare `moq-transport` 0.17 sends TRACK_STATUS on its control stream too, where it expects no answer
    /// (`track_status_on_the_control_stream_is_ignored`).
    pub(crate) fn has_stray_track_status(&self) -> bool {
        self.number == 18
    }
}

impl Setup {
    /// The row of `draft` as this peer understands it.
    pub(crate) fn draft(&self, draft: &'static Draft) -> &'static Draft {
        if !self.is_moq_lite_js() {
            return draft;
        }
        OF_MOQ_LITE_JS.iter().find(|row| row.number == draft.number).unwrap_or(draft)
    }

    /// Whether the peer is `@moq/net`. Up to 19 it subscribes from the next object on, and has no use for a group without
    /// its first one. So it gets the latest group from its beginning, as from `moq-relay`. Otherwise a page would wait for a
    /// catalog that nobody changes (`moq_lite_js_gets_the_latest_group_from_its_first_object`).
    pub(crate) fn is_moq_lite_js(&self) -> bool {
        self.implementation.as_deref() == Some("moq-lite-js")
    }

    /// Whether the peer may be Cloudflare `moq-transport` 0.16 (16) or 0.17 (18), which does not name itself. It refuses to
    /// resume its PUBLISH, and 0.17 even ends it. So what it offers is never paused, nor is it on 17, which lies between
    /// (`offers_of_cloudflare_are_not_paused`).
    pub(crate) fn may_be_cloudflare(&self, draft: &Draft) -> bool {
        (16..=18).contains(&draft.number) && self.implementation.is_none() && !self.solicit
    }

    /// Whether the peer takes PUBLISH where it asks for namespaces and tracks at once: up to 15, and by an option on 16 and
    /// 17. Peers of moq-dev want the namespaces alone (`peers_of_moq_dev_get_no_tracks_with_the_namespaces`).
    pub(crate) fn takes_offers(&self) -> bool {
        let is_moq_dev = |name: &str| name.starts_with("moq-lite");
        !self.solicit && !self.implementation.as_deref().is_some_and(is_moq_dev)
    }

    /// Whether the peer is `moq-lite` 0.16 or older. It announces unsolicited, and closes the session on the
    /// SUBSCRIBE_NAMESPACE of draft 18 and on filters with locations. Its successors have the same name and
    /// send SOLICIT (`a_prefix_is_requested_on_its_own_stream`).
    pub(crate) fn is_early_moq_lite(&self) -> bool {
        !self.solicit && self.implementation.as_deref() == Some("moq-lite-rs")
    }
}
