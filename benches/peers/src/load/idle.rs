//! Connections that do nothing.

use anyhow::{Context, Result};
use smoq::{Client, Origin};

use super::{Target, VERSION, dial, endpoint, input};

/// Connections that share a socket.
const PER_SOCKET: usize = 50;
/// Connections that are dialed at the same time.
const AT_ONCE: usize = 50;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    connections: usize,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let mut orders = input();
    let client = Client::new().with_consume(Origin::default().produce());
    let client = client.with_versions(VERSION);
    // The first connection includes one-time costs.
    let first = endpoint()?;
    let mut sessions = vec![dial(options.target, &client, &first).await?];
    println!("first");
    orders.recv().await.context("more")?;
    let mut socket = endpoint()?;
    while sessions.len() <= options.connections {
        let missing = options.connections + 1 - sessions.len();
        let mut dialing = tokio::task::JoinSet::new();
        for _ in 0..missing.min(AT_ONCE) {
            if (sessions.len() + dialing.len()) % PER_SOCKET == 0 {
                socket = endpoint()?;
            }
            let (client, socket) = (client.clone(), socket.clone());
            dialing.spawn(async move { dial(options.target, &client, &socket).await });
        }
        while let Some(session) = dialing.join_next().await {
            sessions.push(session??);
        }
    }
    println!("all");
    orders.recv().await.context("stop")?;
    Ok(())
}
