//! The control stream of the peer (RFC 9114, section 6.2.1).

use crate::codes;
use crate::elements::{Elements, Part};
use crate::error::Violation;
use crate::settings::Settings;

/// The largest SETTINGS in bytes.
const SETTINGS_BYTES: u64 = 4 << 10;

const SETTINGS: u64 = 0x4;
const GOAWAY: u64 = 0x7;

/// Something that the control stream said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Settings(Settings),
    Goaway,
}

#[derive(Debug, Default)]
pub(crate) struct ControlStream {
    frames: Elements,
    settings: Vec<u8>,
    has_settings: bool,
}

impl ControlStream {
    /// Reads from the front of `bytes` until something was said.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Said>, Violation> {
        while let Some(part) = self.frames.next(bytes) {
            match part {
                Part::Head { kind: SETTINGS, len } if !self.has_settings => {
                    if len > SETTINGS_BYTES {
                        return Err(Violation(codes::EXCESSIVE_LOAD, "SETTINGS are too large"));
                    }
                    self.has_settings = true;
                }
                Part::Head { .. } if !self.has_settings => {
                    return Err(Violation(codes::MISSING_SETTINGS, "SETTINGS did not come first"));
                }
                // SETTINGS again, frames of requests, and frames of HTTP/2 (RFC 9114, section 7.2).
                Part::Head { kind: 0x0 | 0x1 | 0x2 | SETTINGS | 0x5 | 0x6 | 0x8 | 0x9, .. } => {
                    return Err(Violation(
                        codes::FRAME_UNEXPECTED,
                        "a frame does not belong on the control stream",
                    ));
                }
                Part::Body { kind: SETTINGS, bytes, is_last } => {
                    self.settings.extend_from_slice(bytes);
                    if is_last {
                        let settings = std::mem::take(&mut self.settings);
                        return Settings::decode(&settings).map(|it| Some(Said::Settings(it)));
                    }
                }
                Part::Body { kind: GOAWAY, is_last: true, .. } => return Ok(Some(Said::Goaway)),
                // CANCEL_PUSH and MAX_PUSH_ID, which concern nothing, and unknown frames (RFC 9114, section 9).
                Part::Head { .. } | Part::Body { .. } => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], pieces: usize) -> Result<Vec<Said>, Violation> {
        let (mut stream, mut all) = (ControlStream::default(), Vec::new());
        for mut piece in bytes.chunks(pieces) {
            while let Some(said) = stream.next(&mut piece)? {
                all.push(said);
            }
        }
        Ok(all)
    }

    #[test]
    fn settings_are_read_in_pieces_and_other_frames_are_skipped() {
        let bytes = b"\x04\x02\x33\x01\x40\x21\x03xxx\x03\x01\x00\x0d\x01\x00\x07\x01\x04";
        let settings = Settings { has_webtransport: false, has_datagrams: true };
        for pieces in 1..=bytes.len() {
            assert_eq!(read(bytes, pieces), Ok(vec![Said::Settings(settings), Said::Goaway]));
        }
    }

    #[test]
    fn broken_rules_have_their_codes() {
        for (bytes, code) in [
            (&b"\x07\x01\x00"[..], codes::MISSING_SETTINGS),
            (b"\x40\x21\x00", codes::MISSING_SETTINGS),
            (b"\x04\x00\x04\x00", codes::FRAME_UNEXPECTED),
            (b"\x04\x00\x00\x00", codes::FRAME_UNEXPECTED),
            (b"\x04\x00\x01\x00", codes::FRAME_UNEXPECTED),
            (b"\x04\x00\x05\x00", codes::FRAME_UNEXPECTED),
            (b"\x04\x00\x09\x00", codes::FRAME_UNEXPECTED),
            (b"\x04\x50\x01", codes::EXCESSIVE_LOAD),
            (b"\x04\x01\x33", codes::FRAME),
        ] {
            for pieces in 1..=bytes.len() {
                assert_eq!(read(bytes, pieces).map_err(|it| it.0), Err(code), "{bytes:x?}");
            }
        }
    }
}
