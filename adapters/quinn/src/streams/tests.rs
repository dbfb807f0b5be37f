//! Against a bare quinn, on one connection over loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use smoq::Versions;
use smoq_quic::Identity;

use super::*;
use crate::config;
use crate::stops::AGE;

/// Our streams of a connection, and the peer's end of it.
struct Pair {
    streams: Streams,
    peer: quinn::Connection,
    _endpoints: [quinn::Endpoint; 2],
}

fn with_pair<F: Future<Output = ()>>(test: impl FnOnce(Pair) -> F) {
    let runtime = runtime();
    let pair = runtime.block_on(Pair::new(config::transport()));
    runtime.block_on(bounded(test(pair)));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), test).await.expect("it hangs");
}

impl Pair {
    async fn new(transport: quinn::TransportConfig) -> Self {
        let (versions, transport) = (Versions::default(), Arc::new(transport));
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let mut server = config::server(&identity, &versions).unwrap();
        server.transport_config(Arc::clone(&transport));
        let mut client = config::client(&identity.fingerprint().into(), &versions).unwrap();
        client.transport_config(transport);
        let (listening, _) = crate::listen((Ipv4Addr::LOCALHOST, 0).into(), server).unwrap();
        let address = listening.local_addr().unwrap();
        let dialing =
            tokio::spawn(async move { crate::dial("localhost", [address], client).await.unwrap() });
        let peer = listening.accept().await.unwrap().await.unwrap();
        let (endpoint, connection) = dialing.await.unwrap();
        Self { streams: Streams::new(connection, None), peer, _endpoints: [endpoint, listening] }
    }

    /// Lets both ends work until so many STOP_SENDING frames have come.
    async fn until_stopped(&self, frames: u64) {
        while self.streams.connection.stats().frame_rx.stop_sending < frames {
            tokio::task::yield_now().await;
        }
    }

    /// Opens a request that the peer has received.
    async fn request(&mut self, now: Instant) -> (StreamId, SendStream, RecvStream) {
        let (mut send, recv) = self.streams.connection.open_bi().await.unwrap();
        send.write_all(b"?").await.unwrap();
        let id = self.streams.insert(Stream::bi((send, recv)), now);
        let (send, recv) = self.peer.accept_bi().await.unwrap();
        (id, send, recv)
    }

    /// The inputs from all streams on the ready list.
    fn stopped(&mut self) -> Vec<(StreamId, u64)> {
        let mut stopped = Vec::new();
        while let Some(key) = self.streams.ready.pop() {
            let Some((stream, waker)) = self.streams.by_key(key as usize) else { continue };
            let code = stream.poll_stopped(&mut Context::from_waker(&waker.clone()));
            stopped.extend(code.map(|code| (stream.id, code.into_inner())));
        }
        stopped
    }
}

/// quinn calls such a stream finished; then it would stay, and all that are finished after it.
#[test]
fn a_stream_that_was_stopped_before_its_end_is_forgotten() {
    with_pair(|mut pair| async move {
        for n in 1..=3 {
            let mut send = pair.streams.connection.open_uni().await.unwrap();
            send.write_all(b"group").await.unwrap();
            let id = pair.streams.insert(Stream::uni(send), Instant::ZERO);
            let mut recv = pair.peer.accept_uni().await.unwrap();
            recv.stop(7u32.into()).unwrap();
            pair.until_stopped(n).await;
            if n == 3 {
                // Nothing can be written, so that quinn does not say it by itself.
                pair.streams.connection.set_send_window(0);
            }
            assert_eq!(pair.streams.finish(id), Some(7u32.into()));
            assert!(pair.streams.finished.is_empty() && pair.streams.by_id.is_empty());
        }
    });
}

#[test]
fn an_end_that_was_acknowledged_is_forgotten() {
    with_pair(|mut pair| async move {
        for _ in 0..3 {
            let send = pair.streams.connection.open_uni().await.unwrap();
            let id = pair.streams.insert(Stream::uni(send), Instant::ZERO);
            assert_eq!(pair.streams.finish(id), None);
            let mut recv = pair.peer.accept_uni().await.unwrap();
            assert_eq!(recv.read_to_end(0).await.unwrap(), b"");
            assert_eq!(pair.streams.finished.len(), 1, "those before it are gone");
            while pair.streams.finished[0].priority().is_ok() {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn an_end_that_is_never_acknowledged_keeps_no_others() {
    let mut finished = VecDeque::from([0]);
    for stream in 1..1_000 {
        forget_some(&mut finished, |stream| *stream > 0);
        finished.push_back(stream);
        assert!(finished.contains(&0) && finished.len() <= 3, "{finished:?}");
    }
}

/// A request that is cancelled by STOP_SENDING alone is noticed: when it gets old enough to be watched, or at
/// once if it is watched already.
#[test]
fn a_lone_stop_sending_is_noticed() {
    with_pair(|mut pair| async move {
        let (young, _send, mut recv) = pair.request(Instant::ZERO).await;
        recv.stop(5u32.into()).unwrap();
        pair.until_stopped(1).await;
        assert_eq!(pair.stopped(), []);
        assert_eq!(pair.streams.next_look(), Some(Instant::ZERO + AGE));
        pair.streams.look_for_stops(Instant::ZERO + AGE);
        assert_eq!(pair.stopped(), [(young, 5)]);

        let (old, _send, mut recv) = pair.request(Instant::ZERO).await;
        pair.streams.look_for_stops(Instant::ZERO + AGE);
        assert_eq!(pair.stopped(), []);
        recv.stop(6u32.into()).unwrap();
        poll_fn(|cx| pair.streams.ready.poll_ready(cx)).await;
        assert_eq!(pair.stopped(), [(old, 6)]);
        assert_eq!(pair.streams.next_look(), None);
    });
}

/// The memory that quinn keeps for streams that were watched and then reset is bounded, and STOP_SENDING is
/// still noticed.
#[test]
fn a_connection_that_left_many_records_watches_no_more() {
    with_pair(|mut pair| async move {
        let mut now = Instant::ZERO;
        let mut left = 0;
        while pair.streams.stops.may_watch() {
            let (id, _send, mut recv) = pair.request(now).await;
            now = now + AGE;
            pair.streams.look_for_stops(now);
            assert_eq!(pair.stopped(), []);
            pair.streams.reset(id, 1u32.into());
            // So that the peer has no reason to stop it.
            recv.read_to_end(1).await.unwrap_err();
            left += 1;
            assert!(left < 1_000);
        }
        let frames = pair.streams.connection.stats().frame_rx.stop_sending;
        let (quiet, _quiet_send, _quiet_recv) = pair.request(now).await;
        let (stopped, _send, mut recv) = pair.request(now).await;
        now = now + AGE;
        pair.streams.look_for_stops(now);
        assert_eq!(pair.stopped(), []);
        recv.stop(8u32.into()).unwrap();
        pair.until_stopped(frames + 1).await;
        now = now + AGE;
        pair.streams.look_for_stops(now);
        assert_eq!(pair.stopped(), [(stopped, 8)]);
        for id in [quiet, stopped] {
            pair.streams.reset(id, 1u32.into());
        }
        assert_eq!(pair.streams.next_look(), None, "nobody is left to look at");
    });
}

#[test]
fn the_peer_is_allowed_more_streams_as_it_uses_them() {
    with_pair(|mut pair| async move {
        let most = config::STREAMS as usize;
        let mut kept = Vec::new();
        for n in 0..most {
            let mut send = pair.peer.open_uni().await.unwrap();
            send.write_all(b"g").await.unwrap();
            kept.push(send);
            let recv = pair.streams.connection.accept_uni().await.unwrap();
            pair.streams.insert(Stream::incoming_uni(recv), Instant::ZERO);
            assert_eq!(pair.streams.by_id.len(), n + 1);
        }
        let mut one_more = pin!(pair.peer.open_uni());
        let waits = poll_fn(|cx| Poll::Ready(one_more.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "that is the limit");
    });
}

/// How a half ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Finished,
    Reset,
    /// By the side that reads it.
    Stopped,
}
use End::{Finished, Reset, Stopped};

/// A stream: the side that opened it, and how our two halves end.
#[derive(Clone, Copy, Debug)]
struct Kind {
    is_ours: bool,
    writing: Option<End>,
    reading: Option<End>,
}

impl Kind {
    fn all() -> impl Iterator<Item = Self> {
        let ends = [Some(Finished), Some(Reset), Some(Stopped)];
        let request = move |is_ours| {
            let halves = ends.into_iter().flat_map(move |end| ends.map(|other| (end, other)));
            halves.map(move |(writing, reading)| Self { is_ours, writing, reading })
        };
        let group_out = ends.map(|writing| Self { is_ours: true, writing, reading: None });
        let group_in = ends.map(|reading| Self { is_ours: false, writing: None, reading });
        request(true).chain(request(false)).chain(group_out).chain(group_in)
    }
}

impl Pair {
    /// A stream from its beginning to its end.
    async fn live_and_die(&mut self, kind: Kind, now: Instant) {
        let Kind { is_ours, writing, reading } = kind;
        let connection = &self.streams.connection;
        let (opener, other) =
            if is_ours { (connection, &self.peer) } else { (&self.peer, connection) };
        let (opened, accepted) = if writing.is_some() && reading.is_some() {
            let (mut send, recv) = opener.open_bi().await.unwrap();
            send.write_all(b"!").await.unwrap();
            let (there, back) = other.accept_bi().await.unwrap();
            ((Some(send), Some(recv)), (Some(there), Some(back)))
        } else {
            let mut send = opener.open_uni().await.unwrap();
            send.write_all(b"!").await.unwrap();
            ((Some(send), None), (None, Some(other.accept_uni().await.unwrap())))
        };
        let (ours, mut peers) = if is_ours { (opened, accepted) } else { (accepted, opened) };
        let id = ours.0.as_ref().map(SendStream::id).or(ours.1.as_ref().map(RecvStream::id));
        let stream = Stream { is_peers: !is_ours, ..Stream::new(id.unwrap(), ours.0, ours.1) };
        let id = self.streams.insert(stream, now);

        if let (Some(end), Some(mut send)) = (reading, peers.0.take()) {
            let (stream, _) = self.streams.by_id(id).unwrap();
            let mut recv = stream.recv.take().unwrap();
            match end {
                Finished => {
                    send.finish().unwrap();
                    assert!(recv.read_to_end(1).await.is_ok());
                }
                Reset => {
                    send.reset(9u32.into()).unwrap();
                    assert!(recv.read_to_end(1).await.is_err());
                }
                Stopped => {
                    recv.stop(9u32.into()).unwrap();
                    assert_eq!(send.stopped().await, Ok(Some(9u32.into())));
                    send.reset(9u32.into()).unwrap();
                }
            }
            self.streams.forget_done(id);
        }
        if let (Some(end), Some(mut recv)) = (writing, peers.1.take()) {
            match end {
                Finished => {
                    assert_eq!(self.streams.finish(id), None);
                    assert!(recv.read_to_end(1).await.is_ok());
                }
                Reset => {
                    self.streams.reset(id, 9u32.into());
                    assert!(recv.read_to_end(1).await.is_err());
                }
                Stopped => {
                    recv.stop(9u32.into()).unwrap();
                    while let Some((stream, waker)) = self.streams.by_id(id) {
                        stream.is_doubtful = true;
                        let cx = &mut Context::from_waker(waker);
                        match stream.poll_stopped(cx) {
                            Some(code) => self.streams.reset(id, code),
                            None => tokio::task::yield_now().await,
                        }
                    }
                }
            }
        }
        assert!(self.streams.by_id.is_empty(), "{kind:?}");
        while self.streams.ready.pop().is_some() {}
        self.streams.next_look();
    }
}

/// From the thirtieth stream on, memory stays the same over three hundred, at both ends together.
#[test]
fn streams_leave_nothing_however_they_end() {
    const TIMES: usize = 30;
    // quinn keeps what it allocates for a place for the next stream there: all places are used early.
    let small = || {
        let mut transport = config::transport();
        transport
            .max_concurrent_bidi_streams(16_u32.into())
            .max_concurrent_uni_streams(16_u32.into());
        transport
    };
    for kind in Kind::all() {
        let runtime = runtime();
        let mut pair = runtime.block_on(Pair::new(small()));
        let mut now = Instant::ZERO;
        let mut repeat = |times: usize| {
            let work = async {
                for _ in 0..times {
                    // Nothing is counted as recent.
                    now = now + Duration::from_secs(1);
                    pair.live_and_die(kind, now).await;
                }
            };
            allocation_counter::measure(|| runtime.block_on(bounded(work))).bytes_current
        };
        repeat(TIMES);
        let more = repeat(10 * TIMES);
        assert!(more < 16 * 10 * TIMES as i64, "{kind:?}: {more} bytes");
    }
}
