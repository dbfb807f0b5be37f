//! HTTP/3 on a connection, for a session on WebTransport: the handshake, and the streams that are not the session's.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ReadError, StreamId};
use smoq::machine::Input;
use smoq::stream::{Code, Dir};
use smoq_quic::http3::{self, Action, Event as HttpEvent, WebTransport};
use smoq_quic::{FLUSH_TIMEOUT, HTTP_TIMEOUT, log, quic_code, quic_stream_id, stream_id};

use crate::config::SEND_WINDOW;
use crate::connection::{Connection, Settings, Turn};
use crate::error::DialError;
use crate::event::Event;

/// HTTP/3 with the streams that it wants to open.
pub(crate) struct Http {
    pub(crate) web_transport: WebTransport,
    opens: VecDeque<(Dir, Bytes)>,
    /// When a session must have begun.
    pub(crate) until: Instant,
}

impl Http {
    /// The largest datagram of the session if QUIC takes `max` bytes.
    pub(crate) fn without_head(&self, max: usize) -> usize {
        self.web_transport.datagram_head().map_or(0, |head| max.saturating_sub(head.len()))
    }
}

impl Connection {
    /// TLS agreed on HTTP/3.
    pub(crate) fn begin_http(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        let web_transport = match &self.settings {
            Some(Settings::Client(client)) => {
                let authority = match client.authority() {
                    "" => self.quic.remote_address().to_string(),
                    authority => authority.to_owned(),
                };
                WebTransport::client(&authority, client.path().as_str(), client.versions())
            }
            Some(Settings::Server(server) | Settings::Request(server)) => {
                Ok(WebTransport::server(server.versions()))
            }
            None => return,
        };
        match web_transport {
            Ok(web_transport) => {
                let (opens, until) = (VecDeque::new(), now + HTTP_TIMEOUT);
                self.http = Some(Box::new(Http { web_transport, opens, until }));
            }
            Err(error) => self.fail_http(now, error, events),
        }
    }

    fn fail_http(&mut self, now: Instant, error: http3::Error, events: &mut VecDeque<Event>) {
        log::no_session(self.id.serial, self.quic.remote_address(), &error);
        self.fail(now, quic_code(error.code()), &error.to_string(), error.into(), events);
    }

    /// Whether a stream is one of HTTP/3, or not known to be the session's.
    pub(crate) fn is_http(&self, id: StreamId) -> bool {
        let http = self.http.as_ref();
        http.is_some_and(|http| http.web_transport.read_limit(stream_id(id)).is_some())
    }

    /// Reads a stream of HTTP/3 as far as that wants it.
    pub(crate) fn read_http(&mut self, id: StreamId, turn: &mut Turn) {
        let Some(http) = &mut self.http else { return };
        let (http, stream_id) = (&mut http.web_transport, stream_id(id));
        let mut stream = self.quic.recv_stream(id);
        if http.read_limit(stream_id) == Some(0) {
            if let Ok(Some(_)) = stream.received_reset() {
                http.cancelled(stream_id);
            }
            return;
        }
        // The stream was read to its end before, or stopped by us.
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Some(limit) = http.read_limit(stream_id).filter(|limit| *limit > 0) {
            turn.items += 1;
            match chunks.next(limit) {
                Ok(Some(chunk)) => http.data(stream_id, &chunk.bytes),
                Ok(None) => {
                    http.finished(stream_id);
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(_)) => {
                    http.cancelled(stream_id);
                    break;
                }
            }
        }
        // Returns flow-control credit. The result does not matter, because every turn sends packets.
        let _ = chunks.finalize();
    }

    /// Writes what HTTP/3 has for a stream, as far as QUIC takes it.
    pub(crate) fn write_head(&mut self, id: StreamId) {
        // The rest follows when the stream is writable. Other errors are reported separately.
        let _ = self.sending.write_head(id, &mut self.quic.send_stream(id));
    }

    /// Acts on what HTTP/3 has to say.
    pub(crate) fn follow_http(
        &mut self,
        now: Instant,
        heard: Instant,
        events: &mut VecDeque<Event>,
        turn: &mut Turn,
    ) {
        if self.http.as_ref().is_some_and(|http| http.until <= heard) && self.settings.is_some() {
            let code = self.carrier().close_code(smoq::Error::Timeout.session_code());
            self.fail(now, code, "no session in time", DialError::Timeout, events);
        }
        while self.http.is_some() {
            self.act_on_http();
            self.open_http();
            let Some(http) = &mut self.http else { return };
            let Some(event) = http.web_transport.poll_event() else { return };
            turn.items += 1;
            match event {
                HttpEvent::Established { agreed, request } => {
                    self.begin(now, agreed, request, events);
                }
                HttpEvent::Stream { id } => {
                    self.input(now, Input::Opened { id });
                    self.read(now, quic_stream_id(id), turn);
                }
                HttpEvent::Closed { error } => self.lost = Some((error, now + FLUSH_TIMEOUT)),
                HttpEvent::Failed(error) if self.settings.is_some() => {
                    self.fail_http(now, error, events);
                }
                HttpEvent::Failed(error) => {
                    let reason = Bytes::from(error.to_string());
                    self.quic.close(now, quic_code(error.code()), reason);
                    self.lost = Some((smoq::Error::Disconnected, now + FLUSH_TIMEOUT));
                }
                // MoQ has GOAWAY for this.
                _ => {}
            }
        }
    }

    fn act_on_http(&mut self) {
        while let Some(http) = &mut self.http {
            let Some(action) = http.web_transport.poll_action() else { return };
            match action {
                Action::Open { dir, bytes } => http.opens.push_back((dir, bytes)),
                Action::Write { id, bytes } => {
                    let id = quic_stream_id(id);
                    // It fails if the stream is closed already.
                    let _ = self.quic.send_stream(id).set_priority(i32::MAX);
                    self.sending.opened(id, bytes);
                    self.write_head(id);
                }
                Action::Reset { id, code } => {
                    self.sending.done(quic_stream_id(id));
                    let _ = self.quic.send_stream(quic_stream_id(id)).reset(quic_code(code));
                }
                Action::Stop { id, code } => {
                    let _ = self.quic.recv_stream(quic_stream_id(id)).stop(quic_code(code));
                }
                _ => {}
            }
        }
    }

    /// Opens the streams of this side. Credit that is missing is reported by `StreamEvent::Available`.
    fn open_http(&mut self) {
        while let Some(http) = &mut self.http {
            let Some((dir, _)) = http.opens.front() else { return };
            let dir = match dir {
                Dir::Bi => quinn_proto::Dir::Bi,
                Dir::Uni => quinn_proto::Dir::Uni,
            };
            let Some(id) = self.quic.streams().open(dir) else { return };
            let Some((_, bytes)) = http.opens.pop_front() else { return };
            http.web_transport.opened(stream_id(id));
            // A new stream can't have been stopped.
            let _ = self.quic.send_stream(id).set_priority(i32::MAX);
            self.sending.opened(id, bytes);
            self.write_head(id);
        }
    }

    /// Whether the peer ended its half of the stream. Bytes that it wrote before are dropped.
    pub(crate) fn has_ended(&mut self, id: StreamId) -> bool {
        let mut stream = self.quic.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return true };
        let mut read = chunks.next(usize::MAX);
        while let Ok(Some(_)) = read {
            read = chunks.next(usize::MAX);
        }
        let _ = chunks.finalize();
        read != Err(ReadError::Blocked)
    }

    /// Tells the peer on WebTransport that the session is over. Returns the stream that the peer will acknowledge, and end.
    pub(crate) fn close_http(&mut self, code: Code, reason: &str) -> Option<StreamId> {
        let (id, capsule) = self.http.as_mut()?.web_transport.close(code, reason)?;
        self.quic.set_send_window(SEND_WINDOW);
        let id = quic_stream_id(id);
        let mut stream = self.quic.send_stream(id);
        self.sending.write_head(id, &mut stream).ok()?;
        self.sending.opened(id, capsule);
        self.sending.write_head(id, &mut stream).ok()?;
        stream.finish().ok()?;
        self.sending.finished(id);
        Some(id)
    }
}
