//! HTTP/3 on a connection, for a session on WebTransport: the handshake, and the streams that are not the session's.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::ReadError;
use smoq::stream::{Code, Dir};
use smoq::{Agreed, HttpRequest, Instant};
use smoq_quic::http3::{self, Action, Event, WebTransport};
use smoq_quic::{HTTP_TIMEOUT, log, quic_code};

use crate::Error;
use crate::config::SEND_WINDOW;
use crate::drive::{ACCEPT_BI, ACCEPT_UNI, LOST, OPEN_BI, OPEN_UNI};
use crate::streams::{Stream, Streams};

/// Chunks that are read of a stream of HTTP/3 at a time.
const CHUNKS: usize = 16;

impl Streams {
    /// Reads a stream, by its key on the ready list, if it is one of HTTP/3. Otherwise it returns `false`.
    pub(crate) fn read_http(&mut self, key: usize) -> bool {
        let Some(http) = &mut self.http else { return false };
        let Some(slot) = self.slots.get_mut(key - crate::streams::FIRST_STREAM) else {
            return false;
        };
        let Some((stream, waker)) = slot.get() else { return false };
        let id = stream.id;
        if http.read_limit(id).is_none() {
            return false;
        }
        let cx = &mut Context::from_waker(waker);
        if !stream.head.is_empty() {
            // An error is that of the stream, which is found below.
            let _ = stream.poll_write(&mut [], 0, cx);
        }
        for left in (0..CHUNKS).rev() {
            let limit = http.read_limit(id).unwrap_or(0);
            let Some(recv) = stream.recv.as_mut().filter(|_| limit > 0) else { break };
            let Poll::Ready(read) = pin!(recv.read_chunk(limit, true)).poll(cx) else { break };
            match read {
                Ok(Some(chunk)) => http.data(id, &chunk.bytes),
                Ok(None) => {
                    stream.recv = None;
                    http.finished(id);
                }
                Err(ReadError::Reset(_)) => {
                    stream.recv = None;
                    http.cancelled(id);
                }
                Err(_) => break,
            }
            if left == 0 {
                waker.wake_by_ref();
            }
        }
        if http.read_limit(id).is_some() && stream.poll_stopped(cx).is_some() {
            http.cancelled(id);
        }
        self.forget_done(id);
        true
    }

    /// Carries out the actions of HTTP/3 up to the next stream that is to be opened, which is returned. There is none
    /// after the handshake.
    pub(crate) fn act_on_http(&mut self) -> Option<(Dir, Bytes)> {
        while let Some(action) = self.http.as_mut().and_then(|http| http.poll_action()) {
            match action {
                Action::Open { dir, bytes } => return Some((dir, bytes)),
                Action::Write { id, bytes } => {
                    if let Some((stream, waker)) = self.by_id(id) {
                        if let Some(send) = &stream.send {
                            // It fails if the stream was stopped, which is found when it is written.
                            let _ = send.set_priority(i32::MAX);
                        }
                        stream.head = bytes;
                        // `read_http` writes the bytes that are not taken now.
                        let _ = stream.poll_write(&mut [], 0, &mut Context::from_waker(waker));
                    }
                }
                Action::Reset { id, code } => self.reset(id, quic_code(code)),
                Action::Stop { id, code } => {
                    let Some((stream, _)) = self.by_id(id) else { continue };
                    if let Some(mut recv) = stream.recv.take() {
                        // It fails if the peer has ended the stream already.
                        let _ = recv.stop(quic_code(code));
                    }
                    self.forget_done(id);
                }
                _ => {}
            }
        }
        None
    }

    /// The bytes before the payload of a datagram on WebTransport.
    pub(crate) fn datagram_head(&self) -> Option<&[u8]> {
        self.http.as_ref()?.datagram_head()
    }

    /// The largest datagram of the session if QUIC takes `max` bytes.
    pub(crate) fn without_head(&self, max: usize) -> usize {
        match &self.http {
            Some(http) => http.datagram_head().map_or(0, |head| max.saturating_sub(head.len())),
            None => max,
        }
    }

    /// Tells the peer on WebTransport that the session is over, and resolves when it knows.
    pub(crate) async fn close_http(&mut self, code: Code, reason: &str) {
        let closed = self.http.as_mut().and_then(|http| http.close(code, reason));
        let Some((id, capsule)) = closed else { return };
        self.connection.set_send_window(SEND_WINDOW);
        let Some((stream, _)) = self.by_id(id) else { return };
        let head = std::mem::take(&mut stream.head);
        let (Some(mut send), recv) = (stream.send.take(), stream.recv.take()) else { return };
        let written = send.write_all_chunks(&mut [head, capsule]).await;
        if written.is_err() || send.finish().is_err() {
            return;
        }
        // An error says that the peer has closed the connection.
        let _ = send.stopped().await;
        // QUIC acknowledges what the peer has not read yet. When it has, it ends its half as well
        // (draft-ietf-webtrans-http3, Session Termination).
        let Some(mut recv) = recv else { return };
        while let Ok(Some(_)) = recv.read_chunk(usize::MAX, true).await {}
    }
}

/// Runs HTTP/3 until the session begins. Streams of the session that came sooner are ready.
pub(crate) async fn handshake(
    connection: &quinn::Connection,
    http: WebTransport,
    runtime: &Arc<dyn quinn::Runtime>,
) -> Result<(Streams, Agreed, Option<HttpRequest>), Error> {
    let mut handshake = Handshake {
        connection,
        streams: Streams::new(connection.clone(), Some(Box::new(http))),
        accept_uni: pin!(connection.accept_uni()),
        accept_bi: pin!(connection.accept_bi()),
        open_uni: pin!(connection.open_uni()),
        open_bi: pin!(connection.open_bi()),
        lost: pin!(connection.closed()),
        opens: Vec::new(),
    };
    for key in [ACCEPT_UNI, ACCEPT_BI, LOST] {
        handshake.streams.ready.waker(key as u64).wake_by_ref();
    }
    let mut timer = runtime.new_timer(runtime.now() + HTTP_TIMEOUT);
    let established = poll_fn(|cx| match handshake.poll(cx) {
        Poll::Pending => timer.as_mut().poll(cx).map(|()| Err(Error::Timeout)),
        ready => ready,
    })
    .await;
    let streams = handshake.streams;
    match established {
        Ok((agreed, request)) => Ok((streams, agreed, request)),
        Err(error) => {
            let (id, remote) = (connection.stable_id() as u64, connection.remote_address());
            log::no_session(id, remote, &error);
            if let Error::WebTransport(error) = &error {
                connection.close(quic_code(error.code()), error.to_string().as_bytes());
            } else {
                streams.close(smoq::Error::Timeout.session_code(), b"no session in time");
            }
            Err(error)
        }
    }
}

/// The state of the handshake. `'p` is the lifetime of the pinned futures, `'c` that of the connection they borrow.
struct Handshake<'p, 'c> {
    connection: &'c quinn::Connection,
    streams: Streams,
    accept_uni: Pin<&'p mut quinn::AcceptUni<'c>>,
    accept_bi: Pin<&'p mut quinn::AcceptBi<'c>>,
    open_uni: Pin<&'p mut quinn::OpenUni<'c>>,
    open_bi: Pin<&'p mut quinn::OpenBi<'c>>,
    lost: Pin<&'p mut (dyn Future<Output = quinn::ConnectionError> + Send + 'p)>,
    /// Streams that wait to be opened: at most one of each direction.
    opens: Vec<(Dir, Bytes)>,
}

type Established = Result<(Agreed, Option<HttpRequest>), Error>;

impl Handshake<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Established> {
        loop {
            self.open();
            let http = self.streams.http.as_mut();
            match http.and_then(|http| http.poll_event()) {
                Some(Event::Established { agreed, request }) => {
                    return Poll::Ready(Ok((agreed, request)));
                }
                Some(Event::Failed(error)) => return Poll::Ready(Err(error.into())),
                Some(Event::Closed { .. }) => {
                    return Poll::Ready(Err(http3::Error::Refused(0).into()));
                }
                Some(_) => continue,
                None => {}
            }
            let Some(key) = self.streams.ready.pop() else {
                match self.streams.ready.poll_ready(cx) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            };
            match key as usize {
                key @ (ACCEPT_UNI | ACCEPT_BI) => self.accept(key),
                LOST => {
                    let waker = self.streams.ready.waker(LOST as u64);
                    let cx = &mut Context::from_waker(&waker);
                    if let Poll::Ready(error) = self.lost.as_mut().poll(cx) {
                        return Poll::Ready(Err(Error::Connection(error)));
                    }
                }
                // They are polled in any case.
                OPEN_UNI | OPEN_BI => {}
                key => {
                    self.streams.read_http(key);
                }
            }
        }
    }

    fn accept(&mut self, key: usize) {
        let waker = self.streams.ready.waker(key as u64);
        let cx = &mut Context::from_waker(&waker);
        // An error here is the end of the connection, which `lost` reports.
        let stream = if key == ACCEPT_UNI {
            let Poll::Ready(Ok(recv)) = self.accept_uni.as_mut().poll(cx) else { return };
            self.accept_uni.set(self.connection.accept_uni());
            Stream::incoming_uni(recv)
        } else {
            let Poll::Ready(Ok(halves)) = self.accept_bi.as_mut().poll(cx) else { return };
            self.accept_bi.set(self.connection.accept_bi());
            Stream::incoming_bi(halves)
        };
        waker.wake_by_ref();
        self.insert(stream);
    }

    fn insert(&mut self, stream: Stream) {
        let id = self.streams.insert(stream, Instant::ZERO);
        if let Some(http) = &mut self.streams.http {
            http.opened(id);
        }
    }

    /// Opens the streams of this side.
    fn open(&mut self) {
        while let Some(open) = self.streams.act_on_http() {
            self.opens.push(open);
        }
        while let Some((dir, bytes)) = self.opens.pop() {
            let key = if dir == Dir::Uni { OPEN_UNI } else { OPEN_BI };
            let waker = self.streams.ready.waker(key as u64);
            let cx = &mut Context::from_waker(&waker);
            let stream = match dir {
                Dir::Uni => self.open_uni.as_mut().poll(cx).map_ok(Stream::uni),
                Dir::Bi => self.open_bi.as_mut().poll(cx).map_ok(Stream::bi),
            };
            // There is no credit, or the connection is lost, which `lost` reports.
            let Poll::Ready(Ok(stream)) = stream else { return self.opens.push((dir, bytes)) };
            if let Some(send) = &stream.send {
                // A new stream can't have been stopped.
                let _ = send.set_priority(i32::MAX);
            }
            self.insert(stream.with_head(bytes));
        }
    }
}
