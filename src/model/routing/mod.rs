//! Routing: the broadcasts of an origin, the routes to them, and the peers to which they are announced.

mod broadcast;
mod origin;
mod registration;
mod scope;
mod table;

pub use broadcast::{
    Broadcast, BroadcastConsumer, BroadcastDynamic, BroadcastProducer, TrackNames, TrackRequest,
};
pub(crate) use broadcast::{Upstream, UpstreamTrack};
pub use origin::{
    Announce, BroadcastRequest, Origin, OriginConsumer, OriginDynamic, OriginProducer,
};
pub(crate) use origin::{
    AnnounceReader, PeerAdmission, PeerRequester, PeerTracks, PendingBroadcast, RoutedBroadcast,
};
pub(crate) use table::{AnnounceFilter, AnnounceQuota};
