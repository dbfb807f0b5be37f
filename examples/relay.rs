//! A relay: any number of sessions around one origin.
//!
//! ```text
//! relay --listen ADDR [--cert FILE --key FILE] [--version V]...
//!       [--upstream URL]... [--fingerprint HEX | --insecure] [--trace DIR]
//! ```
//!
//! A client that dials `moqt://HOST:PORT/PATH` is below `PATH`: it sees what is there, and publishes there, under
//! paths without it. On moq-lite up to 04, which can't say what was dialed, all see everything.
//!
//! Without a certificate it makes one, and prints what clients have to pin. It keeps trying to reach
//! its upstreams. `--trace` records each session into a file of its own in a directory that is there, to
//! be looked at with the example `replay`. SIGTERM and ctrl-c end it: everybody is asked to go elsewhere
//! (GOAWAY); who is still there half a second later is sent what is owed, and after a second everything is closed.

mod common;
#[path = "common/trace.rs"]
mod trace;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::Failure;
use smoq::{Client, Error, Goaway, Hop, Limits, Origin, OriginProducer, Server, Session};
use smoq_quinn::smoq_tls::{Identity, Url};
use smoq_quinn::{Driving, config};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pauses between attempts to reach an upstream: doubled each time, from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a track is kept coming that nobody reads any more: somebody who zaps comes back.
const LINGER: Duration = Duration::from_secs(5);

/// How long peers have to go elsewhere when the relay stops, and in which time everything is over.
const STOP: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = pico_args::Arguments::from_env();
    let listen: SocketAddr = args.value_from_str("--listen")?;
    let upstreams: Vec<Url> = args.values_from_str("--upstream")?;
    let cert: Option<PathBuf> = args.opt_value_from_str("--cert")?;
    let key: Option<PathBuf> = args.opt_value_from_str("--key")?;
    let versions = common::versions(&mut args)?;
    let trust = common::trust(&mut args)?;
    let traces: Option<PathBuf> = args.opt_value_from_str("--trace")?;
    if let Some(unknown) = args.finish().first() {
        return Err(format!("what is {unknown:?}?").into());
    }
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Identity::from_pem_files(cert, key)?,
        (None, None) => Identity::self_signed(["localhost"])?,
        _ => return Err("--cert and --key go together".into()),
    };

    let origin = Origin::new(random_hop()?).produce();
    let mut limits = Limits::default();
    limits.linger_time = LINGER;
    let mut server = Server::new().with_origin(&origin).with_versions(versions.clone());
    let mut client = Client::new().with_origin(&origin).with_versions(versions);
    (server, client) = (server.with_limits(limits.clone()), client.with_limits(limits));
    if let Some(directory) = traces {
        let files = trace::Files::in_directory(directory);
        let more = files.clone();
        server = server.with_trace(move || files.sink());
        client = client.with_trace(move || more.sink());
    }
    let endpoint = quinn::Endpoint::server(config::server(&identity, server.versions())?, listen)?;
    // Before anybody knows that there is something to end.
    let mut end = std::pin::pin!(terminated()?);
    println!("listening {} sha256:{}", endpoint.local_addr()?, identity.fingerprint());
    std::io::stdout().flush()?;

    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for url in upstreams {
        let config = config::client(&trust, client.versions())?;
        tasks.spawn(join_upstream(url, config, client.clone(), stopping.clone()));
    }
    loop {
        tokio::select! {
            _ = &mut end => break,
            Some(incoming) = endpoint.accept() => {
                tasks.spawn(serve(incoming, server.clone(), origin.clone(), stopping.clone()));
            }
            // Sessions that ended are only waited for so that they are forgotten.
            Some(_) = tasks.join_next() => {}
        }
    }
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    endpoint.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

/// Not zero, below 2^53 so that JavaScript can read it, and unlikely to be anybody else's.
fn random_hop() -> Result<Hop, Failure> {
    let random =
        ring::rand::generate(&ring::rand::SystemRandom::new()).map_err(|_| "no randomness")?;
    let random: [u8; 8] = random.expose();
    Ok(Hop::new((u64::from_le_bytes(random) >> 11).max(1)))
}

async fn serve(
    incoming: quinn::Incoming,
    server: Server,
    origin: OriginProducer,
    mut stopping: watch::Receiver<bool>,
) {
    let peer = incoming.remote_address();
    let served = async {
        let connection = unless_stopped(&mut stopping, incoming).await??;
        let (mut request, mut driving) = smoq_quinn::request(connection, &server)?;
        let asking = async {
            tokio::select! {
                ready = request.ready() => ready,
                end = &mut driving => end.and(Err(Error::SessionClosed)),
            }
        };
        unless_stopped(&mut stopping, asking).await??;
        let root = request.path();
        let part = origin.with_root(&root).ok_or("nothing is below the root")?;
        let session = request.with_origin(&part).accept();
        eprintln!("{peer} speaks {} below /{root}", session.version());
        Ok::<_, Failure>(drive(session, driving, stopping).await?)
    };
    match served.await {
        Ok(()) => eprintln!("{peer} left"),
        Err(error) => eprintln!("{peer} lost: {error}"),
    }
}

async fn join_upstream(
    url: Url,
    config: quinn::ClientConfig,
    client: Client,
    mut stopping: watch::Receiver<bool>,
) {
    let mut pause = RETRY.0;
    while !*stopping.borrow() {
        let joined = async {
            let dialing = common::dial(&url, config.clone());
            let (endpoint, connection) = unless_stopped(&mut stopping, dialing).await??;
            let (session, driving) =
                smoq_quinn::connect(connection, &client.clone().with_path(url.path()))?;
            eprintln!("{url} speaks {}", session.version());
            pause = RETRY.0;
            let end = drive(session, driving, stopping.clone()).await;
            endpoint.wait_idle().await;
            Ok::<_, Failure>(end?)
        };
        match joined.await {
            Ok(()) => eprintln!("{url} left"),
            Err(error) => eprintln!("{url} lost: {error}"),
        }
        // An error would be that nobody can stop us any more; then the pause is all there is.
        let _ = tokio::time::timeout(pause, stopping.wait_for(|stop| *stop)).await;
        pause = RETRY.1.min(pause * 2);
    }
}

/// A peer that never answers does not keep the relay from ending.
async fn unless_stopped<F: IntoFuture>(
    stopping: &mut watch::Receiver<bool>,
    future: F,
) -> Result<F::Output, Failure> {
    tokio::select! {
        output = future.into_future() => Ok(output),
        _ = stopping.wait_for(|stop| *stop) => Err("the relay stops".into()),
    }
}

/// Drives a session until it ends by itself, or the relay stops: then it is asked to go, and drained if it
/// does not.
async fn drive(
    session: Session,
    mut driving: Driving,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), smoq::Error> {
    tokio::select! {
        end = &mut driving => return end,
        _ = stopping.wait_for(|stop| *stop) => session.go_away(Goaway::default().timeout(STOP.1))?,
    }
    tokio::select! {
        end = &mut driving => return end,
        () = tokio::time::sleep(STOP.0) => session.drain(),
    }
    driving.await
}

/// Resolves at SIGTERM or ctrl-c; both are caught from now on.
#[cfg(unix)]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at ctrl-c.
#[cfg(not(unix))]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
