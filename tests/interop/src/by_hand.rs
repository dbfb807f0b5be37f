//! A hand-written client of moq-transport, for requests that the peers never send each other.

use bytes::{Buf, BufMut};
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream};

use crate::{peers::Listener, quic, within};

/// A session in draft 16 or 18 that requests tracks and records the refusals.
pub struct Client {
    connection: Connection,
    draft: Draft,
    /// In 16 everything is on one stream. In 18 SETUP is, and the stream must stay open.
    control: (SendStream, Option<RecvStream>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Draft {
    D16,
    D18,
}

/// The refusal of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// REQUEST_ERROR, with its code.
    Error(u64),
    /// RESET_STREAM, with the code on the wire, if it overtook REQUEST_ERROR.
    Reset(u64),
}

impl Client {
    /// Connects with a SETUP that has only what the draft demands.
    pub async fn connect(listener: &Listener, version: &str) -> Self {
        let draft = match version {
            "moqt-16" => Draft::D16,
            "moqt-18" => Draft::D18,
            other => panic!("no draft: {other}"),
        };
        let endpoint = quic::client(quic::client_config(&[version])).expect("a socket");
        let connecting = endpoint.connect(listener.addr(), "localhost").expect("an address");
        let connection = within("a connection", connecting).await.expect("a handshake");
        let control = match draft {
            // CLIENT_SETUP with one parameter: MAX_REQUEST_ID is 63.
            Draft::D16 => {
                let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
                send.write_all(&[0x20, 0, 3, 1, 2, 63]).await.expect("written");
                let (kind, _) =
                    within("SERVER_SETUP", draft.message(&mut recv)).await.expect("a message");
                assert_eq!(kind, 0x21, "not SERVER_SETUP");
                (send, Some(recv))
            }
            Draft::D18 => {
                let mut send = connection.open_uni().await.expect("a stream");
                send.write_all(&[0xaf, 0, 0, 0]).await.expect("written");
                (send, None)
            }
        };
        Self { connection, draft, control }
    }

    /// Sends SUBSCRIBE without parameters and waits for its refusal.
    pub async fn refusal(&mut self, id: u8, broadcast: &str, track: &str) -> Refusal {
        assert!(id < 64, "one byte in either form of a varint");
        let mut body = vec![id, broadcast.split('/').count() as u8];
        for field in broadcast.split('/').chain([track]) {
            body.put_u8(field.len() as u8);
            body.put_slice(field.as_bytes());
        }
        body.put_u8(0);
        let mut message = vec![0x03];
        message.put_u16(body.len() as u16);
        message.put_slice(&body);
        let answer = match self.draft {
            Draft::D16 => {
                let (send, recv) = &mut self.control;
                send.write_all(&message).await.expect("written");
                let recv = recv.as_mut().expect("a control stream");
                within("an answer", Self::answer_16(recv, id.into())).await
            }
            Draft::D18 => {
                let (mut send, mut recv) = self.connection.open_bi().await.expect("a stream");
                send.write_all(&message).await.expect("written");
                within("an answer", self.draft.message(&mut recv)).await
            }
        };
        let body = match answer {
            Ok((0x05, body)) => body,
            Ok((kind, _)) => panic!("expected REQUEST_ERROR, got {kind:#x}"),
            Err(ReadExactError::ReadError(ReadError::Reset(code))) => {
                return Refusal::Reset(code.into_inner());
            }
            Err(error) => panic!("expected an answer, got {error}"),
        };
        let mut body = &body[..];
        let code = self.draft.varint(&mut body);
        let _retry = self.draft.varint(&mut body);
        let reason = self.draft.varint(&mut body);
        assert_eq!(body.len() as u64, reason, "bytes after the reason");
        Refusal::Error(code)
    }

    /// Whether the session is open.
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// The answer to a request, without its id. Other messages on the stream are skipped.
    async fn answer_16(recv: &mut RecvStream, id: u64) -> Result<(u64, Vec<u8>), ReadExactError> {
        const ANSWERS: [u64; 2] = [0x04, 0x05];
        loop {
            let (kind, body) = Draft::D16.message(recv).await?;
            let mut rest = &body[..];
            if ANSWERS.contains(&kind) && Draft::D16.varint(&mut rest) == id {
                return Ok((kind, rest.to_vec()));
            }
        }
    }
}

impl Draft {
    /// The type and body of a message. The types that matter take one byte.
    async fn message(self, recv: &mut RecvStream) -> Result<(u64, Vec<u8>), ReadExactError> {
        let mut head = [0; 3];
        recv.read_exact(&mut head).await?;
        let mut body = vec![0; u16::from_be_bytes([head[1], head[2]]).into()];
        recv.read_exact(&mut body).await?;
        Ok((head[0].into(), body))
    }

    /// The form of RFC 9000 in 16. In 18 the leading ones of the first byte count the bytes that follow.
    fn varint(self, buf: &mut impl Buf) -> u64 {
        let first = buf.get_u8();
        let (more, value) = match self {
            Self::D16 => ((1 << (first >> 6)) - 1, first & 0x3f),
            Self::D18 => (first.leading_ones(), first & (0x7f >> first.leading_ones().min(7))),
        };
        (0..more).fold(value.into(), |value, _| value << 8 | u64::from(buf.get_u8()))
    }
}
