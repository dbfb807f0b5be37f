//! UDP sockets with room for bursts.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes that the system is asked to hold for a socket, in each direction: 4 MiB.
///
/// It is what a thousand clients send that dial at once; the 208 KiB that Linux gives unasked hold the
/// first packet of fewer than a hundred. Linux grants no more than `net.core.rmem_max` and
/// `net.core.wmem_max`, which many systems set to 208 KiB as well.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// Bytes that the system holds for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Of datagrams that arrived and were not received yet. Those that find no room are lost.
    pub receive: usize,
    /// Of datagrams that were sent and have not left yet.
    pub send: usize,
}

impl Buffers {
    /// Raises the buffers of `socket` towards [`SOCKET_BUFFER`], as far as the system lets it, and gives
    /// what they are now. Buffers that are larger already stay as they are.
    pub fn raise(socket: &UdpSocket) -> Self {
        let socket = socket2::SockRef::from(socket);
        raise(|| socket.recv_buffer_size(), |bytes| socket.set_recv_buffer_size(bytes));
        raise(|| socket.send_buffer_size(), |bytes| socket.set_send_buffer_size(bytes));
        Self { receive: usable(socket.recv_buffer_size()), send: usable(socket.send_buffer_size()) }
    }

    /// Whether the system granted less than [`SOCKET_BUFFER`] in a direction.
    pub const fn is_short(&self) -> bool {
        self.receive < SOCKET_BUFFER || self.send < SOCKET_BUFFER
    }
}

fn raise(size: impl Fn() -> io::Result<usize>, set: impl Fn(usize) -> io::Result<()>) {
    let mut wanted = SOCKET_BUFFER;
    // Linux takes any size and grants what it may; others refuse what is too much.
    while wanted > usable(size()) && set(wanted).is_err() {
        wanted /= 2;
    }
}

/// Linux tells twice what was asked for, as its bookkeeping takes the other half.
fn usable(size: io::Result<usize>) -> usize {
    size.unwrap_or(0) / if cfg!(target_os = "linux") { 2 } else { 1 }
}

/// A UDP socket on `local`, with [raised](Buffers::raise) buffers. One on the unspecified IPv6 address takes
/// IPv4 as well, where the system knows such sockets.
///
/// # Errors
///
/// The address can't be used: it is taken, it is not one of this machine, or its family is turned off.
pub fn bind(local: SocketAddr) -> io::Result<(UdpSocket, Buffers)> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.ip().is_unspecified() && local.is_ipv6() {
        // Without it the socket is for IPv6 alone, which is what such a system can do.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&local.into())?;
    let socket = UdpSocket::from(socket);
    let buffers = Buffers::raise(&socket);
    Ok((socket, buffers))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn buffers_are_raised_as_far_as_the_system_lets_them() {
        let plain = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let before = socket2::SockRef::from(&plain).recv_buffer_size();
        let (socket, buffers) = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let after = socket2::SockRef::from(&socket).recv_buffer_size();
        assert_eq!(buffers.receive, usable(after));
        assert!(buffers.receive >= usable(before));
        assert_eq!(buffers.is_short(), buffers.receive.min(buffers.send) < SOCKET_BUFFER);
        if let Ok(most) = std::fs::read_to_string("/proc/sys/net/core/rmem_max") {
            let most: usize = most.trim().parse().unwrap();
            assert!(buffers.receive >= most.min(SOCKET_BUFFER), "{buffers:?} of {most}");
        }
    }

    #[test]
    fn a_larger_buffer_stays() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let first = Buffers::raise(&socket);
        assert_eq!(Buffers::raise(&socket), first);
    }
}
