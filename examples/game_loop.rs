//! A game: one server and 32 players on one thread, without async. Sixty times per second each player
//! publishes its position, the server publishes all positions, and everyone reads the newest state that has
//! arrived. One datagram in twenty is dropped deliberately.
//!
//! ```text
//! game_loop [SECONDS]
//! game_loop --browser ADDR [--wss] [SECONDS]
//! ```
//!
//! With `--browser` it is another game: still one thread, which also serves a page at `http://ADDR`. Browsers that open
//! the page join by WebTransport, or with `?ws` by WebSocket: they show what moves, and send their mouse
//! (`examples/browser`). It runs until it is stopped, unless the seconds are given.
//!
//! SIGTERM and SIGINT end the game early, with the results so far.

#![expect(clippy::disallowed_methods, reason = "a game reads the clock and waits for its frames")]

#[path = "browser/game.rs"]
mod browser;
#[path = "clock/time.rs"]
mod clock;
#[path = "browser/pages.rs"]
mod pages;
#[path = "common/report.rs"]
mod report;

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use smoq::{
    BroadcastProducer, Client, Origin, OriginConsumer, Server, Subscription, Track, TrackConsumer,
    TrackProducer,
};
use smoq_blocking::smoq_quic::{Identity, Trust};
use smoq_blocking::{Budget, ConnectionId, Endpoint, Event, config};

const PLAYERS: usize = 32;
const FRAME: Duration = Duration::from_micros(16_667);
/// The time per frame for the network, on each of the two sockets.
const BUDGET: Budget = Budget::time(Duration::from_millis(3));

/// A game: one server and 32 players on one thread, over UDP that loses one datagram in twenty
#[derive(Parser)]
#[command(name = "game_loop", version)]
struct Options {
    /// How long to play [default: 3, with --browser until it is stopped]
    seconds: Option<u64>,
    /// Serves a page at http://ADDR whose visitors join the game; port 0 lets the system choose one, which is printed
    #[arg(long, value_name = "ADDR")]
    browser: Option<SocketAddr>,
    /// Visitors with `?ws` join by wss://, with the same self-signed certificate, which their browsers must trust
    #[arg(long, requires = "browser")]
    wss: bool,
}

fn main() -> ExitCode {
    report::exit_code(run(Options::parse()))
}

fn run(options: Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("can't catch signals")?;
    }
    let frames = options.seconds.map(|seconds| seconds.saturating_mul(60));
    if let Some(address) = options.browser {
        return browser::run(address, options.wss, frames, &stop);
    }
    play(frames.unwrap_or(180), &stop)
}

fn play(most: u64, stop: &AtomicBool) -> Result<()> {
    let is_stopped = || stop.load(Ordering::Relaxed);
    let mut game = Game::new()?;

    // The lobby: until everyone has seen everyone.
    let patience = Instant::now() + Duration::from_secs(30);
    while game.views().any(|view| view.seen == 0) && !is_stopped() {
        game.frame()?;
        ensure!(Instant::now() <= patience, "after 30 s a path was not seen: {}", game.blind());
    }
    println!("all players have joined");
    game.forget_statistics();
    let mut frames = 0;
    while frames < most && !is_stopped() {
        game.frame()?;
        frames += 1;
    }
    if is_stopped() {
        eprintln!("stopped by a signal after {frames} frames");
    }
    if frames > 0 {
        println!("{frames} frames, {PLAYERS} players, 1 datagram in 20 dropped");
        println!("server  {}", game.server_cost);
        println!("players {}", game.player_cost);
    }
    for (number, (player, of_player)) in game.players.iter().zip(&game.of_players).enumerate() {
        println!("player {number:2} saw {}; was seen in {of_player}", player.world);
    }
    if is_stopped() {
        return game.leave();
    }
    ensure!(game.views().all(|view| view.seen > 0), "these paths were not seen: {}", game.blind());

    // All players are still connected, but publish nothing: nothing is ready, and nothing costs.
    game.settle()?;
    game.forget_statistics();
    for _ in 0..60 {
        game.server_cost.measure(&mut game.server_net)?;
    }
    println!("idle: server {}", game.server_cost);
    game.leave()
}

struct Game {
    number: u64,
    began: Instant,
    /// The state that the server publishes, and its view of the players.
    world: Channel,
    of_players: Vec<View>,
    players: Vec<Player>,
    /// All players share one socket. Each has a connection of its own.
    server_net: Endpoint,
    player_net: Endpoint,
    server_cost: Cost,
    player_cost: Cost,
}

/// The position that a player publishes, and its view of the world.
struct Player {
    connection: ConnectionId,
    position: Channel,
    world: View,
}

impl Game {
    fn new() -> Result<Self> {
        let (world, everyone) = (Origin::default().produce(), Origin::default().produce());
        let server = Server::new().with_publish(world.consume()).with_consume(everyone.clone());
        let identity = Identity::self_signed(["localhost"])?;
        let listen = config::server(&identity, server.versions())?;
        let dial = config::client(&Trust::from(identity.fingerprint()), server.versions())?;
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server_net = Endpoint::bind(local, listen, &server)
            .with_context(|| format!("can't listen on {local}"))?;
        let mut player_net =
            Endpoint::new(local).with_context(|| format!("can't open a socket on {local}"))?;
        server_net.set_filter(lossy(1));
        player_net.set_filter(lossy(2));

        let (mut players, mut of_players) = (Vec::new(), Vec::new());
        for number in 0..PLAYERS {
            let path = format!("player/{number}");
            let (mine, theirs) = (Origin::default().produce(), Origin::default().produce());
            let client = Client::new().with_publish(mine.consume()).with_consume(theirs.clone());
            let address = server_net.local_addr()?;
            let connection = player_net.dial(address, "localhost", dial.clone(), &client)?;
            of_players.push(View::new(everyone.consume(), path.clone()));
            let position = Channel::new(mine.create_broadcast(path)?)?;
            let world = View::new(theirs.consume(), "world".into());
            players.push(Player { connection, position, world });
        }
        Ok(Self {
            number: 0,
            began: Instant::now(),
            world: Channel::new(world.create_broadcast("world")?)?,
            of_players,
            players,
            server_net,
            player_net,
            server_cost: Cost::default(),
            player_cost: Cost::default(),
        })
    }

    /// One frame of the game: read the newest states, write new ones, and run the network.
    fn frame(&mut self) -> Result<()> {
        self.number += 1;
        // A position is the number of its frame, so its age is known.
        for player in &mut self.players {
            player.world.look(self.number);
            player.position.write(&[self.number])?;
        }
        let mut state = vec![self.number];
        state.extend(self.of_players.iter_mut().map(|view| view.look(self.number).unwrap_or(0)));
        self.world.write(&state)?;

        self.server_cost.measure(&mut self.server_net)?;
        self.player_cost.measure(&mut self.player_net)?;
        while let Some(event) = self.player_net.poll_event() {
            let of = |id| self.players.iter().position(|player| player.connection == id);
            match event {
                Event::Closed { id, reason } => {
                    bail!("the session of player {} ended: {reason}", of(id).unwrap_or_default());
                }
                Event::Failed { id, error } => {
                    bail!("player {} can't join: {error}", of(id).unwrap_or_default());
                }
                _ => {}
            }
        }

        let next = self.began + FRAME * self.number as u32;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Lets the last acknowledgements and retransmissions arrive.
    fn settle(&mut self) -> Result<()> {
        let mut quiet = 0;
        while quiet < 100 {
            let items = self.server_net.step(BUDGET)?.items + self.player_net.step(BUDGET)?.items;
            quiet = if items == 0 { quiet + 1 } else { 0 };
            self.server_net.wait(Some(Duration::from_millis(2)))?;
        }
        Ok(())
    }

    /// Ends all broadcasts, and then the sessions.
    fn leave(&mut self) -> Result<()> {
        self.world.finish()?;
        for player in &mut self.players {
            player.position.finish()?;
            self.player_net.session(player.connection).inspect(|session| session.drain());
        }
        while self.player_net.connections() > 0 {
            self.server_net.step(BUDGET)?;
            self.player_net.step(BUDGET)?;
            self.player_net.wait(Some(Duration::from_millis(2)))?;
        }
        Ok(())
    }

    /// The paths of which nothing was seen.
    fn blind(&self) -> String {
        let unseen = self.views().filter(|view| view.seen == 0);
        unseen.map(|view| &*view.path).collect::<Vec<_>>().join(", ")
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        self.of_players.iter().chain(self.players.iter().map(|player| &player.world))
    }

    fn forget_statistics(&mut self) {
        (self.server_cost, self.player_cost) = (Cost::default(), Cost::default());
        let worlds = self.players.iter_mut().map(|player| &mut player.world);
        for view in self.of_players.iter_mut().chain(worlds) {
            (view.seen, view.oldest) = (0, 0);
        }
    }
}

/// A broadcast with one track. Each state is a group, since old ones are worthless.
struct Channel {
    track: TrackProducer,
    broadcast: BroadcastProducer,
}

impl Channel {
    fn new(mut broadcast: BroadcastProducer) -> smoq::Result<Self> {
        let track = Track::new("state").max_age(Duration::from_millis(500));
        Ok(Self { track: broadcast.create_track(track)?, broadcast })
    }

    fn write(&mut self, state: &[u64]) -> smoq::Result<()> {
        let bytes: Vec<u8> = state.iter().flat_map(|number| number.to_be_bytes()).collect();
        self.track.write_frame(state[0] * 1_000 / 60, bytes)
    }

    fn finish(&mut self) -> smoq::Result<()> {
        self.track.finish()?;
        self.broadcast.finish()
    }
}

/// The newest state of another channel, how often it was seen, and how old it was.
struct View {
    origin: OriginConsumer,
    path: String,
    track: Option<TrackConsumer>,
    newest: Option<u64>,
    seen: u64,
    oldest: u64,
}

impl View {
    fn new(origin: OriginConsumer, path: String) -> Self {
        Self { origin, path, track: None, newest: None, seen: 0, oldest: 0 }
    }

    /// The frame of the newest state. Never waits.
    fn look(&mut self, now: u64) -> Option<u64> {
        // A player that returns has a new broadcast under the same path.
        while let Poll::Ready(Some(change)) = self.origin.try_announced() {
            if change.path.as_str() != self.path {
                continue;
            }
            if self.track.is_some() {
                eprintln!("{} left, waiting for it to come back", self.path);
            }
            let want = Subscription::default();
            self.track = change.broadcast.and_then(|it| it.subscribe_track("state", want).ok());
        }
        let state = self.track.as_ref()?.latest_frame()?;
        let then = u64::from_be_bytes(*state.payload().first_chunk()?);
        if self.newest.replace(then) != Some(then) {
            self.seen += 1;
            self.oldest = self.oldest.max(now - then);
        }
        Some(then)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {} frames old at most", self.seen, self.oldest)
    }
}

/// The cost of the steps of one endpoint.
#[derive(Default)]
struct Cost {
    steps: u32,
    items: usize,
    time: Duration,
    worst_items: usize,
    worst_time: Duration,
}

impl Cost {
    fn measure(&mut self, net: &mut Endpoint) -> Result<()> {
        let begin = Instant::now();
        let items = net.step(BUDGET).context("the socket failed")?.items;
        let time = begin.elapsed();
        self.steps += 1;
        self.items += items;
        self.time += time;
        self.worst_items = self.worst_items.max(items);
        self.worst_time = self.worst_time.max(time);
        Ok(())
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items as f64 / f64::from(self.steps);
        let time = (self.time / self.steps).as_micros();
        write!(f, "step: worst {} items, ", self.worst_items)?;
        write!(f, "{} us; mean {items:.1} items, {time} us", self.worst_time.as_micros())
    }
}

/// Keeps 19 of 20 datagrams.
fn lossy(mut seed: u32) -> impl FnMut(&[u8]) -> bool {
    move |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % 20 != 0
    }
}
