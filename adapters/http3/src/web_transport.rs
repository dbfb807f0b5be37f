//! The state machine of one connection.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{Agreed, HttpRequest, Versions};

use crate::codes;
use crate::connect_stream::{self, ConnectStream, Said};
use crate::control_stream::{self, ControlStream};
use crate::error::{Error, Violation};
use crate::request::{self, Refusal};
use crate::settings;
use crate::stream_head::{self, Parsed, StreamHead};
use crate::varint;

/// The largest field section that a peer may send, as RFC 9114, section 4.2.2 counts it: 16 KiB.
pub const HEADER_BYTES: u64 = 16 << 10;
/// Streams that may arrive before the session begins: 64. Others are refused (WebTransport over HTTP/3, section 4.6).
pub const EARLY_STREAMS: usize = 64;
/// How much of a stream of HTTP/3 is read at a time.
const READ: usize = 4 << 10;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session begins.
    Established {
        /// The version that the lists of protocols agreed on.
        agreed: Agreed,
        /// At a server: the client's request.
        request: Option<HttpRequest>,
    },
    /// A stream that the peer opened belongs to the session. All that is read of it from now on is the session's.
    Stream {
        /// The stream.
        id: StreamId,
    },
    /// The peer ended the session. The adapter closes the connection.
    Closed {
        /// The reason, as for a connection that was lost.
        error: smoq::Error,
    },
    /// The peer will end the session, or the connection, soon. MoQ has GOAWAY for this, so an adapter may ignore it.
    Draining,
    /// The connection can't carry a session. The adapter closes it with [`Error::code`].
    Failed(Error),
}

/// Something for the adapter to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Open a stream, tell its id by [`WebTransport::opened`], and write `bytes` before anything else.
    Open {
        /// Its direction.
        dir: Dir,
        /// The bytes to write.
        bytes: Bytes,
    },
    /// Write `bytes`, all of them, and keep the stream open.
    Write {
        /// The stream.
        id: StreamId,
        /// The bytes to write.
        bytes: Bytes,
    },
    /// Reset the sending half with this code, which is in QUIC's form already.
    Reset {
        /// The stream.
        id: StreamId,
        /// The code.
        code: Code,
    },
    /// Stop the receiving half with this code, which is in QUIC's form already.
    Stop {
        /// The stream.
        id: StreamId,
        /// The code.
        code: Code,
    },
}

/// HTTP/3 and one WebTransport session on a QUIC connection.
///
/// The adapter passes it the streams that the peer opens, and what it reads of them, until an [`Event::Stream`] says
/// that a stream is the session's. After each input it takes all [actions](Self::poll_action) and
/// [events](Self::poll_event). After an [`Event::Failed`] or [`Event::Closed`] no input has an effect.
#[derive(Debug)]
pub struct WebTransport {
    side: Side,
    versions: Versions,
    phase: Phase,
    /// The streams that are not the session's, or not known to be.
    streams: BTreeMap<StreamId, StreamKind>,
    /// The number of streams in it that wait for the session.
    early: usize,
    /// Which of the streams that a peer opens only once were opened: control, QPACK encoder, QPACK decoder.
    unique: [bool; 3],
    settings: Option<settings::Settings>,
    /// The stream of the request.
    connect: Option<StreamId>,
    /// A client's request until it is sent, or what a server accepts until the client's SETTINGS arrive.
    request: Request,
    /// The heads of streams that this side opens.
    uni_head: Bytes,
    bi_head: Bytes,
    /// The head of datagrams: the quarter stream id.
    datagram_head: Vec<u8>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Open,
    Over,
}

#[derive(Debug)]
enum Request {
    None,
    Ours(Bytes),
    Theirs(HttpRequest, request::Accepted),
}

/// The purpose of a stream.
#[derive(Debug)]
enum StreamKind {
    /// The peer opened it, and has not told what it is.
    New(StreamHead),
    /// It is a stream of the session with this id, which waits for the session to begin.
    Early(u64),
    /// The control stream of this side.
    Ours,
    /// The control stream of the peer.
    Control(ControlStream),
    /// A QPACK stream, which has nothing to say, because there is no dynamic table.
    Qpack,
    /// The request.
    Connect(ConnectStream),
}

impl WebTransport {
    /// A client that will request `path` of `authority` (host and port) and offer `versions`.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if authority and path do not form a URL.
    pub fn client(authority: &str, path: &str, versions: &Versions) -> Result<Self, Error> {
        let request = Request::Ours(request::request(authority, path, versions)?);
        Ok(Self::new(Side::Client, versions, request))
    }

    /// A server that chooses among `versions`, the preferred one first.
    pub fn server(versions: &Versions) -> Self {
        Self::new(Side::Server, versions, Request::None)
    }

    fn new(side: Side, versions: &Versions, request: Request) -> Self {
        let control = settings::control_stream(HEADER_BYTES);
        let open = Action::Open { dir: Dir::Uni, bytes: control.into() };
        Self {
            side,
            versions: versions.clone(),
            phase: Phase::Waiting,
            streams: BTreeMap::new(),
            early: 0,
            unique: [false; 3],
            settings: None,
            connect: None,
            request,
            uni_head: Bytes::new(),
            bi_head: Bytes::new(),
            datagram_head: Vec::new(),
            actions: VecDeque::from([open]),
            events: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The stream of the request, whose id is that of the session. Its bytes should come first.
    pub fn connect_stream(&self) -> Option<StreamId> {
        self.connect
    }

    /// The first bytes of the session's streams that this side opens.
    pub fn stream_head(&self, dir: Dir) -> &Bytes {
        match dir {
            Dir::Uni => &self.uni_head,
            Dir::Bi => &self.bi_head,
        }
    }

    /// The first bytes of the session's datagrams. `None`: the peer takes no datagrams.
    pub fn datagram_head(&self) -> Option<&[u8]> {
        let has_datagrams = self.settings.is_some_and(|settings| settings.has_datagrams);
        has_datagrams.then_some(&*self.datagram_head)
    }

    /// The peer opened a stream, or this side did because of an [`Action::Open`].
    pub fn opened(&mut self, id: StreamId) {
        let kind = match id.dir() {
            _ if id.initiator() != self.side => StreamKind::New(StreamHead::default()),
            Dir::Uni => StreamKind::Ours,
            Dir::Bi => {
                self.connect = Some(id);
                StreamKind::Connect(ConnectStream::default())
            }
        };
        self.streams.insert(id, kind);
    }

    /// How much may be read of a stream now. 0 for one that waits for the session; `None` for one that is not
    /// HTTP/3's, so the session reads it.
    pub fn read_limit(&self, id: StreamId) -> Option<usize> {
        Some(match self.streams.get(&id)? {
            StreamKind::New(head) => head.missing(id.dir()),
            StreamKind::Early(_) | StreamKind::Ours => 0,
            StreamKind::Control(_) | StreamKind::Qpack | StreamKind::Connect(_) => READ,
        })
    }

    /// Bytes were read of a stream, no more than [`read_limit`](Self::read_limit).
    pub fn data(&mut self, id: StreamId, bytes: &[u8]) {
        if self.phase != Phase::Over {
            let read = self.read(id, bytes);
            self.check(read);
        }
    }

    fn read(&mut self, id: StreamId, mut bytes: &[u8]) -> Result<(), Error> {
        let mut is_settings = false;
        match self.streams.get_mut(&id) {
            Some(StreamKind::New(head)) => {
                head.push(&bytes[..bytes.len().min(head.missing(id.dir()))]);
                let head = *head;
                return self.parse_head(id, &head);
            }
            Some(StreamKind::Control(stream)) => {
                while let Some(said) = stream.next(&mut bytes)? {
                    match said {
                        control_stream::Said::Settings(settings) => {
                            self.settings = Some(settings);
                            is_settings = true;
                        }
                        control_stream::Said::Goaway => self.events.push_back(Event::Draining),
                    }
                }
            }
            Some(StreamKind::Connect(_)) => return self.read_connect(id, bytes),
            Some(StreamKind::Early(_) | StreamKind::Ours | StreamKind::Qpack) | None => {}
        }
        if is_settings { self.settled() } else { Ok(()) }
    }

    /// The head of a stream may be complete.
    fn parse_head(&mut self, id: StreamId, head: &StreamHead) -> Result<(), Error> {
        match head.parse(id.dir()) {
            Parsed::Incomplete(_) => Ok(()),
            Parsed::Session(session) => self.session_stream(id, session),
            Parsed::Other { kind, at } => match id.dir() {
                Dir::Uni => self.other_uni(id, kind, &head.bytes()[at..]),
                Dir::Bi => self.other_bi(id, head.bytes()),
            },
        }
    }

    fn session_stream(&mut self, id: StreamId, session: u64) -> Result<(), Error> {
        // The id of a session is that of a bidirectional stream of the client (WebTransport over HTTP/3, section 4).
        if session & 3 != 0 {
            return Err(Violation(codes::ID, "the id of a session is not that of a request").into());
        }
        let is_ours = self.connect.is_some_and(|connect| connect.as_u64() == session);
        if self.phase == Phase::Open && is_ours {
            self.streams.remove(&id);
            self.events.push_back(Event::Stream { id });
        } else if self.phase == Phase::Open {
            self.refuse(id, codes::SESSION_GONE);
        } else if self.early < EARLY_STREAMS {
            self.early += 1;
            self.streams.insert(id, StreamKind::Early(session));
        } else {
            self.refuse(id, codes::BUFFERED_STREAM_REJECTED);
        }
        Ok(())
    }

    /// RFC 9114, section 6.2.
    fn other_uni(&mut self, id: StreamId, kind: u64, rest: &[u8]) -> Result<(), Error> {
        let place = match (kind, self.side) {
            (0x0, _) => 0,
            (0x1, Side::Server) => {
                return Err(Violation(codes::STREAM_CREATION, "a client pushed").into());
            }
            (0x1, Side::Client) => {
                return Err(Violation(codes::ID, "a push was not allowed").into());
            }
            // RFC 9204, section 4.2.
            (0x2, _) => 1,
            (0x3, _) => 2,
            _ => {
                self.refuse(id, codes::STREAM_CREATION);
                return Ok(());
            }
        };
        if std::mem::replace(&mut self.unique[place], true) {
            let reason = "a control or QPACK stream was opened twice";
            return Err(Violation(codes::STREAM_CREATION, reason).into());
        }
        let kind = if place == 0 {
            StreamKind::Control(ControlStream::default())
        } else {
            StreamKind::Qpack
        };
        self.streams.insert(id, kind);
        self.read(id, rest)
    }

    /// A stream that is not the session's: a request.
    fn other_bi(&mut self, id: StreamId, bytes: &[u8]) -> Result<(), Error> {
        if self.side == Side::Client {
            let reason = "a server opened a bidirectional stream";
            return Err(Violation(codes::STREAM_CREATION, reason).into());
        }
        if self.connect.is_some() {
            // A second session (WebTransport over HTTP/3, section 5.2), or another request.
            self.refuse(id, codes::REQUEST_REJECTED);
            return Ok(());
        }
        self.connect = Some(id);
        self.streams.insert(id, StreamKind::Connect(ConnectStream::default()));
        self.read(id, bytes)
    }

    fn read_connect(&mut self, id: StreamId, mut bytes: &[u8]) -> Result<(), Error> {
        while self.phase != Phase::Over {
            let Some(StreamKind::Connect(stream)) = self.streams.get_mut(&id) else { break };
            match stream.next(&mut bytes, HEADER_BYTES)? {
                None => break,
                Some(Said::Close(code)) => self.end(smoq::Error::from_session_code(code)),
                Some(Said::Drain) => self.events.push_back(Event::Draining),
                // Trailers.
                Some(Said::Headers(_) | Said::TooLarge) if self.phase == Phase::Open => {}
                Some(Said::TooLarge) if self.side == Side::Client => {
                    return Err(
                        Violation(codes::EXCESSIVE_LOAD, "the response is too large").into()
                    );
                }
                Some(Said::TooLarge) => self.refuse_request(id, codes::EXCESSIVE_LOAD),
                Some(Said::Headers(headers)) if self.side == Side::Client => {
                    if let Some(agreed) = request::read_response(&headers, &self.versions)? {
                        self.establish(agreed, None);
                    }
                }
                Some(Said::Headers(headers)) => self.requested(id, &headers)?,
            }
        }
        Ok(())
    }

    /// A server has the client's request.
    fn requested(&mut self, id: StreamId, headers: &[u8]) -> Result<(), Error> {
        match request::read_request(headers, &self.versions) {
            Ok((request, accepted)) => self.request = Request::Theirs(request, accepted),
            Err(Refusal::Request(code)) => self.refuse_request(id, code),
            Err(Refusal::Connection(error)) => return Err(error),
        }
        self.respond();
        Ok(())
    }

    fn refuse_request(&mut self, id: StreamId, code: Code) {
        self.connect = None;
        self.refuse(id, code);
    }

    /// The peer's SETTINGS are known.
    fn settled(&mut self) -> Result<(), Error> {
        if self.side == Side::Server {
            self.respond();
            return Ok(());
        }
        if !self.settings.is_some_and(|settings| settings.has_webtransport) {
            return Err(Error::Unsupported);
        }
        if let Request::Ours(bytes) = std::mem::replace(&mut self.request, Request::None) {
            self.actions.push_back(Action::Open { dir: Dir::Bi, bytes });
        }
        Ok(())
    }

    /// Accepts the request when the client's SETTINGS have arrived (WebTransport over HTTP/3, section 3.1).
    fn respond(&mut self) {
        let (Some(_), Some(id)) = (self.settings, self.connect) else { return };
        match std::mem::replace(&mut self.request, Request::None) {
            Request::Theirs(request, accepted) => {
                self.actions.push_back(Action::Write { id, bytes: accepted.response() });
                self.establish(accepted.agreed, Some(request));
            }
            other => self.request = other,
        }
    }

    fn establish(&mut self, agreed: Agreed, request: Option<HttpRequest>) {
        let Some(session) = self.connect else { return };
        self.phase = Phase::Open;
        self.uni_head = stream_head::encode(Dir::Uni, session).into();
        self.bi_head = stream_head::encode(Dir::Bi, session).into();
        varint::encode(session.as_u64() / 4, &mut self.datagram_head);
        self.events.push_back(Event::Established { agreed, request });
        let early = self.streams.iter().filter_map(|(id, kind)| match kind {
            StreamKind::Early(session) => Some((*id, *session)),
            _ => None,
        });
        for (id, theirs) in early.collect::<Vec<_>>() {
            self.forget(id);
            if theirs == session.as_u64() {
                self.events.push_back(Event::Stream { id });
            } else {
                self.refuse(id, codes::SESSION_GONE);
            }
        }
    }

    /// The peer finished a stream, of which everything was read.
    pub fn finished(&mut self, id: StreamId) {
        let Some(kind) = self.streams.get(&id).filter(|_| self.phase != Phase::Over) else {
            return;
        };
        let finished = match kind {
            StreamKind::Control(_) | StreamKind::Qpack => {
                Err(Violation(codes::CLOSED_CRITICAL_STREAM, "a critical stream was finished")
                    .into())
            }
            StreamKind::Connect(stream) if self.phase == Phase::Open => {
                // It ends the session without an error (WebTransport over HTTP/3, section 6).
                let is_clean = stream.is_between();
                let error =
                    if is_clean { smoq::Error::SessionClosed } else { smoq::Error::Disconnected };
                self.end(error);
                Ok(())
            }
            StreamKind::Connect(_) => self.request_gone(id, codes::REQUEST_INCOMPLETE),
            StreamKind::New(_) | StreamKind::Early(_) | StreamKind::Ours => {
                self.refuse(id, codes::REQUEST_INCOMPLETE);
                Ok(())
            }
        };
        self.check(finished);
    }

    /// The peer reset a stream, or sent STOP_SENDING.
    pub fn cancelled(&mut self, id: StreamId) {
        let Some(kind) = self.streams.get(&id).filter(|_| self.phase != Phase::Over) else {
            return;
        };
        let cancelled = match kind {
            StreamKind::Control(_) | StreamKind::Qpack | StreamKind::Ours => {
                Err(Violation(codes::CLOSED_CRITICAL_STREAM, "a critical stream was reset").into())
            }
            StreamKind::Connect(_) if self.phase == Phase::Open => {
                self.end(smoq::Error::Disconnected);
                Ok(())
            }
            StreamKind::Connect(_) => self.request_gone(id, codes::REQUEST_CANCELLED),
            StreamKind::New(_) | StreamKind::Early(_) => {
                self.refuse(id, codes::REQUEST_CANCELLED);
                Ok(())
            }
        };
        self.check(cancelled);
    }

    /// The request, or the response, ended before it was complete.
    fn request_gone(&mut self, id: StreamId, code: Code) -> Result<(), Error> {
        if self.side == Side::Client {
            return Err(Error::Refused(0));
        }
        self.request = Request::None;
        self.refuse_request(id, code);
        Ok(())
    }

    /// The payload of a datagram for the session. Others are dropped, as are those that overtake the session.
    pub fn datagram(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.phase == Phase::Over {
            return None;
        }
        // RFC 9297, section 2.1.
        let Some((quarter, size)) = varint::decode(&bytes).filter(|(id, _)| *id < 1 << 60) else {
            let reason = "a datagram has no id of a stream";
            self.check(Err(Violation(codes::DATAGRAM, reason).into()));
            return None;
        };
        let is_ours = self.connect.is_some_and(|connect| connect.as_u64() == quarter * 4);
        (is_ours && self.phase == Phase::Open).then(|| bytes.slice(size..))
    }

    /// Ends the session. Returns what to write on the stream of the request before that is finished; `None` if
    /// there is no session. The peer should end its half of that stream before the connection is closed.
    ///
    /// The code is clamped to 32 bits, and the reason to 1,024 bytes.
    pub fn close(&mut self, code: Code, reason: &str) -> Option<(StreamId, Bytes)> {
        let id = self.connect.filter(|_| self.phase == Phase::Open)?;
        self.phase = Phase::Over;
        Some((id, connect_stream::close(code, reason).into()))
    }

    fn end(&mut self, error: smoq::Error) {
        self.phase = Phase::Over;
        self.events.push_back(Event::Closed { error });
    }

    fn check(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.phase = Phase::Over;
            self.events.push_back(Event::Failed(error));
        }
    }

    fn refuse(&mut self, id: StreamId, code: Code) {
        self.forget(id);
        self.actions.push_back(Action::Stop { id, code });
        if id.dir() == Dir::Bi {
            self.actions.push_back(Action::Reset { id, code });
        }
    }

    fn forget(&mut self, id: StreamId) {
        if let Some(StreamKind::Early(_)) = self.streams.remove(&id) {
            self.early -= 1;
        }
    }
}
