//! Machines in pairs, over links of every kind, and alone against a peer made of bytes.

mod setup;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::mem;
use core::time::Duration;
extern crate std;
use std::println;

use bytes::Bytes;

use super::mux::Mux;
use super::*;
use crate::coding::lite::Features;
use crate::hop::Hops;
use crate::sim::{Bare, Frame, Link, Pair, Shelf};
use crate::stream::Code;
use crate::subscription::{Subscription, TrackInfo};
use Version::{Lite03, Lite04, Lite05, Lite06};

/// Who the client is in announcements, and the server.
const CLIENT: Hop = Hop::new(0x1111);
const SERVER: Hop = Hop::new(0x2222);

fn config(side: Side, version: Version) -> Config {
    let hop = if side == Side::Client { CLIENT } else { SERVER };
    Config { hop, ..Config::new(side, version) }
}

/// Of the layer above: a place for a group, a subscription, a reader.
fn token(slot: u32) -> Token {
    Token { slot, generation: 7 }
}

fn path(text: &str) -> Path {
    Path::new(text)
}

// ---- two machines ----------------------------------------------------------------------------

type Peers = Pair<Bare<Shelf>, Bare<Shelf>>;

/// What carries requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    Streams,
    OneStream,
}

fn machine(config: Config, carriage: Carriage) -> Bare<Shelf> {
    let carrier = match carriage {
        Carriage::Streams => Carrier::Streams,
        Carriage::OneStream => Carrier::Mux(Mux::new(config.side)),
    };
    Bare::new(Machine::with_carrier(config, Instant::ZERO, carrier), Shelf::new())
}

fn join(client: Config, server: Config, link: Link) -> Peers {
    let [client, server] = [client, server].map(|config| machine(config, Carriage::Streams));
    Pair::new(client, server, link)
}

/// A pair of which nobody wants announcements.
fn pair(version: Version, link: Link) -> Peers {
    join(config(Side::Client, version), config(Side::Server, version), link)
}

fn links() -> impl Iterator<Item = Link> {
    let seeds = |make: fn(u64) -> Link, count| (0..count).map(make);
    [Link::perfect()]
        .into_iter()
        .chain(seeds(Link::wide, 2))
        .chain(seeds(Link::hostile, 6))
        .chain(seeds(Link::byte_by_byte, 3))
}

/// Runs a test with every version over every link.
fn on_every_link(test: impl Fn(Version, Link)) {
    for version in Version::ALL {
        for link in links() {
            println!("{version} {link:?}");
            test(version, link);
        }
    }
}

/// Runs a test that is about requests with every version and carrier over every link. Both ends want
/// to hear of all broadcasts.
fn on_every_carrier(test: impl Fn(Version, Peers)) {
    for carriage in [Carriage::Streams, Carriage::OneStream] {
        on_every_link(|version, link| {
            println!("{carriage:?}");
            let end = |side| {
                let config = Config { interests: vec![Path::root()], ..config(side, version) };
                machine(config, carriage)
            };
            test(version, Pair::new(end(Side::Client), end(Side::Server), link));
        });
    }
}
