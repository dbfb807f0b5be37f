//! The relays: the example `relay` of this repository, and a released moq-relay.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::network::Host;
use crate::process::Process;

/// The binary that `build-relay.sh` builds; with io-uring its name has that at its end.
const MOQ_RELAY: &str = "moq-relay-0.17.10";

/// The paths of the relays' programs. A relay without a program is left out.
#[derive(Clone, Debug)]
pub(crate) struct Relays {
    ours: Option<PathBuf>,
    peer: Option<PathBuf>,
    io_uring: Option<PathBuf>,
}

impl Relays {
    /// Finds both beside this program, where cargo and `build-relay.sh` put them. Builds ours if `build`.
    pub(crate) fn find(build: bool, peer: Option<PathBuf>) -> Result<Self> {
        let this = std::env::current_exe()?;
        let profile = this.parent().context("a directory")?;
        // A test's executable is one level deeper.
        let profile = if profile.ends_with("deps") { profile.parent() } else { Some(profile) };
        let profile = profile.context("a directory")?;
        if build {
            build_ours()?;
        }
        let ours = profile.join("examples/relay");
        let built = profile.with_file_name("peers").join(MOQ_RELAY);
        let io_uring = built.with_file_name(format!("{MOQ_RELAY}-io-uring"));
        let peer = peer.unwrap_or(built);
        let present = |file: PathBuf, hint: &str| {
            let found = file.is_file();
            if !found {
                eprintln!("no {}, so its rows are left out: {hint}", file.display());
            }
            found.then_some(file)
        };
        Ok(Self {
            ours: present(ours, "cargo build --release --example relay builds it"),
            peer: present(
                peer,
                "benches/peers/build-relay.sh builds it, --relay names another one",
            ),
            io_uring: Some(io_uring).filter(|file| file.is_file()),
        })
    }

    /// The relays with their names, ours first; none without ours.
    pub(crate) fn sides(&self) -> Vec<(&'static str, RelayProgram)> {
        let Some(ours) = self.ours.clone() else { return Vec::new() };
        let peer = |program: PathBuf| RelayProgram::Peer { program, io_uring: false };
        let io_uring = |program: PathBuf| RelayProgram::Peer { program, io_uring: true };
        [("smoq", RelayProgram::Ours(ours))]
            .into_iter()
            .chain(self.peer.clone().map(|program| ("moq-relay", peer(program))))
            .chain(self.io_uring.clone().map(|program| ("moq-relay-io-uring", io_uring(program))))
            .collect()
    }
}

/// Builds the example in the profile of this program.
fn build_ours() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "smoq", "--example", "relay"]);
    command.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().context("can't start cargo")?;
    ensure!(status.success(), "cargo can't build the relay");
    Ok(())
}

/// The program of a relay.
#[derive(Clone, Debug)]
pub(crate) enum RelayProgram {
    Ours(PathBuf),
    Peer { program: PathBuf, io_uring: bool },
}

/// A relay that runs.
pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
}

impl RelayProgram {
    /// Starts the relay at the address of a host.
    pub(crate) fn start(&self, host: &Host) -> Result<Relay> {
        match self {
            Self::Ours(program) => {
                let mut command = host.command(program);
                command.arg(format!("--listen={}:0", host.ip)).stderr(Stdio::null());
                let mut process = Process::start(&mut command)?;
                let line = process.line()?;
                // "listening ADDR sha256:FINGERPRINT"
                let addr = line.split(' ').nth(1).context("no address")?.parse()?;
                Ok(Relay { process, addr })
            }
            Self::Peer { program, io_uring } => {
                let addr = SocketAddr::new(host.ip.into(), free_port()?);
                let directory = std::env::temp_dir().join(format!("moq-relay-{}", addr.port()));
                fs::create_dir_all(&directory)?;
                let config = directory.join("relay.toml");
                fs::write(&config, configuration(addr, &directory, *io_uring)?)?;
                let mut command = host.command(program);
                command.arg(&config).stderr(Stdio::null());
                let process = Process::start(&mut command)?;
                // It does not say when it listens. Its configuration is read by then.
                thread::sleep(Duration::from_millis(700));
                let _ = fs::remove_dir_all(&directory);
                Ok(Relay { process, addr })
            }
        }
    }
}

/// A port that is free for UDP and TCP, for a program that cannot choose one itself.
fn free_port() -> Result<u16> {
    loop {
        let addr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        if UdpSocket::bind(addr).is_ok() {
            return Ok(addr.port());
        }
    }
}

/// Everyone may publish and subscribe everywhere, over QUIC and `wss://` on one address. With io_uring there is a worker a
/// core. The certificate of `wss://` is written into `directory`.
fn configuration(addr: SocketAddr, directory: &Path, io_uring: bool) -> Result<String> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let runtime = match io_uring {
        true => format!("[runtime]\nworkers = {workers}\nio_uring = true\n"),
        false => String::new(),
    };
    let certified = rcgen::generate_simple_self_signed(["localhost".into()])?;
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&cert, certified.cert.pem())?;
    fs::write(&key, certified.signing_key.serialize_pem())?;
    Ok(format!(
        "[log]\nlevel = \"error\"\n[listen]\nbind = \"{addr}\"\n[listen.tls]\ngenerate = [\"localhost\"]\n\
         [web.https]\nlisten = \"{addr}\"\ncert = {cert:?}\nkey = {key:?}\n[auth]\npublic = \"**\"\n{runtime}"
    ))
}
