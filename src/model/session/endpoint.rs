//! The settings of a client or server, from which sessions are made.

use std::sync::Arc;

use super::driver::Driver;
use super::handle::Session;
use super::incoming_session::IncomingSession;
use super::origins::SessionOrigins;
use super::retained::Retained;
use super::setup::{SessionSetup, TraceSinks};
use crate::machine::trace::Sink;
use crate::model::base::Clock;
use crate::model::routing::{OriginConsumer, OriginProducer};
use crate::stream::Side;
use crate::{Agreed, AuthToken, Cost, Instant, Limits, Path, Versions};

macro_rules! end {
    ($(#[$doc:meta])* $name:ident, $side:ident, $(#[$made:meta])* $make:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(SessionSetup);

        impl $name {
            /// Settings of sessions that neither publish nor consume, and that speak every version.
            pub fn new() -> Self {
                Self::default()
            }

            /// Sets what is announced to the peer, and what it can subscribe to. Default: nothing.
            #[must_use]
            pub fn with_publish(mut self, origin: OriginConsumer) -> Self {
                self.0.origins.publish = Some(origin);
                self
            }

            /// Sets where the broadcasts of the peer appear. Default: its announcements are not
            /// requested.
            #[must_use]
            pub fn with_consume(mut self, origin: OriginProducer) -> Self {
                self.0.origins.consume = Some(origin);
                self
            }

            /// Sets both to the same origin, as for a relay.
            #[must_use]
            pub fn with_origin(self, origin: &OriginProducer) -> Self {
                self.with_publish(origin.consume()).with_consume(origin.clone())
            }

            /// Sets the versions to speak, the preferred one first. Default: all.
            #[must_use]
            pub fn with_versions(mut self, versions: impl Into<Versions>) -> Self {
                self.0.versions = versions.into();
                self
            }

            /// Sets the limits of the session. Those of the cache belong to the origin.
            #[must_use]
            pub fn with_limits(mut self, limits: Limits) -> Self {
                self.0.limits = limits;
                self
            }

            /// Records each session. `sink` is called when a session begins, and returns where the
            /// [trace](crate::machine::trace) of that session goes, or `None` to not record it. If
            /// the sink accepts no more, the trace ends and the session goes on. A trace has the payloads
            /// and the authorization tokens of its session. Default: nothing is recorded.
            #[must_use]
            pub fn with_trace(
                mut self,
                sink: impl Fn() -> Option<Box<dyn Sink>> + Send + Sync + 'static,
            ) -> Self {
                self.0.trace = TraceSinks(Some(Arc::new(sink)));
                self
            }

            /// Adds an authorization token to all requests for paths under `prefix`: to subscribe, to fetch, to announce
            /// a broadcast, and to get announcements. It is sent on moq-transport. Of several prefixes the longest
            /// counts. [`Session::set_request_tokens`] changes them. Default: none.
            #[must_use]
            pub fn with_request_token(mut self, prefix: impl Into<Path>, token: AuthToken) -> Self {
                self.0.request_tokens.entry(prefix.into()).or_default().push(token);
                self
            }

            /// The versions to offer or to choose from.
            pub fn versions(&self) -> &Versions {
                &self.0.versions
            }

            /// Converts the time of an adapter to that of the session.
            pub fn clock(&self) -> Clock {
                let SessionOrigins { publish, consume } = &self.0.origins;
                let consume = consume.as_ref().map(OriginProducer::clock);
                let publish = || publish.as_ref().map(OriginConsumer::clock);
                consume.or_else(publish).unwrap_or_else(|| self.0.clock.clone())
            }

            $(#[$made])*
            ///
            /// `agreed` is what [`Versions::agreed`] returned, or a version.
            pub fn $make(&self, agreed: impl Into<Agreed>, now: Instant) -> (Session, Driver) {
                Driver::new(&self.0, Side::$side, agreed.into(), now)
            }
        }
    };
}

end! {
    /// The settings of a client, from which it makes a session for each connection that it dialed.
    Client, Client,
    /// Creates a session on a dialed connection, with the version that its ALPN agreed on. It does
    /// no I/O: an adapter calls it, and then drives the [`Driver`].
    connect
}

impl Client {
    /// Sets the path of the dialed URL, with its query if it has one. It asks the server for the
    /// root of the session. It is sent on moq-lite 05 and later and on moq-transport. Default:
    /// none.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<Path>) -> Self {
        self.0.path = path.into();
        self
    }

    /// Sets host and port of the dialed URL, which are sent on moq-transport. Default: none.
    #[must_use]
    pub fn with_authority(mut self, authority: impl Into<Box<str>>) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// Adds an authorization token for the whole session, which is sent in SETUP of moq-transport. Default: none.
    #[must_use]
    pub fn with_token(mut self, token: AuthToken) -> Self {
        self.0.tokens.push(token);
        self
    }

    /// The value of [`with_path`](Self::with_path). On WebTransport it is part of the request, and
    /// SETUP must not repeat it.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The value of [`with_authority`](Self::with_authority).
    pub fn authority(&self) -> &str {
        &self.0.authority
    }

    /// Sets the cost of this link. Both ends add it to the cost of what is announced over the link.
    /// Of several routes to a broadcast the cheapest is taken, and the shortest among equals
    /// (moq-lite 06 and later, SETUP 4). 0 is a free link, [`Cost::MAX`] the largest cost. Default:
    /// 1, which is not sent.
    #[must_use]
    pub fn with_cost(mut self, cost: u64) -> Self {
        self.0.cost = Some(cost.min(Cost::MAX));
        self
    }

    /// Keeps the broadcasts of a session that ends for the next session. Default: they end with it.
    #[must_use]
    pub fn with_retained(mut self, retained: &Retained) -> Self {
        self.0.retained = Some(retained.clone());
        self
    }
}

end! {
    /// The settings of a server, from which it makes a session for each connection that it
    /// accepted.
    Server, Server,
    /// Creates a session on an accepted connection, with the version that its ALPN agreed on. It
    /// does no I/O: an adapter calls it, and then drives the [`Driver`].
    accept
}

impl Server {
    /// For adapters: whether the sessions run on WebTransport, where the client's request has path and authority. A client
    /// that sends them in SETUP of moq-transport as well is closed with INVALID_PATH or INVALID_AUTHORITY. Default: no.
    #[must_use]
    pub fn with_web_transport(mut self, web_transport: bool) -> Self {
        self.0.web_transport = web_transport;
        self
    }

    /// As [`accept`](Self::accept), but the application decides on the session when the client's
    /// SETUP was read. Nothing is sent to the client before.
    pub fn incoming(&self, agreed: impl Into<Agreed>, now: Instant) -> (IncomingSession, Driver) {
        Driver::request(&self.0, agreed.into(), now)
    }
}
