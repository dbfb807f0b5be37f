//! A hand-written client of moq-transport, for requests that the peers never send each other.

use bytes::{Buf, BufMut};
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream};

use crate::{peers::Listener, quic, within};

/// A session in a draft that requests tracks and records the refusals.
pub struct Client {
    connection: Connection,
    draft: Draft,
    /// Up to 16 everything is on one stream. From 17 on SETUP is, and the stream must stay open.
    control: (SendStream, Option<RecvStream>),
}

/// The number of a draft.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Draft(u8);

/// The refusal of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// REQUEST_ERROR, in 14 SUBSCRIBE_ERROR, with its code.
    Error(u64),
    /// RESET_STREAM, with the code on the wire, if it overtook REQUEST_ERROR.
    Reset(u64),
}

impl Client {
    /// Connects with a SETUP that has only what the draft demands.
    pub async fn connect(listener: &Listener, version: &str) -> Self {
        let number = version.strip_prefix("moqt-").and_then(|number| number.parse().ok());
        let draft = Draft(number.expect("a draft"));
        let endpoint = quic::client(quic::client_config(&[version])).expect("a socket");
        let connecting = endpoint.connect(listener.addr(), "localhost").expect("an address");
        let connection = within("a connection", connecting).await.expect("a handshake");
        let control = if draft.has_request_streams() {
            let mut send = connection.open_uni().await.expect("a stream");
            send.write_all(&[0xaf, 0, 0, 0]).await.expect("written");
            (send, None)
        } else {
            // CLIENT_SETUP with one parameter: MAX_REQUEST_ID is 63. 14 has a list of versions before it.
            let setup: &[u8] = match draft.0 {
                14 => &[0x20, 0, 12, 1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 1, 2, 63],
                _ => &[0x20, 0, 3, 1, 2, 63],
            };
            let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
            send.write_all(setup).await.expect("written");
            let (kind, _) = within("SERVER_SETUP", message(&mut recv)).await.expect("a message");
            assert_eq!(kind, 0x21, "not SERVER_SETUP");
            (send, Some(recv))
        };
        Self { connection, draft, control }
    }

    /// Sends SUBSCRIBE without parameters and waits for its refusal.
    pub async fn refusal(&mut self, id: u8, broadcast: &str, track: &str) -> Refusal {
        assert!(id < 64, "one byte in either form of a varint");
        let mut body = vec![id];
        if self.draft.0 == 17 {
            // Required Request ID Delta.
            body.put_u8(0);
        }
        body.put_u8(broadcast.split('/').count() as u8);
        for field in broadcast.split('/').chain([track]) {
            body.put_u8(field.len() as u8);
            body.put_slice(field.as_bytes());
        }
        if self.draft.0 == 14 {
            // Priority, ascending, forward, Largest Object.
            body.put_slice(&[128, 1, 1, 2]);
        }
        body.put_u8(0);
        let mut subscribe = vec![0x03];
        subscribe.put_u16(body.len() as u16);
        subscribe.put_slice(&body);
        let answer = if self.draft.has_request_streams() {
            let (mut send, mut recv) = self.connection.open_bi().await.expect("a stream");
            send.write_all(&subscribe).await.expect("written");
            within("an answer", message(&mut recv)).await
        } else {
            let (send, recv) = &mut self.control;
            send.write_all(&subscribe).await.expect("written");
            let recv = recv.as_mut().expect("a control stream");
            within("an answer", self.draft.answer(recv, id.into())).await
        };
        let body = match answer {
            Ok((0x05, body)) => body,
            Ok((kind, _)) => panic!("expected an error, got {kind:#x}"),
            Err(ReadExactError::ReadError(ReadError::Reset(code))) => {
                return Refusal::Reset(code.into_inner());
            }
            Err(error) => panic!("expected an answer, got {error}"),
        };
        let mut body = &body[..];
        let code = self.draft.varint(&mut body);
        if self.draft.0 >= 16 {
            let _retry = self.draft.varint(&mut body);
        }
        let reason = self.draft.varint(&mut body);
        assert_eq!(body.len() as u64, reason, "bytes after the reason");
        Refusal::Error(code)
    }

    /// Whether the session is open.
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// The type and body of a message. The types that matter take one byte.
async fn message(recv: &mut RecvStream) -> Result<(u64, Vec<u8>), ReadExactError> {
    let mut head = [0; 3];
    recv.read_exact(&mut head).await?;
    let mut body = vec![0; u16::from_be_bytes([head[1], head[2]]).into()];
    recv.read_exact(&mut body).await?;
    Ok((head[0].into(), body))
}

impl Draft {
    fn has_request_streams(self) -> bool {
        self.0 >= 17
    }

    /// The answer to a request on the control stream, without its id. Other messages are skipped.
    async fn answer(
        self,
        recv: &mut RecvStream,
        id: u64,
    ) -> Result<(u64, Vec<u8>), ReadExactError> {
        const ANSWERS: [u64; 2] = [0x04, 0x05];
        loop {
            let (kind, body) = message(recv).await?;
            let mut rest = &body[..];
            if ANSWERS.contains(&kind) && self.varint(&mut rest) == id {
                return Ok((kind, rest.to_vec()));
            }
        }
    }

    /// Up to 16 the form of RFC 9000. From 17 on the leading ones of the first byte count the bytes that
    /// follow.
    fn varint(self, buf: &mut impl Buf) -> u64 {
        let first = buf.get_u8();
        let (more, value) = if self.has_request_streams() {
            (first.leading_ones(), first & (0x7f >> first.leading_ones().min(7)))
        } else {
            ((1 << (first >> 6)) - 1, first & 0x3f)
        };
        (0..more).fold(value.into(), |value, _| value << 8 | u64::from(buf.get_u8()))
    }
}
