//! SETTINGS (RFC 9114, section 7.2.4).

use std::collections::BTreeSet;

use crate::codes;
use crate::error::Violation;
use crate::varint;

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// RFC 9220, section 5.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// RFC 9297, section 5.1.
const H3_DATAGRAM: u64 = 0x33;
/// The number of H3_DATAGRAM in the drafts of RFC 9297, which Chromium and Firefox send as well.
const H3_DATAGRAM_DRAFT: u64 = 0xff_d277;
/// ENABLE_WEBTRANSPORT of drafts 02 to 06, by which Chromium and Firefox recognize a server.
const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
/// WEBTRANSPORT_MAX_SESSIONS of drafts 02 to 06, sent by servers.
const MAX_SESSIONS_02: u64 = 0x2b60_3743;
/// WEBTRANSPORT_MAX_SESSIONS of drafts 07 to 12.
const MAX_SESSIONS_07: u64 = 0xc671_706a;
/// WT_MAX_SESSIONS of drafts 13 and 14, by which Safari recognizes a server.
const MAX_SESSIONS_13: u64 = 0x14e9_cd29;
/// WT_ENABLED of draft 15. It is understood but not sent: it would promise that a request with the protocol
/// `webtransport-h3` is accepted.
const WT_ENABLED: u64 = 0x2c7c_f000;

/// The content of the peer's SETTINGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) has_webtransport: bool,
    pub(crate) has_datagrams: bool,
}

impl Settings {
    /// From the payload of the frame.
    pub(crate) fn decode(mut payload: &[u8]) -> Result<Self, Violation> {
        let mut seen = BTreeSet::new();
        let mut settings = Self::default();
        let mut integer = || {
            let (value, size) = varint::decode(payload)?;
            payload = &payload[size..];
            Some(value)
        };
        while let Some(id) = integer() {
            let value = integer().ok_or(Violation(codes::FRAME, "a setting has no value"))?;
            if !seen.insert(id) {
                return Err(Violation(codes::SETTINGS, "a setting came twice"));
            }
            match (id, value) {
                (ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM, 2..) => {
                    return Err(Violation(codes::SETTINGS, "a setting is neither 0 nor 1"));
                }
                (0x2..=0x5, _) => {
                    return Err(Violation(codes::SETTINGS, "a setting is one of HTTP/2"));
                }
                (H3_DATAGRAM | H3_DATAGRAM_DRAFT, 1) => settings.has_datagrams = true,
                (ENABLE_WEBTRANSPORT | MAX_SESSIONS_07 | MAX_SESSIONS_13 | WT_ENABLED, 1..) => {
                    settings.has_webtransport = true
                }
                _ => {}
            }
        }
        if payload.is_empty() {
            Ok(settings)
        } else {
            Err(Violation(codes::FRAME, "SETTINGS end within a setting"))
        }
    }
}

/// The beginning of a control stream: its type, and the SETTINGS of either side.
///
/// They leave QPACK without a dynamic table, so that no QPACK streams are needed (RFC 9204, section 4.2), and
/// allow one session.
pub(crate) fn control_stream(header_bytes: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in [
        (MAX_FIELD_SECTION_SIZE, header_bytes),
        (ENABLE_CONNECT_PROTOCOL, 1),
        (H3_DATAGRAM, 1),
        (H3_DATAGRAM_DRAFT, 1),
        (ENABLE_WEBTRANSPORT, 1),
        (MAX_SESSIONS_02, 1),
        (MAX_SESSIONS_07, 1),
        (MAX_SESSIONS_13, 1),
    ] {
        varint::encode(id, &mut payload);
        varint::encode(value, &mut payload);
    }
    let mut bytes = vec![0x00, 0x04];
    varint::encode(payload.len() as u64, &mut bytes);
    bytes.append(&mut payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(u64, u64)]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (id, value) in pairs {
            varint::encode(*id, &mut payload);
            varint::encode(*value, &mut payload);
        }
        payload
    }

    #[test]
    fn every_draft_tells_that_it_has_webtransport() {
        let all = Settings { has_webtransport: true, has_datagrams: true };
        for pairs in [
            // Drafts 02 to 06, with settings of QPACK and one that is reserved.
            &[(1, 65_536), (6, 16_384), (7, 100), (0xffd277, 1), (0x2b603742, 1), (0x21, 9)][..],
            &[(8, 1), (0x33, 1), (0x2b603742, 1), (0x2b603743, 1)],
            &[(8, 1), (0x33, 1), (0x14e9cd29, 1)],
            &[(0x33, 1), (0xc671706a, 1)],
            &[(0x33, 1), (0x2c7cf000, 1)],
        ] {
            assert_eq!(Settings::decode(&settings(pairs)), Ok(all), "{pairs:x?}");
        }
        let none = settings(&[(0x33, 0), (0xc671706a, 0), (0x99, 1)]);
        assert_eq!(Settings::decode(&none), Ok(Settings::default()));
    }

    #[test]
    fn our_own_settings_are_understood() {
        let stream = control_stream(16_384);
        assert_eq!(stream[..2], [0, 4]);
        let (len, size) = varint::decode(&stream[2..]).unwrap();
        assert_eq!(len as usize, stream.len() - 2 - size);
        let decoded = Settings::decode(&stream[2 + size..]);
        assert_eq!(decoded, Ok(Settings { has_webtransport: true, has_datagrams: true }));
    }

    /// RFC 9114, sections 7.2.4 and 7.2.4.1.
    #[test]
    fn malformed_settings_are_errors() {
        for (payload, code) in [
            (settings(&[(0x33, 1), (0x33, 1)]), codes::SETTINGS),
            (settings(&[(0x33, 2)]), codes::SETTINGS),
            (settings(&[(0x8, 2)]), codes::SETTINGS),
            (settings(&[(0x2, 0)]), codes::SETTINGS),
            (settings(&[(0x5, 0)]), codes::SETTINGS),
            (vec![0x33], codes::FRAME),
            (vec![0x33, 0x40], codes::FRAME),
            (vec![0x40], codes::FRAME),
        ] {
            assert_eq!(Settings::decode(&payload).map_err(|it| it.0), Err(code), "{payload:x?}");
        }
    }
}
