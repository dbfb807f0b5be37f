//! Sockets of one port for several threads.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;

use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, RandomConnectionIdGenerator,
};

use crate::socket::{self, Buffers};

/// The most sockets that can share a port: connection ids carry the number of the socket in one byte.
pub const MAX_WORKERS: usize = 256;

/// One of the sockets that share a port: each belongs to a thread with an endpoint of its own.
///
/// All packets of a connection arrive at the socket that received its first packet, also after the client's address
/// changed. The kernel chooses the socket by the connection id, so the endpoint must use
/// [`endpoint_config`](Self::endpoint_config). Keep all sockets of a port until the end: when one is closed, the
/// kernel numbers the others anew.
///
/// [`bind_workers`] makes them.
#[derive(Debug)]
pub struct WorkerSocket {
    /// The socket, with large buffers.
    pub socket: UdpSocket,
    /// The sizes of its buffers that the system granted.
    pub buffers: Buffers,
    ids: WorkerIds,
}

impl WorkerSocket {
    /// A configuration that differs from the default only in connection ids.
    pub fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        if self.ids.count > 1 {
            let ids = self.ids;
            config.cid_generator(move || Box::new(ids));
        }
        config
    }
}

/// Opens `count` UDP sockets on `local`, one for each thread that accepts connections. The system chooses one port for
/// port 0.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let count = std::thread::available_parallelism()?;
/// for socket in smoq_quic::bind_workers("[::]:4443".parse().unwrap(), count)? {
///     std::thread::spawn(move || {
///         // An endpoint of smoq-quinn or smoq-blocking on `socket`, and its loop.
/// #       drop(socket);
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The address can't be used, `count` exceeds [`MAX_WORKERS`], or more than one socket is requested on a system other
/// than Linux.
pub fn bind_workers(local: SocketAddr, count: NonZeroUsize) -> io::Result<Vec<WorkerSocket>> {
    let count = count.get();
    if count > MAX_WORKERS {
        let why = format!("{count} sockets can't share a port, only {MAX_WORKERS}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    // A socket that does not share its port: it finds out whether another program listens there.
    let (alone, buffers) = socket::bind(local)?;
    let worker = |index, socket, buffers| {
        let ids = WorkerIds { index, count, random: RandomConnectionIdGenerator::default() };
        WorkerSocket { socket, buffers, ids }
    };
    if count == 1 {
        return Ok(vec![worker(0, alone, buffers)]);
    }
    let local = alone.local_addr()?;
    drop(alone);
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        let (socket, buffers) = socket::bind_shared(local)?;
        workers.push(worker(index, socket, buffers));
    }
    steer(&workers[0].socket, count)?;
    Ok(workers)
}

/// Connection ids that lead to one socket: their first byte modulo the number of sockets is its number.
#[derive(Clone, Copy, Debug)]
struct WorkerIds {
    index: usize,
    count: usize,
    random: RandomConnectionIdGenerator,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = self.random.generate_cid();
        let random = usize::from(id[0]);
        let byte = random - random % self.count + self.index;
        let byte = u8::try_from(byte).or_else(|_| u8::try_from(byte - self.count));
        id[0] = byte.expect("the number of a socket fits one byte");
        id
    }

    fn cid_len(&self) -> usize {
        self.random.cid_len()
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        self.random.cid_lifetime()
    }
}

/// Tells the kernel to choose among the `count` sockets that share the port of `socket`.
///
/// It takes the first byte of the destination connection id, modulo `count`. That byte is at offset 6 of a packet with
/// a long header and at offset 1 of one with a short header (RFC 9000, sections 17.2 and 17.3). The client chooses the
/// first id of a connection at random; all later ones are made by [`WorkerIds`].
#[cfg(target_os = "linux")]
fn steer(socket: &UdpSocket, count: usize) -> io::Result<()> {
    use nix::libc::{
        BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JA, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
        sock_filter, sock_fprog,
    };
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

    const LONG_HEADER: u32 = 0x80;
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JSET | BPF_K, 0, 2, LONG_HEADER),
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 6),
        step(BPF_JMP | BPF_JA, 0, 0, 1),
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 1),
        step(BPF_ALU | BPF_MOD | BPF_K, 0, 0, count as u32),
        step(BPF_RET | BPF_A, 0, 0, 0),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &program).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn steer(_: &UdpSocket, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn workers(count: usize) -> Vec<WorkerSocket> {
        let count = NonZeroUsize::new(count).unwrap();
        let workers = bind_workers((Ipv4Addr::LOCALHOST, 0).into(), count).unwrap();
        for worker in &workers {
            worker.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        workers
    }

    fn packet(first: u8, id_at: usize, id: &ConnectionId) -> Vec<u8> {
        let mut packet = vec![first; 40];
        packet[id_at..][..id.len()].copy_from_slice(id);
        packet
    }

    /// RFC 9000, section 5.1: the server chooses the ids that later packets carry.
    #[test]
    fn packets_arrive_at_the_socket_that_made_their_connection_id() {
        for count in [1, 2, 3, 7] {
            let workers = workers(count);
            let to = workers[0].socket.local_addr().unwrap();
            let mut bytes = [0; 64];
            for round in 0..50 {
                for worker in &workers {
                    let id = worker.ids.clone().generate_cid();
                    // A new address each time: it does not matter where packets come from.
                    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    for (first, at) in [(0x40, 1), (0xc0, 6), (0xe0 | round & 0x0f, 6)] {
                        client.send_to(&packet(first, at, &id), to).unwrap();
                        let (_, from) = worker.socket.recv_from(&mut bytes).unwrap();
                        assert_eq!(from, client.local_addr().unwrap());
                        assert_eq!(bytes[at..][..id.len()], id[..]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_first_byte_of_an_id_leads_to_its_socket() {
        for count in [2, 3, 255, MAX_WORKERS] {
            for index in [0, 1, count - 1] {
                let random = RandomConnectionIdGenerator::default();
                let mut ids = WorkerIds { index, count, random };
                for _ in 0..2_000 {
                    assert_eq!(usize::from(ids.generate_cid()[0]) % count, index);
                }
            }
        }
    }

    #[test]
    fn a_port_in_use_is_refused_to_one_and_to_many() {
        let first = workers(2);
        let taken = first[0].socket.local_addr().unwrap();
        for count in [1, 2] {
            let error = bind_workers(taken, NonZeroUsize::new(count).unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        let many = NonZeroUsize::new(MAX_WORKERS + 1).unwrap();
        let error = bind_workers((Ipv4Addr::LOCALHOST, 0).into(), many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    /// A packet that is too short for a connection id harms nothing: it arrives anywhere, and the next ones as always.
    #[test]
    fn a_short_packet_is_no_harm() {
        let workers = workers(2);
        let to = workers[0].socket.local_addr().unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for short in [&[][..], &[0x40], &[0xc0; 5]] {
            client.send_to(short, to).unwrap();
        }
        let id = workers[1].ids.clone().generate_cid();
        client.send_to(&packet(0x40, 1, &id), to).unwrap();
        let mut bytes = [0; 64];
        while workers[1].socket.recv_from(&mut bytes).unwrap().0 < 40 {}
        assert_eq!(bytes[1..][..id.len()], id[..]);
    }
}
