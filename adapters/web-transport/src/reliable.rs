use std::future::Future;

use bytes::Bytes;
use web_transport_trait::{MaybeSend, Session, Stats};

/// A carrier on a reliable stream of bytes, such as TCP or a WebSocket: it sends no datagrams.
///
/// moq-lite has none there (draft 06, section 4.2): they would wait for one another. Groups that were meant for
/// datagrams go on streams.
#[derive(Clone, Debug)]
pub struct Reliable<S>(pub S);

impl<S: Session> Session for Reliable<S> {
    type SendStream = S::SendStream;
    type RecvStream = S::RecvStream;
    type Error = S::Error;

    fn accept_uni(
        &self,
    ) -> impl Future<Output = Result<Self::RecvStream, Self::Error>> + MaybeSend {
        self.0.accept_uni()
    }

    fn accept_bi(
        &self,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream), Self::Error>> + MaybeSend
    {
        self.0.accept_bi()
    }

    fn open_bi(
        &self,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream), Self::Error>> + MaybeSend
    {
        self.0.open_bi()
    }

    fn open_uni(&self) -> impl Future<Output = Result<Self::SendStream, Self::Error>> + MaybeSend {
        self.0.open_uni()
    }

    fn send_datagram(&self, payload: Bytes) -> Result<(), Self::Error> {
        self.0.send_datagram(payload)
    }

    fn recv_datagram(&self) -> impl Future<Output = Result<Bytes, Self::Error>> + MaybeSend {
        self.0.recv_datagram()
    }

    fn max_datagram_size(&self) -> usize {
        0
    }

    fn protocol(&self) -> Option<&str> {
        self.0.protocol()
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(code, reason);
    }

    fn closed(&self) -> impl Future<Output = Self::Error> + MaybeSend {
        self.0.closed()
    }

    fn stats(&self) -> impl Stats {
        self.0.stats()
    }
}
