//! Origins: broadcasts by path, which sessions and applications publish and consume.

mod announce_reader;
mod broadcast_requests;
mod consumer;
mod dynamic;
mod lookup;
mod peer_admission;
mod peer_tracks;
mod producer;
mod shared;
mod track_watch;

pub(crate) use announce_reader::AnnounceReader;
pub use consumer::{Announce, OriginConsumer};
pub use dynamic::{BroadcastRequest, OriginDynamic};
pub(crate) use lookup::{PendingBroadcast, RoutedBroadcast};
pub(crate) use peer_admission::{PeerAdmission, PeerRequester};
pub(crate) use peer_tracks::PeerTracks;
pub use producer::{Origin, OriginProducer};
