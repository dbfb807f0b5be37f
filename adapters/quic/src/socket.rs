//! UDP sockets with buffers for bursts.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::log;

/// The buffer size that is requested for a socket, in each direction: 4 MiB.
///
/// It holds the first packets of a thousand clients that dial at once. Linux's default of 208 KiB holds those of
/// fewer than a hundred. Linux grants no more than `net.core.rmem_max` and `net.core.wmem_max`, which many
/// systems set to 208 KiB.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// Sizes of a socket's buffers in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// For datagrams that arrived and were not read yet. Datagrams that find no room are lost.
    pub receive: usize,
    /// For datagrams that were sent and have not left yet.
    pub send: usize,
}

impl Buffers {
    /// Raises the buffers of `socket` to [`SOCKET_BUFFER`], or as far as the system allows, and returns their sizes.
    /// Larger buffers are left as they are.
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
    // Linux accepts any size and grants what is allowed; other systems refuse a size that is too large.
    while wanted > usable(size()) && set(wanted).is_err() {
        wanted /= 2;
    }
}

/// Linux reports twice the usable size, because it counts its bookkeeping.
fn usable(size: io::Result<usize>) -> usize {
    size.unwrap_or(0) / if cfg!(target_os = "linux") { 2 } else { 1 }
}

/// Opens a UDP socket on `local` with [raised](Buffers::raise) buffers. A socket on the unspecified IPv6 address takes
/// IPv4 as well, where the system supports that.
///
/// # Errors
///
/// The address can't be used: it is taken, it is not one of this machine, or its family is turned off.
pub fn bind(local: SocketAddr) -> io::Result<(UdpSocket, Buffers)> {
    open(local, |_| Ok(()))
}

/// As [`bind`], but other sockets of this program may use the same address.
#[cfg(unix)]
pub(crate) fn bind_shared(local: SocketAddr) -> io::Result<(UdpSocket, Buffers)> {
    open(local, |socket| socket.set_reuse_port(true))
}

#[cfg(not(unix))]
pub(crate) fn bind_shared(_: SocketAddr) -> io::Result<(UdpSocket, Buffers)> {
    Err(io::ErrorKind::Unsupported.into())
}

fn open(
    local: SocketAddr,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<(UdpSocket, Buffers)> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket)?;
    if local.ip().is_unspecified() && local.is_ipv6() {
        // If it fails, the system supports only sockets for IPv6 alone.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&local.into())?;
    let socket = UdpSocket::from(socket);
    let buffers = Buffers::raise(&socket);
    log::buffers(&buffers);
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
