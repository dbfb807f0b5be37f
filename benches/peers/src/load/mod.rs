//! The load generator, in processes of its own: one publisher, some viewers, idle connections, a long path, busy loops.
//! It is built on smoq-quinn, or smoq-web-transport for `wss://`, and speaks moq-lite-05, so that every relay gets the
//! same load.

pub(crate) mod far;
pub(crate) mod idle;
pub(crate) mod publish;
pub(crate) mod view;
#[path = "../../../../examples/common/web_socket.rs"]
mod web_socket;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use smoq::{Client, Session, Version};
use smoq_quinn::smoq_quic::Trust;

/// The version of all sessions.
const VERSION: Version = Version::Lite05;
/// The broadcast and its tracks.
const BROADCAST: &str = "bench";
const VIDEO: &str = "video";
const URGENT: &str = "urgent";

/// The work of a process of the load generator.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// Publishes to a relay
    Publish(publish::Options),
    /// Reads from a relay
    View(view::Options),
    /// Holds connections
    Idle(idle::Options),
    /// Carries packets between viewers and a relay far away
    Far(far::Options),
    /// Keeps a core busy
    Busy,
}

impl Role {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self {
            Self::Publish(options) => runtime.block_on(publish::run(options)),
            Self::View(options) => runtime.block_on(view::run(options)),
            Self::Idle(options) => runtime.block_on(idle::run(options)),
            Self::Far(options) => far::run(&options),
            Self::Busy => loop {
                std::hint::spin_loop();
            },
        }
    }
}

/// The time of CLOCK_MONOTONIC in nanoseconds, which all processes share.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A relay, and how it is reached.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Target {
    #[arg(long)]
    relay: SocketAddr,
    /// By a WebSocket with TLS instead of QUIC
    #[arg(long)]
    wss: bool,
}

/// Dials a relay until it answers, and drives the session in a task of its own.
async fn dial(target: Target, client: &Client, endpoint: &quinn::Endpoint) -> Result<Session> {
    let mut tries = 0;
    loop {
        let dialed = match target.wss {
            true => dial_web_socket(target.relay, client).await,
            false => dial_quic(target.relay, client, endpoint).await,
        };
        tries += 1;
        match dialed {
            Ok(session) => return Ok(session),
            Err(error) if tries == 10 => return Err(error).context("can't reach the relay"),
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

async fn dial_quic(
    relay: SocketAddr,
    client: &Client,
    endpoint: &quinn::Endpoint,
) -> Result<Session> {
    let config = smoq_quinn::config::client(&Trust::Insecure, client.versions())?;
    let connection = endpoint.connect_with(config, relay, "localhost")?.await?;
    let (session, driving) = smoq_quinn::connect(connection, client).await?;
    tokio::spawn(driving);
    Ok(session)
}

async fn dial_web_socket(relay: SocketAddr, client: &Client) -> Result<Session> {
    let (host, trust) = (relay.ip().to_string(), Some(&Trust::Insecure));
    let (host, authority) = ((&*host, relay.port()), relay.to_string());
    let carrier = web_socket::dial(host, &authority, "", trust, client.versions()).await?;
    let (session, driving) = smoq_web_transport::connect(carrier, client, tokio::time::sleep)?;
    tokio::spawn(driving);
    Ok(session)
}

/// A client's socket, in whatever network this process is. A WebSocket has another one.
fn endpoint() -> Result<quinn::Endpoint> {
    Ok(quinn::Endpoint::client(([0, 0, 0, 0], 0).into())?)
}

/// Lines of standard input, read by a thread. The process ends with its parent.
fn input() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receive
}
