//! Networks with a bottleneck, made of network namespaces: the relay, a router, and the viewers.
//!
//! ```text
//! relay 10.77.0.1 -- relay0  router0 -- router 10.77.0.254, 10.77.1.254 -- router1  viewers0 -- viewers 10.77.1.2
//! ```

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};

/// The effect of the link between relay and viewers on packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The router sends 28 Mbit/s, queues 60 ms of them, and drops the rest.
    Router,
    /// The same queue on the interface of the relay, so that the relay's own socket is what blocks or drops.
    Sender,
    /// The router has no limit and loses one packet in a hundred.
    Loss,
}

impl Link {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Sender => "sender",
            Self::Loss => "loss",
        }
    }
}

const BOTTLENECK: &str = "tbf rate 28mbit burst 32kb latency 60ms";

/// Where a process runs, and its address there.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    namespace: Option<String>,
    pub(crate) ip: Ipv4Addr,
}

impl Host {
    /// This machine.
    pub(crate) fn loopback() -> Self {
        Self { namespace: None, ip: Ipv4Addr::LOCALHOST }
    }

    /// A command that runs a program on this host. The process has the id of the program.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

/// Three namespaces that are deleted when this is dropped.
pub(crate) struct Network {
    pub(crate) relay: Host,
    router: Host,
    pub(crate) viewers: Host,
}

impl Network {
    /// Why there can be no such network here.
    pub(crate) fn obstacle() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("they need root".into());
        }
        for tool in ["ip -V", "tc -V", "nft -v", "ethtool --version", "sysctl -V"] {
            if let Err(error) = run(tool) {
                return Some(format!("{error:#}"));
            }
        }
        Self::delete_left_over();
        Self::new(Link::Loss).err().map(|error| format!("{error:#}"))
    }

    /// Deletes the namespaces of runs that were interrupted.
    fn delete_left_over() {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            let process = name.strip_prefix("smoq-").and_then(|rest| rest.split('-').next());
            if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                let _ = run(&format!("ip netns del {name}"));
            }
        }
    }

    pub(crate) fn new(link: Link) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let host = |name: &str, ip| Host { namespace: Some(format!("smoq-{id}-{name}")), ip };
        let network = Self {
            relay: host("relay", Ipv4Addr::new(10, 77, 0, 1)),
            router: host("router", Ipv4Addr::new(10, 77, 0, 254)),
            viewers: host("viewers", Ipv4Addr::new(10, 77, 1, 2)),
        };
        network.connect()?;
        network.limit(link)?;
        Ok(network)
    }

    fn namespaces(&self) -> [&str; 3] {
        [&self.relay, &self.router, &self.viewers]
            .map(|host| host.namespace.as_deref().unwrap_or_default())
    }

    fn connect(&self) -> Result<()> {
        let [relay, router, viewers] = self.namespaces();
        for namespace in [relay, router, viewers] {
            run(&format!("ip netns add {namespace}"))?;
            run(&format!("ip -n {namespace} link set lo up"))?;
        }
        let links = [(relay, "relay0", "router0"), (viewers, "viewers0", "router1")];
        for (namespace, end, other) in links {
            run(&format!(
                "ip link add {end} netns {namespace} type veth peer name {other} netns {router}"
            ))?;
        }
        let addresses = [
            (relay, "10.77.0.1", "relay0"),
            (router, "10.77.0.254", "router0"),
            (router, "10.77.1.254", "router1"),
            (viewers, "10.77.1.2", "viewers0"),
        ];
        for (namespace, address, interface) in addresses {
            run(&format!("ip -n {namespace} addr add {address}/24 dev {interface}"))?;
            run(&format!("ip -n {namespace} link set {interface} up"))?;
        }
        run(&format!("ip -n {relay} route add default via 10.77.0.254"))?;
        run(&format!("ip -n {viewers} route add default via 10.77.1.254"))?;
        run(&format!("ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        // A queue counts packets of the size that they have on a wire.
        run(&format!("ip netns exec {relay} ethtool -K relay0 gso off tso off gro off"))?;
        run(&format!("ip netns exec {router} ethtool -K router0 gro off"))
    }

    fn limit(&self, link: Link) -> Result<()> {
        let [relay, router, _] = self.namespaces();
        match link {
            Link::Router => run(&format!("tc -n {router} qdisc add dev router1 root {BOTTLENECK}")),
            Link::Sender => run(&format!("tc -n {relay} qdisc add dev relay0 root {BOTTLENECK}")),
            Link::Loss => {
                let nft = format!("ip netns exec {router} nft");
                run(&format!("{nft} add table inet loss"))?;
                run(&format!(
                    "{nft} add chain inet loss forward {{ type filter hook forward priority 0 ; }}"
                ))?;
                run(&format!(
                    "{nft} add rule inet loss forward oifname router1 numgen random mod 100 < 1 drop"
                ))
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            let _ = run(&format!("ip netns del {namespace}"));
        }
    }
}

/// Runs a command whose arguments have no spaces.
fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output();
    let output = output.with_context(|| format!("they need the command {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {}", error.trim_end());
    Ok(())
}
