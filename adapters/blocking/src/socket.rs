use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use smoq_quic::Buffers;

/// Messages that one system call may receive, each of one datagram or, where the kernel merges
/// them (GRO), of many from one sender. As many as the system has a call for.
const BATCH: usize = BATCH_SIZE;
/// The largest such message: what an IP packet can be.
const MESSAGE: usize = 64 << 10;
/// Bytes of datagrams that one system call may send to one address (GSO): the kernel makes one IP packet of them,
/// with its headers, before it splits them.
const SEND_BYTES: usize = 63 << 10;

/// The least number of bytes that the system's queue counts for a message.
const LEAST: usize = 512;

/// Decides for each datagram that arrives whether it is kept.
pub(crate) type Filter = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// The UDP socket, never blocking, with what was received and not yet looked at, and at most one
/// packet that it did not take.
pub(crate) struct Socket {
    io: mio::net::UdpSocket,
    offload: UdpSocketState,
    scratch: Box<[u8]>,
    inbox: VecDeque<(RecvMeta, BytesMut)>,
    heard: Heard,
    outgoing: Vec<u8>,
    stuck: Option<Transmit>,
    buffers: Buffers,
    pub(crate) filter: Option<Filter>,
    /// How often it is to pretend that it is full.
    #[cfg(test)]
    pub(crate) refusals: usize,
}

/// How far the socket was read. A socket that is never empty is read up to some time as well: the system's queue holds no
/// more than its buffer.
struct Heard {
    /// Everything that arrived before this time was passed on.
    until: Instant,
    /// Everything that arrived before this time is taken from the system after that many further bytes.
    next: (Instant, usize),
}

/// One datagram that arrived.
pub(crate) struct Datagram {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) bytes: BytesMut,
}

impl Socket {
    pub(crate) fn new(socket: UdpSocket, buffers: Buffers, now: Instant) -> io::Result<Self> {
        // Sets it non-blocking as well.
        let offload = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            io: mio::net::UdpSocket::from_std(socket),
            offload,
            scratch: vec![0; BATCH * MESSAGE].into(),
            inbox: VecDeque::new(),
            heard: Heard { until: now, next: (now, 0) },
            outgoing: Vec::new(),
            stuck: None,
            buffers,
            filter: None,
            #[cfg(test)]
            refusals: 0,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The buffer sizes that the system granted.
    pub(crate) fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Whether IP may split what is sent: then packet sizes can't be probed.
    pub(crate) fn may_fragment(&self) -> bool {
        self.offload.may_fragment()
    }

    pub(crate) fn source(&mut self) -> &mut impl mio::event::Source {
        &mut self.io
    }

    /// Everything that arrived before this time was received. After a stall of this process it is the time before the stall
    /// until the rest was received as well.
    pub(crate) fn heard(&self) -> Instant {
        self.heard.until
    }

    /// The next datagram; `None` when the socket has no more.
    pub(crate) fn receive(&mut self, now: Instant) -> io::Result<Option<Datagram>> {
        loop {
            let Some((meta, message)) = self.inbox.front_mut() else {
                if let (until, 0) = self.heard.next {
                    // Linux reports half of what the queue may hold.
                    self.heard = Heard { until, next: (now, 2 * self.buffers.receive + MESSAGE) };
                }
                if self.refill()? {
                    continue;
                }
                self.heard = Heard { until: now, next: (now, 0) };
                return Ok(None);
            };
            let (meta, stride) = (*meta, meta.stride.min(message.len()));
            let bytes = message.split_to(stride);
            if message.is_empty() {
                self.inbox.pop_front();
            }
            if bytes.is_empty() || self.filter.as_mut().is_some_and(|keep| !keep(&bytes)) {
                continue;
            }
            return Ok(Some(Datagram {
                remote: meta.addr,
                local_ip: meta.dst_ip,
                ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                bytes,
            }));
        }
    }

    /// Receives one batch; `false` if there was nothing.
    fn refill(&mut self) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut chunks = self.scratch.chunks_exact_mut(MESSAGE);
        let mut slices = std::array::from_fn::<_, BATCH, _>(|_| {
            IoSliceMut::new(chunks.next().expect("scratch has BATCH messages"))
        });
        let (io, offload) = (&self.io, &self.offload);
        let count = match io.try_io(|| offload.recv(io.into(), &mut slices, &mut metas)) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            // Some host answered an earlier packet by ICMP: no reason to stop for the others.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(true),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(e) => return Err(e),
        };
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            let (_, left) = &mut self.heard.next;
            *left = left.saturating_sub(meta.len.max(LEAST));
            self.inbox.push_back((*meta, BytesMut::from(&slice[..meta.len])));
        }
        Ok(true)
    }

    /// Sends what `make` writes, for at most the given number of datagrams, each of up to `size` bytes; `false` when
    /// it makes none. Not to be called while [`is_stuck`](Self::is_stuck).
    pub(crate) fn send(
        &mut self,
        size: u16,
        make: impl FnOnce(usize, &mut Vec<u8>) -> Option<Transmit>,
    ) -> bool {
        self.outgoing.clear();
        let segments = (SEND_BYTES / usize::from(size)).clamp(1, self.offload.max_gso_segments());
        self.stuck = make(segments, &mut self.outgoing);
        let made = self.stuck.is_some();
        self.retry();
        made
    }

    /// Whether the socket took no more: nothing may be sent until [`retry`](Self::retry) succeeds.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Sends again what was stuck.
    pub(crate) fn retry(&mut self) {
        let Some(packet) = &self.stuck else { return };
        #[cfg(test)]
        if self.refusals > 0 {
            self.refusals -= 1;
            return;
        }
        let (io, offload) = (&self.io, &self.offload);
        let transmit = quinn_udp::Transmit {
            destination: packet.destination,
            ecn: packet.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &self.outgoing[..packet.size],
            segment_size: packet.segment_size,
            src_ip: packet.src_ip,
        };
        // Any error but "not now" is as good as a lost packet, which QUIC repeats.
        match io.try_io(|| offload.send(io.into(), &transmit)) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            _ => self.stuck = None,
        }
    }
}
