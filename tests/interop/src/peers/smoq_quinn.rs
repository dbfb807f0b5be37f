//! smoq itself, with its adapter smoq-quinn on tokio.

use std::net::SocketAddr;

use ::smoq_quinn::{config, smoq_quic as tls};
use smoq::OriginProducer;

use super::smoq_model::{self, Broadcast};
use super::{
    Abilities, Announcements, Code, Datagrams, Failure, Group, Link, Listener, Options, Role,
    Subscription, known,
};

/// A peer that runs smoq on quinn.
pub type Peer = PeerOn<false>;

/// The peer on WebTransport over HTTP/3 (`WEB`), or on raw QUIC.
pub struct PeerOn<const WEB: bool> {
    origin: OriginProducer,
}

impl<const WEB: bool> super::Peer for PeerOn<WEB> {
    const NAME: &'static str = "smoq-quinn";
    const VERSIONS: &'static [&'static str] = &smoq_model::VERSIONS;

    type Broadcast = Broadcast;

    fn new() -> Self {
        Self { origin: smoq_model::origin() }
    }

    fn abilities(version: &str) -> Abilities {
        smoq_model::abilities(version)
    }

    fn refused_with(version: &str, code: u32) -> Option<Code> {
        smoq_model::refused_with(version, code)
    }

    fn reset_with(version: &str, code: u32) -> Code {
        smoq_model::reset_with(version, code)
    }

    fn serve(&self, role: Role, versions: &[&str]) -> Listener {
        known::<Self>(versions);
        let server = smoq_model::server(&self.origin, role, smoq_model::versions(versions));
        let identity = tls::Identity::self_signed(["localhost"]).expect("a certificate");
        let config = config::server(&identity, server.versions()).expect("a configuration");
        Listener::spawn(config, move |connection| {
            let server = server.clone();
            async move {
                let joined = ::smoq_quinn::accept(connection.clone(), &server).await;
                Ok(run(joined.map_err(|err| Failure::local(err.to_string()))?, connection))
            }
        })
    }

    async fn dial(&self, role: Role, addr: SocketAddr, versions: &[&str]) -> Result<Link, Failure> {
        known::<Self>(versions);
        let client = smoq_model::client(&self.origin, role, smoq_model::versions(versions));
        let config = match WEB {
            true => config::webtransport_client(&tls::Trust::Insecure),
            false => config::client(&tls::Trust::Insecure, client.versions()),
        };
        let connection = super::link::connect(addr, config.expect("a configuration")).await?;
        let joined = ::smoq_quinn::connect(connection.clone(), &client).await;
        Ok(run(joined.map_err(|err| Failure::local(err.to_string()))?, connection))
    }

    fn broadcast(&self, path: &str) -> Result<Broadcast, Failure> {
        Ok(smoq_model::broadcast(&self.origin, path))
    }

    fn announcements(&self) -> Announcements {
        smoq_model::announcements(Self::NAME, &self.origin)
    }

    async fn subscribe(
        &self,
        path: &str,
        track: &str,
        options: Options,
    ) -> Result<Subscription, Failure> {
        smoq_model::subscribe(Self::NAME, &self.origin, path, track, &options)
    }
}

impl super::Modern for Peer {
    async fn fetch(&self, path: &str, track: &str, sequence: u64) -> Result<Group, Failure> {
        smoq_model::fetch(&self.origin, path, track, sequence).await
    }

    async fn datagrams(&self, path: &str, track: &str) -> Result<Datagrams, Failure> {
        smoq_model::datagrams(&self.origin, path, track)
    }
}

fn run(
    (session, driving): (smoq::Session, ::smoq_quinn::ConnectionDriver),
    connection: quinn::Connection,
) -> Link {
    tokio::spawn(driving);
    smoq_model::link(session).over(connection)
}
