//! A session whose peer is written by hand, and two sessions in memory.

mod credit;
mod ends;
mod hostile;
mod sessions;

use std::time::Duration;

use bytes::Bytes;
use smoq::stream::Side;
use smoq::{
    BroadcastProducer, Client, CloseReason, Error, Instant, Origin, OriginProducer, Server,
    Session, Track, TrackProducer, Version,
};

use crate::Qmux;
use crate::frame::{self, Frame, Frames, encode};
use crate::params::Params;

/// STREAM without an offset, with the rest of the record.
const STREAM: u64 = 0x08;
const FIN: u64 = 1;

/// A server that publishes two tracks, and everything that it sends to its peer, which is a list of frames.
struct Host {
    qmux: Qmux,
    now: Instant,
    session: Session,
    sent: Vec<Frame>,
    _origin: OriginProducer,
    _broadcast: BroadcastProducer,
    video: TrackProducer,
    texts: TrackProducer,
}

impl Host {
    /// On moq-lite 04, which has no SETUP.
    fn new() -> Self {
        let origin = Origin::default().produce();
        let mut broadcast = origin.create_broadcast("live").unwrap();
        let [video, texts] = ["video", "texts"].map(|name| {
            broadcast.create_track(Track::new(name).max_age(Duration::from_secs(600))).unwrap()
        });
        let server = Server::new().with_origin(&origin).with_versions(Version::Lite04);
        let (session, driver) = server.accept(Version::Lite04, Instant::ZERO);
        Self {
            qmux: Qmux::new(Side::Server, driver, Instant::ZERO),
            now: Instant::ZERO,
            session,
            sent: Vec::new(),
            _origin: origin,
            _broadcast: broadcast,
            video,
            texts,
        }
    }

    /// One whose peer has sent its parameters.
    fn with(params: Params) -> Self {
        let mut host = Self::new();
        host.receive(&parameters(params));
        host
    }

    /// A record of the peer, and all turns that follow.
    fn receive(&mut self, record: &[u8]) {
        self.qmux.receive(self.now, Bytes::copy_from_slice(record));
        self.turns();
    }

    fn turns(&mut self) {
        loop {
            let turn = self.qmux.turn(self.now, false);
            match self.qmux.poll_record() {
                Some(record) => self.sent.extend(Frames::new(record).map(Result::unwrap)),
                None if !turn.again => return,
                None => {}
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.turns();
    }

    fn is_closed_with(&self, error: Error) -> bool {
        self.qmux.closed() == Some(CloseReason::from(error))
    }

    /// The bytes of each stream, and whether it is finished.
    fn streams(&self) -> Vec<(u64, Vec<u8>, bool)> {
        let mut streams = std::collections::BTreeMap::new();
        for frame in &self.sent {
            if let Frame::Stream { id, bytes, fin } = frame {
                let (got, end) = streams.entry(id.as_u64()).or_insert((Vec::new(), false));
                got.extend_from_slice(bytes);
                *end |= fin;
            }
        }
        streams.into_iter().map(|(id, (bytes, fin))| (id, bytes, fin)).collect()
    }
}

/// Limits that do not matter.
const AMPLE: Params = Params {
    data: 1 << 30,
    bidi_local: 1 << 30,
    bidi_remote: 1 << 30,
    uni: 1 << 30,
    streams: [1 << 20; 2],
};

fn parameters(params: Params) -> Vec<u8> {
    let list = [
        (4, params.data),
        (5, params.bidi_local),
        (6, params.bidi_remote),
        (7, params.uni),
        (8, params.streams[0]),
        (9, params.streams[1]),
    ];
    parameters_of(&list.map(|(id, value)| (id, encode(&[value]))))
}

fn parameters_of(list: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in list {
        bytes.extend(encode(&[*id, value.len() as u64]));
        bytes.extend(value);
    }
    [encode(&[frame::PARAMETERS, bytes.len() as u64]), bytes].concat()
}

fn stream(kind: u64, id: u64, bytes: &[u8]) -> Vec<u8> {
    [&encode(&[kind, id])[..], bytes].concat()
}

/// Stream type and SUBSCRIBE of moq-lite 04: broadcast `live`, a track of five letters, groups of the last 16 s.
fn subscribe(id: u8, track: &str) -> Vec<u8> {
    let head = [&[2, 18, id, 4][..], b"live", &[5], track.as_bytes()].concat();
    [&head[..], &[2, 0, 0x7f, 0xff, 0, 0]].concat()
}

/// Two sessions whose records pass through memory.
struct Pair {
    ends: [Qmux; 2],
    now: Instant,
    sessions: [Session; 2],
}

impl Pair {
    fn new(client: &Client, server: &Server, version: Version) -> Self {
        let agreed = client.versions().agreed(Some(version.alpn().as_bytes())).unwrap();
        let (dialed, driver) = client.connect(agreed.clone(), Instant::ZERO);
        let near = Qmux::new(Side::Client, driver, Instant::ZERO);
        let (accepted, driver) = server.accept(agreed, Instant::ZERO);
        let far = Qmux::new(Side::Server, driver, Instant::ZERO);
        Self { ends: [near, far], now: Instant::ZERO, sessions: [dialed, accepted] }
    }

    /// Moves records until there is nothing more to do. `cut` makes records of a record.
    fn settle_with(&mut self, mut cut: impl FnMut(Bytes) -> Vec<Bytes>) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for (from, to) in [(0, 1), (1, 0)] {
                is_busy |= self.ends[from].turn(self.now, false).again;
                while let Some(record) = self.ends[from].poll_record() {
                    is_busy = true;
                    for record in cut(record) {
                        self.ends[to].receive(self.now, record);
                    }
                    self.ends[from].turn(self.now, false);
                }
            }
        }
    }

    fn settle(&mut self) {
        self.settle_with(|record| vec![record]);
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.settle();
    }
}
