//! A TCP connection, with TLS or without.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use mio::net::TcpStream;
use smoq_quic::rustls;
use smoq_quic::rustls::pki_types::CertificateDer;

/// Bytes that are read in one turn.
const READ: usize = 64 << 10;

/// TCP, or TLS on it, that does not block.
pub(super) struct Stream {
    socket: Metered,
    tls: Option<Box<rustls::Connection>>,
}

/// A socket that gives a number of bytes, and then says that there are none for now. The layers above read until there
/// is a message or no byte, which a peer could make last.
struct Metered {
    tcp: TcpStream,
    left: usize,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, tls: Option<rustls::Connection>) -> Self {
        Self { socket: Metered { tcp, left: READ }, tls: tls.map(Box::new) }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket.tcp
    }

    /// Lets a turn read as many bytes as one may.
    pub(super) fn begin_turn(&mut self) {
        self.socket.left = READ;
    }

    /// Whether the turn has read as many bytes as it may, so that the system may have more.
    pub(super) fn has_read_all(&self) -> bool {
        self.socket.left == 0
    }

    /// The certificates of the peer, its own first, as far as TLS asked for them.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let tls = self.tls.as_ref();
        tls.and_then(|tls| tls.peer_certificates()).unwrap_or_default().to_vec()
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buf) };
        loop {
            // A handshake has answers. Reading must not wait for room: the peer may wait for the same.
            let _ = send(tls, &mut self.socket);
            match tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            tls.read_tls(&mut self.socket)?;
            if let Err(error) = tls.process_new_packets() {
                // Tells the peer, if there is room.
                let _ = send(tls, &mut self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }
}

impl Write for Stream {
    /// Takes bytes only if nothing of TLS waits, so that it keeps those of one call at most.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(buf) };
        send(tls, &mut self.socket)?;
        let taken = tls.writer().write(buf)?;
        // They are taken. The next call sends those that the system refuses, and reports the error.
        let _ = send(tls, &mut self.socket);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| send(tls, &mut self.socket))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // It is the last thing that happens.
            let _ = send(tls, &mut self.socket);
        }
    }
}

/// Sends what waits in TLS.
fn send(tls: &mut rustls::Connection, socket: &mut Metered) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(socket)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

impl Read for Metered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.left);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = self.tcp.read(&mut buf[..len])?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Metered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tcp.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
