//! A game that browsers join: one blocking thread moves the bots, shows the mice of the visitors, and serves page and
//! sessions.

use std::collections::BTreeMap;
use std::f32::consts::TAU;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use smoq::{
    BroadcastProducer, GroupProducer, Origin, OriginConsumer, Path, Server, Session, Subscription,
    Track, TrackConsumer, TrackProducer,
};
use smoq_blocking::smoq_quic::{Identity, tls};
use smoq_blocking::{Budget, ConnectionId, Endpoint, Event, config};

use crate::clock::Ticks;
use crate::pages::Pages;

const BOTS: usize = 8;
const FRAME: Duration = Duration::from_micros(16_667);
/// The time per frame for the network.
const BUDGET: Budget = Budget::time(Duration::from_millis(3));
/// A mouse that did not move for this long is not shown any more.
const ASLEEP: u64 = 60 * 10;

/// Plays until `stop` is set, or for so many frames.
pub(crate) fn run(
    address: SocketAddr,
    is_wss: bool,
    frames: Option<u64>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut game = Game::new(address, is_wss)?;
    while frames.is_none_or(|frames| game.number < frames) && !stop.load(Ordering::Relaxed) {
        game.frame()?;
    }
    game.leave()
}

struct Game {
    number: u64,
    began: Instant,
    /// The positions of everything that moves.
    world: TrackProducer,
    clock: Clock,
    broadcasts: Vec<BroadcastProducer>,
    visitors: OriginConsumer,
    /// By the paths of their broadcasts.
    mice: BTreeMap<Path, Mouse>,
    net: Endpoint,
    sessions: BTreeMap<ConnectionId, Session>,
    pages: Pages,
}

impl Game {
    fn new(address: SocketAddr, is_wss: bool) -> Result<Self> {
        let (here, there) = (Origin::default().produce(), Origin::default().produce());
        let server = Server::new().with_publish(here.consume()).with_consume(there.clone());
        let identity = Identity::self_signed(["localhost"])?;
        let quic = config::server(&identity, server.versions())?;
        let any = SocketAddr::new(address.ip(), 0);
        let mut net = Endpoint::bind(any, quic, &server)
            .with_context(|| format!("can't listen on {address}"))?;
        let listener = TcpListener::bind(any)?;
        let scheme = if is_wss { "https" } else { "http" };
        let session = serde_json::json!({
            "url": format!("https://{}/", net.local_addr()?),
            "fingerprint": identity.fingerprint().to_string(),
            "webSocket": format!("{scheme}://{}/", listener.local_addr()?),
        });
        if is_wss {
            net.set_web_socket_tls(tls::server(&identity, ["http/1.1"])?);
        }
        net.listen_web_socket(listener, &server)?;
        let pages = Pages::new(address, session.to_string())
            .with_context(|| format!("can't listen on {address}"))?;
        println!("open http://{}/", pages.local_addr()?);
        io::stdout().flush()?;

        let mut world = here.create_broadcast("world")?;
        let mut clock = here.create_broadcast("clock")?;
        let positions = Track::new("positions").max_age(Duration::from_millis(500));
        Ok(Self {
            number: 0,
            began: Instant::now(),
            world: world.create_track(positions)?,
            clock: Clock::new(clock.create_track("seconds")?)?,
            broadcasts: vec![world, clock],
            visitors: there.consume(),
            mice: BTreeMap::new(),
            net,
            sessions: BTreeMap::new(),
            pages,
        })
    }

    fn frame(&mut self) -> Result<()> {
        self.number += 1;
        self.meet();
        let state = self.positions();
        self.world.write_frame(self.number * 1_000 / 60, state)?;
        self.clock.tick(self.began.elapsed())?;
        self.net.step(BUDGET).context("the socket failed")?;
        while let Some(event) = self.net.poll_event() {
            match event {
                Event::Connected { id, session, version, remote } => {
                    println!("{remote} speaks {version}");
                    self.sessions.insert(id, session);
                }
                Event::Closed { id, reason } => {
                    println!("a visitor left: {reason}");
                    self.sessions.remove(&id);
                }
                _ => {}
            }
        }
        self.pages.step();
        let next = self.began + FRAME * self.number as u32;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Notices visitors that came or left.
    fn meet(&mut self) {
        while let Poll::Ready(Some(change)) = self.visitors.try_announced() {
            let want = Subscription::default();
            let track = change.broadcast.and_then(|it| it.subscribe_track("position", want).ok());
            match track {
                Some(track) => {
                    self.mice.insert(change.path, Mouse { track, at: [0.5; 2], moved: self.number })
                }
                None => self.mice.remove(&change.path),
            };
        }
    }

    /// The number of the frame, the number of bots, and the positions of bots and mice, between 0 and 1.
    fn positions(&mut self) -> Vec<u8> {
        let mut state = self.number.to_be_bytes().to_vec();
        state.extend((BOTS as u32).to_be_bytes());
        let mut push = |[x, y]: [f32; 2]| {
            state.extend(x.to_be_bytes());
            state.extend(y.to_be_bytes());
        };
        let seconds = self.number as f32 / 60.0;
        for bot in 0..BOTS {
            let angle = seconds + TAU * bot as f32 / BOTS as f32;
            push([0.5 + 0.4 * angle.cos(), 0.5 + 0.4 * (2.0 * angle).sin()]);
        }
        for mouse in self.mice.values_mut() {
            mouse.look(self.number);
            if self.number - mouse.moved < ASLEEP {
                push(mouse.at);
            }
        }
        state
    }

    fn leave(&mut self) -> Result<()> {
        self.world.finish()?;
        self.broadcasts.iter_mut().try_for_each(BroadcastProducer::finish)?;
        self.sessions.values().for_each(Session::drain);
        while self.net.connections() > 0 {
            self.net.step(BUDGET)?;
            self.net.wait(Some(Duration::from_millis(2)))?;
        }
        Ok(())
    }
}

/// The mouse of a visitor.
struct Mouse {
    track: TrackConsumer,
    at: [f32; 2],
    /// The frame in which it moved last.
    moved: u64,
}

impl Mouse {
    /// Takes the newest position. A visitor may send anything.
    fn look(&mut self, now: u64) {
        let Some(frame) = self.track.latest_frame() else { return };
        let [Some(x), Some(y)] = [0, 4].map(|at| frame.payload().get(at..)?.first_chunk().copied())
        else {
            return;
        };
        let at = [x, y].map(|bytes| f32::from_be_bytes(bytes).clamp(0.0, 1.0));
        if at != self.at && at.iter().all(|place| place.is_finite()) {
            (self.at, self.moved) = (at, now);
        }
    }
}

/// The same clock as the example `clock`.
struct Clock {
    ticks: Ticks,
    track: TrackProducer,
    group: Option<GroupProducer>,
    next: Duration,
}

impl Clock {
    fn new(track: TrackProducer) -> Result<Self> {
        Ok(Self { ticks: Ticks::new(wall()?), track, group: None, next: Duration::ZERO })
    }

    fn tick(&mut self, since_begin: Duration) -> Result<()> {
        if since_begin < self.next {
            return Ok(());
        }
        let tick = self.ticks.tick(wall()?, since_begin);
        self.next = tick.next;
        if let Some((sequence, minute)) = tick.begins {
            if let Some(mut last) = self.group.take() {
                last.finish()?;
            }
            let group = self.group.insert(self.track.create_group(sequence)?);
            group.write_frame(tick.timestamp, minute)?;
        }
        if let Some(group) = &mut self.group {
            group.write_frame(tick.timestamp, tick.second)?;
        }
        Ok(())
    }
}

fn wall() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")
}
