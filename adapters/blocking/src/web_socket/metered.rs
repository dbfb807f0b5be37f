use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

/// A socket that gives a number of bytes, and then says that there are none for now. The WebSocket reads until there
/// is a message or no byte, which a peer could make last.
pub(super) struct Metered {
    pub(super) stream: TcpStream,
    pub(super) left: usize,
}

impl Read for Metered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.left);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = self.stream.read(&mut buf[..len])?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Metered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
