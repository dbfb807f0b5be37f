//! Options for QUIC.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use smoq_quinn::config;
use smoq_quinn::smoq_quic::quinn_proto::congestion::{BbrConfig, ControllerFactory, NewRenoConfig};
use smoq_quinn::smoq_quic::quinn_proto::{MtuDiscoveryConfig, TransportConfig};

/// How QUIC uses the path. Each end decides for its own packets.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TransportOptions {
    /// The congestion controller
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    congestion: Congestion,
    /// The size of the first packets in bytes, as payload of UDP. With more than the path carries, no peer is reached
    #[arg(long, value_name = "BYTES", default_value_t = 1_200)]
    #[arg(value_parser = clap::value_parser!(u16).range(1_200..=1_472))]
    initial_mtu: u16,
    /// The largest size to try on the path. At most the initial size means that none is tried
    #[arg(long, value_name = "BYTES", default_value_t = 1_452)]
    #[arg(value_parser = clap::value_parser!(u16).range(1_200..=1_472))]
    max_mtu: u16,
}

/// A congestion controller of quinn.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Congestion {
    #[default]
    Cubic,
    Bbr,
    #[value(name = "newreno")]
    NewReno,
}

impl TransportOptions {
    /// The configuration with these options.
    pub(crate) fn config(self) -> Arc<TransportConfig> {
        let congestion: Option<Arc<dyn ControllerFactory + Send + Sync>> = match self.congestion {
            // The default of `config::transport`.
            Congestion::Cubic => None,
            Congestion::Bbr => Some(Arc::new(BbrConfig::default())),
            Congestion::NewReno => Some(Arc::new(NewRenoConfig::default())),
        };
        let discovery = (self.max_mtu > self.initial_mtu).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(self.max_mtu);
            discovery
        });
        let mut transport = config::transport();
        transport.initial_mtu(self.initial_mtu).mtu_discovery_config(discovery);
        if let Some(congestion) = congestion {
            transport.congestion_controller_factory(congestion);
        }
        Arc::new(transport)
    }
}
