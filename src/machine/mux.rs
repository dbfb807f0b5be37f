//! A carrier for tests: all requests on the first bidirectional stream of the client, each piece as
//! `[request id][kind][length][bytes]`. It stands for drafts that have one control stream, and proves
//! that a dialect does not know what carries its requests.

use alloc::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::request::{Offer, Requests, Sender};
use super::streams::{Recv, Send};
use crate::coding::varint;
use crate::slab::Key;
use crate::stream::{Code, Side, StreamId};

const DATA: u64 = 0;
const FIN: u64 = 1;
const RESET: u64 = 2;
const STOP: u64 = 3;

#[derive(Debug)]
pub(super) struct Mux {
    side: Side,
    stream: Option<StreamId>,
    recv: Recv,
    send: Send,
    pub(super) parked: bool,
    next_id: u64,
    by_id: BTreeMap<u64, Key>,
    ids: BTreeMap<Key, u64>,
}

impl Mux {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            stream: None,
            recv: Recv::default(),
            send: Send::default(),
            parked: false,
            next_id: if side == Side::Client { 0 } else { 1 },
            by_id: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn opened(&mut self, id: StreamId) {
        self.stream.get_or_insert(id);
    }

    pub(super) fn wants_stream(&self) -> bool {
        self.side == Side::Client && self.stream.is_none()
    }

    fn put(&mut self, id: u64, kind: u64, bytes: &[u8]) {
        let out: &mut BytesMut = self.send.buffer();
        for value in [id, kind, bytes.len() as u64] {
            varint::write(out, value).unwrap();
        }
        out.put_slice(bytes);
    }

    fn id_of(&mut self, key: Key) -> u64 {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.next_id;
        self.next_id += 2;
        self.ids.insert(key, id);
        self.by_id.insert(id, key);
        id
    }

    pub(super) fn send(&mut self, key: Key, bytes: &Bytes, fin: bool) {
        let id = self.id_of(key);
        self.put(id, if fin { FIN } else { DATA }, bytes);
    }

    pub(super) fn cancel(&mut self, key: Key, reset: bool, stop: bool, code: Code) {
        let Some(id) = self.ids.get(&key).copied() else { return };
        let mut bytes = BytesMut::new();
        varint::write(&mut bytes, code.as_u64()).unwrap();
        for (wanted, kind) in [(reset, RESET), (stop, STOP)] {
            if wanted {
                self.put(id, kind, &bytes);
            }
        }
    }

    pub(super) fn offer(&mut self) -> Option<Offer> {
        if self.parked || !self.send.has_work() {
            return None;
        }
        let (bytes, fin) = self.send.offer(1_000);
        Some(Offer { sender: Sender::Carrier, stream: self.stream?, bytes, fin })
    }

    pub(super) fn taken(&mut self, n: usize, parked: bool) {
        self.send.accepted(n, false);
        self.parked = parked;
    }

    pub(super) fn owes(&self) -> bool {
        self.send.has_work()
    }

    pub(super) fn has_writable(&self) -> bool {
        !self.parked && self.is_open() && self.send.has_work()
    }
}

pub(super) fn receive(requests: &mut Requests, bytes: &Bytes) {
    requests.mux().recv.push(bytes.clone(), false, usize::MAX / 2);
    while let Some((id, kind, bytes)) = next_piece(&mut requests.mux().recv) {
        let known = requests.mux().by_id.get(&id).copied();
        let key = known.or_else(|| {
            let key = requests.accept(None)?;
            let mux = requests.mux();
            mux.by_id.insert(id, key);
            mux.ids.insert(key, id);
            Some(key)
        });
        let Some(key) = key else { continue };
        let code = || Code::new(varint::read(&bytes).map_or(0, |(code, _)| code));
        match kind {
            DATA | FIN => assert!(requests.receive(key, bytes.clone(), kind == FIN)),
            RESET => requests.peer_reset(key, code()),
            _ => {
                requests.peer_stopped(key, code());
            }
        }
    }
}

fn next_piece(recv: &mut Recv) -> Option<(u64, u64, Bytes)> {
    let mut front = [0; 32];
    let front = recv.peek(&mut front);
    let mut at = 0;
    let mut next = || {
        let (value, len) = varint::read(&front[at..])?;
        at += len;
        Some(value)
    };
    let (id, kind, len) = (next()?, next()?, next()? as usize);
    if recv.len() < at + len {
        return None;
    }
    recv.skip(at);
    Some((id, kind, recv.take(len)))
}
