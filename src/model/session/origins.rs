//! The origins that a session publishes from and consumes into.

use crate::model::base::SessionId;
use crate::model::routing::{OriginConsumer, OriginProducer, PeerAdmission};
use crate::{Hop, Path, Role};

/// The origins that a session may publish from and consume into.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionOrigins {
    pub(crate) publish: Option<OriginConsumer>,
    pub(crate) consume: Option<OriginProducer>,
}

impl SessionOrigins {
    /// The hop that the session identifies itself with, and the prefixes that it wants to hear of.
    pub(crate) fn identity(&self) -> (Hop, Vec<Path>) {
        let Self { publish, consume } = self;
        let hop = publish.as_ref().map(OriginConsumer::hop);
        let hop = hop.or(consume.as_ref().map(OriginProducer::hop));
        let interests = consume.iter().flat_map(OriginProducer::allowed).cloned().collect();
        (hop.unwrap_or_default(), interests)
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self { publish: Some(_), consume: None } => Role::Publisher,
            Self { publish: None, consume: Some(_) } => Role::Subscriber,
            _ => Role::Both,
        }
    }

    /// Admits requests for broadcasts of the peer of `session`.
    pub(crate) fn admit(self, session: SessionId) -> AdmittedOrigins {
        let admission = self.consume.as_ref().map(|origin| origin.admit_peer(session));
        AdmittedOrigins { origins: self, admission }
    }
}

/// The origins of a session, and the admission of requests for broadcasts of its peer.
#[derive(Debug)]
pub(crate) struct AdmittedOrigins {
    pub(crate) origins: SessionOrigins,
    pub(crate) admission: Option<PeerAdmission>,
}
