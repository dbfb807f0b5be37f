//! The stream of the CONNECT request: HEADERS, then DATA with capsules.

use smoq::stream::Code;

use crate::codes;
use crate::elements::{Elements, Part};
use crate::error::Violation;
use crate::varint;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// WT_CLOSE_SESSION (WebTransport over HTTP/3, section 6).
const CLOSE: u64 = 0x2843;
/// WT_DRAIN_SESSION (section 4.7).
const DRAIN: u64 = 0x78ae;
/// The longest reason of a close in bytes (section 6).
const REASON: usize = 1024;

/// Something that a stream of a request said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A field section: the request, a response, or trailers.
    Headers(Vec<u8>),
    /// The field section is larger than the limit.
    TooLarge,
    /// The session is over.
    Close(Code),
    /// The peer will close the session soon.
    Drain,
}

/// The receiving half of the stream.
#[derive(Debug, Default)]
pub(crate) struct ConnectStream {
    frames: Elements,
    headers: Vec<u8>,
    has_headers: bool,
    capsules: Elements,
    close: Vec<u8>,
}

impl ConnectStream {
    /// Reads from the front of `bytes` until something was said.
    pub(crate) fn next(
        &mut self,
        bytes: &mut &[u8],
        header_bytes: u64,
    ) -> Result<Option<Said>, Violation> {
        loop {
            // DATA may have said more than one thing.
            let Some(part) = self.frames.next(bytes) else { return Ok(None) };
            match part {
                Part::Head { kind: HEADERS, len } => {
                    self.headers.clear();
                    if len > header_bytes {
                        return Ok(Some(Said::TooLarge));
                    }
                }
                Part::Head { kind: DATA, .. } if !self.has_headers => {
                    return Err(Violation(codes::FRAME_UNEXPECTED, "DATA came before HEADERS"));
                }
                Part::Head { kind, .. } if !is_allowed(kind) => {
                    return Err(Violation(
                        codes::FRAME_UNEXPECTED,
                        "a frame does not belong on a stream of a request",
                    ));
                }
                Part::Body { kind: HEADERS, bytes, is_last } => {
                    self.headers.extend_from_slice(bytes);
                    if is_last {
                        self.has_headers = true;
                        return Ok(Some(Said::Headers(std::mem::take(&mut self.headers))));
                    }
                }
                Part::Body { kind: DATA, bytes, .. } => {
                    if let Some(said) = self.capsules(bytes)? {
                        return Ok(Some(said));
                    }
                }
                // Unknown frames are skipped (RFC 9114, section 9).
                Part::Head { .. } | Part::Body { .. } => {}
            }
        }
    }

    /// Reads the capsules in DATA. Bytes after a close are ignored, and so are bytes after a drain in the same
    /// DATA, unless they are a close.
    fn capsules(&mut self, mut bytes: &[u8]) -> Result<Option<Said>, Violation> {
        let mut said = None;
        while let Some(part) = self.capsules.next(&mut bytes) {
            match part {
                Part::Head { kind: CLOSE, len } if !(4..=4 + REASON as u64).contains(&len) => {
                    return Err(Violation(
                        codes::MESSAGE,
                        "a close has no code, or too long a reason",
                    ));
                }
                Part::Body { kind: CLOSE, bytes, is_last } => {
                    self.close.extend_from_slice(bytes);
                    if is_last {
                        let code = self.close.iter().take(4);
                        let code = code.fold(0, |code, byte| code << 8 | u64::from(*byte));
                        return Ok(Some(Said::Close(Code::new(code))));
                    }
                }
                Part::Head { kind: DRAIN, .. } => said = Some(Said::Drain),
                // Unknown capsules are skipped (RFC 9297, section 3.2).
                Part::Head { .. } | Part::Body { .. } => {}
            }
        }
        Ok(said)
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between(&self) -> bool {
        self.frames.is_between() && self.capsules.is_between()
    }
}

/// Frames of the control stream, and those that only HTTP/2 has (RFC 9114, section 7.2).
fn is_allowed(kind: u64) -> bool {
    !matches!(kind, 0x2..=0x9 | 0xd)
}

/// DATA with a capsule that closes the session.
pub(crate) fn close(code: Code, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut capsule = Vec::new();
    varint::encode(CLOSE, &mut capsule);
    varint::encode(4 + end as u64, &mut capsule);
    capsule.extend((codes::clamp(code).as_u64() as u32).to_be_bytes());
    capsule.extend_from_slice(&reason.as_bytes()[..end]);
    let mut frame = vec![0x00];
    varint::encode(capsule.len() as u64, &mut frame);
    frame.append(&mut capsule);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], pieces: usize) -> Result<(Vec<Said>, ConnectStream), Violation> {
        let (mut stream, mut all) = (ConnectStream::default(), Vec::new());
        for mut piece in bytes.chunks(pieces) {
            while let Some(said) = stream.next(&mut piece, 8)? {
                all.push(said);
            }
        }
        Ok((all, stream))
    }

    #[test]
    fn a_request_and_capsules_are_read_in_pieces_of_any_size() {
        let mut bytes = b"\x01\x03abc\x40\x40\x02xx\x00\x04\x80\x00\x78\xae\x00\x01\x00".to_vec();
        bytes.extend(close(Code::new(420), "test"));
        for pieces in 1..=bytes.len() {
            let (said, stream) = read(&bytes, pieces).unwrap();
            let expected =
                [Said::Headers(b"abc".to_vec()), Said::Drain, Said::Close(Code::new(420))];
            assert_eq!(said, expected, "pieces of {pieces}");
            assert!(stream.is_between());
        }
    }

    #[test]
    fn a_close_is_written_as_a_capsule_in_data() {
        assert_eq!(close(Code::new(420), "test"), b"\x00\x0b\x68\x43\x08\x00\x00\x01\xa4test");
        let (said, _) = read(&[b"\x01\x00".to_vec(), close(Code::MAX, "")].concat(), 99).unwrap();
        assert_eq!(said[1], Said::Close(Code::new(u32::MAX.into())));
        // A reason is cut between characters.
        let long = close(Code::new(0), &"\u{e4}".repeat(1000));
        let (said, _) = read(&[b"\x01\x00".to_vec(), long.clone()].concat(), 99).unwrap();
        assert_eq!(said[1], Said::Close(Code::new(0)));
        let odd = close(Code::new(0), &format!("x{}", "\u{e4}".repeat(1000)));
        assert_eq!(odd.len() + 1, long.len());
    }

    #[test]
    fn broken_rules_have_their_codes() {
        for (bytes, code) in [
            (&b"\x00\x00"[..], codes::FRAME_UNEXPECTED),
            (b"\x04\x00", codes::FRAME_UNEXPECTED),
            (b"\x02\x00", codes::FRAME_UNEXPECTED),
            (b"\x01\x00\x07\x00", codes::FRAME_UNEXPECTED),
            (b"\x01\x00\x00\x03\x68\x43\x03", codes::MESSAGE),
            (b"\x01\x00\x00\x04\x68\x43\x44\x05", codes::MESSAGE),
        ] {
            for pieces in 1..=bytes.len() {
                assert_eq!(read(bytes, pieces).err().map(|it| it.0), Some(code), "{bytes:x?}");
            }
        }
        let (said, _) = read(b"\x01\x09", 2).unwrap();
        assert_eq!(said, [Said::TooLarge]);
    }
}
