//! The two ends of a session before there is a connection: client and server.

use std::sync::Arc;

use super::driver::Driver;
use super::handle::Session;
use super::origins::SessionOrigins;
use super::session_request::SessionRequest;
use super::setup::{SessionSetup, TraceSinks};
use crate::machine::trace::Sink;
use crate::model::base::Clock;
use crate::model::routing::{OriginConsumer, OriginProducer};
use crate::stream::Side;
use crate::{Agreed, Cost, Instant, Limits, Path, Versions};

macro_rules! end {
    ($(#[$doc:meta])* $name:ident, $side:ident, $(#[$made:meta])* $make:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(SessionSetup);

        impl $name {
            /// One that neither publishes nor consumes, and speaks every version.
            pub fn new() -> Self {
                Self::default()
            }

            /// What the peer may hear of and subscribe to. Default: nothing.
            pub fn with_publish(mut self, origin: OriginConsumer) -> Self {
                self.0.origins.publish = Some(origin);
                self
            }

            /// Where the broadcasts of the peer appear. Default: they are not asked for.
            pub fn with_consume(mut self, origin: OriginProducer) -> Self {
                self.0.origins.consume = Some(origin);
                self
            }

            /// Both: what a relay does.
            pub fn with_origin(self, origin: &OriginProducer) -> Self {
                self.with_publish(origin.consume()).with_consume(origin.clone())
            }

            /// Which versions to speak, the most wanted first. Default: all.
            pub fn with_versions(mut self, versions: impl Into<Versions>) -> Self {
                self.0.versions = versions.into();
                self
            }

            /// Bounds of the session. Those of the cache are the origin's.
            pub fn with_limits(mut self, limits: Limits) -> Self {
                self.0.limits = limits;
                self
            }

            /// Records each session: `sink` is called at its beginning, and what it gives is where the
            /// [trace](crate::machine::trace) of that session goes; with `None` it is not recorded.
            /// A sink that takes no more ends its trace, not the session. Default: nothing is recorded.
            pub fn with_trace(
                mut self,
                sink: impl Fn() -> Option<Box<dyn Sink>> + Send + Sync + 'static,
            ) -> Self {
                self.0.trace = TraceSinks(Some(Arc::new(sink)));
                self
            }

            /// The versions to offer or to choose from.
            pub fn versions(&self) -> &Versions {
                &self.0.versions
            }

            /// What turns the time of an adapter into that of the session.
            pub fn clock(&self) -> Clock {
                let SessionOrigins { publish, consume } = &self.0.origins;
                let consume = consume.as_ref().map(OriginProducer::clock);
                let publish = || publish.as_ref().map(OriginConsumer::clock);
                consume.or_else(publish).unwrap_or_else(|| self.0.clock.clone())
            }

            $(#[$made])*
            ///
            /// Give it what [`Versions::agreed`] says, or one version.
            pub fn $make(&self, agreed: impl Into<Agreed>, now: Instant) -> (Session, Driver) {
                Driver::new(&self.0, Side::$side, agreed.into(), now)
            }
        }
    };
}

end! {
    /// The end that dials. What it is to do, before there is a connection.
    Client, Client,
    /// A session on a connection that was dialed, with the version that its ALPN agreed on. Pure: an
    /// adapter calls it, and then drives the [`Driver`].
    connect
}

impl Client {
    /// The path of the URL that is dialed, and its query if it has one: what the root of the session is to
    /// be at the server. Told from moq-lite 05 on, and on moq-transport. Default: none.
    pub fn with_path(mut self, path: impl Into<Path>) -> Self {
        self.0.path = path.into();
        self
    }

    /// Host and port of the URL that is dialed. Told on moq-transport. Default: none.
    pub fn with_authority(mut self, authority: impl Into<Box<str>>) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// What this link costs, as against others: it is added, at both ends, to the cost of what is announced
    /// over it, and of several ways to a broadcast the cheapest is taken, before the shortest (moq-lite 06
    /// and later, SETUP 4). 0 is a link that is free, [`Cost::MAX`] the largest cost. Default: 1, which is
    /// not told.
    pub fn with_cost(mut self, cost: u64) -> Self {
        self.0.cost = Some(cost.min(Cost::MAX));
        self
    }
}

end! {
    /// The end that is dialed. What it is to do with every connection.
    Server, Server,
    /// A session on a connection that was accepted, with the version that its ALPN agreed on. Pure:
    /// an adapter calls it, and then drives the [`Driver`].
    accept
}

impl Server {
    /// As [`accept`](Self::accept), but what comes of the session is decided when the client has said what
    /// it wants, and it is told nothing before.
    pub fn request(&self, agreed: impl Into<Agreed>, now: Instant) -> (SessionRequest, Driver) {
        Driver::request(&self.0, agreed.into(), now)
    }
}
