//! An adapter without a network: streams are vectors.

use std::collections::BTreeMap;

use smoq::stream::{Code, Dir, Side, StreamId};
use smoq::{Version, Versions};
use smoq_http3::{Action, Event, WebTransport};

/// One end with the streams that it reads.
pub(crate) struct End {
    pub(crate) http: WebTransport,
    side: Side,
    opened: [u64; 2],
    /// Bytes that arrived and were not read, and whether that is all.
    pub(crate) arrived: BTreeMap<StreamId, (Vec<u8>, bool)>,
    /// Bytes that the session read.
    pub(crate) session: BTreeMap<StreamId, Vec<u8>>,
    pub(crate) events: Vec<Event>,
    /// Resets and stops, in order.
    pub(crate) refused: Vec<(StreamId, Code)>,
}

impl End {
    pub(crate) fn new(side: Side, http: WebTransport) -> Self {
        Self {
            http,
            side,
            opened: [0; 2],
            arrived: BTreeMap::new(),
            session: BTreeMap::new(),
            events: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub(crate) fn client(path: &str, versions: &Versions) -> Self {
        Self::new(Side::Client, WebTransport::client("relay.example:4443", path, versions).unwrap())
    }

    pub(crate) fn server(versions: &Versions) -> Self {
        Self::new(Side::Server, WebTransport::server(versions))
    }

    /// The next stream of this end.
    pub(crate) fn next_id(&mut self, dir: Dir) -> StreamId {
        let next = &mut self.opened[dir as usize];
        *next += 1;
        StreamId::new(self.side, dir, *next - 1)
    }

    /// Bytes of the peer arrive.
    pub(crate) fn arrive(&mut self, id: StreamId, bytes: &[u8]) {
        if !self.arrived.contains_key(&id) && id.initiator() != self.side {
            self.http.opened(id);
        }
        self.arrived.entry(id).or_default().0.extend_from_slice(bytes);
    }

    /// The end of a stream arrives.
    pub(crate) fn arrive_end(&mut self, id: StreamId) {
        self.arrived.get_mut(&id).unwrap().1 = true;
    }

    /// Reads all streams as far as it may, at most `piece` bytes at a time.
    pub(crate) fn read(&mut self, piece: usize) -> bool {
        let mut is_busy = false;
        for (id, (bytes, is_all)) in &mut self.arrived {
            loop {
                let taken = match self.http.read_limit(*id) {
                    None => bytes.len(),
                    Some(limit) => bytes.len().min(limit).min(piece),
                };
                if taken == 0 {
                    break;
                }
                is_busy = true;
                let taken: Vec<_> = bytes.drain(..taken).collect();
                match self.http.read_limit(*id) {
                    None => self.session.entry(*id).or_default().extend(taken),
                    Some(_) => self.http.data(*id, &taken),
                }
            }
            if bytes.is_empty() && std::mem::take(is_all) && self.http.read_limit(*id).is_some() {
                self.http.finished(*id);
            }
        }
        is_busy
    }

    /// Carries out the actions. Returns what is sent to the peer.
    pub(crate) fn act(&mut self) -> Vec<(StreamId, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(action) = self.http.poll_action() {
            match action {
                Action::Open { dir, bytes } => {
                    let id = self.next_id(dir);
                    self.http.opened(id);
                    sent.push((id, bytes.to_vec()));
                }
                Action::Write { id, bytes } => sent.push((id, bytes.to_vec())),
                Action::Reset { id, code } | Action::Stop { id, code } => {
                    self.refused.push((id, code));
                }
                other => panic!("{other:?}"),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.http.poll_event()));
        sent
    }

    /// Reads and acts until nothing happens. Returns what is sent.
    pub(crate) fn run(&mut self, piece: usize) -> Vec<(StreamId, Vec<u8>)> {
        let mut sent = self.act();
        while self.read(piece) {
            sent.extend(self.act());
        }
        sent.extend(self.act());
        sent
    }

    /// A stream of the session that this end opens, with its head and `payload`.
    pub(crate) fn stream(&mut self, dir: Dir, payload: &[u8]) -> (StreamId, Vec<u8>) {
        let bytes = [self.http.stream_head(dir), payload].concat();
        (self.next_id(dir), bytes)
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.events.iter().find_map(|event| match event {
            Event::Established { agreed, .. } => Some(agreed.version()),
            _ => None,
        })
    }
}

/// Passes everything between both until nothing happens.
pub(crate) fn exchange(client: &mut End, server: &mut End, piece: usize) {
    loop {
        let (ours, theirs) = (client.run(piece), server.run(piece));
        if ours.is_empty() && theirs.is_empty() {
            return;
        }
        ours.into_iter().for_each(|(id, bytes)| server.arrive(id, &bytes));
        theirs.into_iter().for_each(|(id, bytes)| client.arrive(id, &bytes));
    }
}

/// A session that both ends have.
pub(crate) fn established() -> (End, End) {
    let versions = Versions::default();
    let (mut client, mut server) = (End::client("live", &versions), End::server(&versions));
    exchange(&mut client, &mut server, 1_000);
    assert!(client.version().is_some() && server.version().is_some());
    client.events.clear();
    server.events.clear();
    (client, server)
}
