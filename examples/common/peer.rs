//! What the examples that dial share: the options for versions and trust, and the dialing itself.

use std::ffi::OsStr;

use anyhow::Context;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, Parser};
use smoq::{Version, Versions};
use smoq_quinn::smoq_quic::{Fingerprint, Trust, Url};
use tokio::time::Instant;

/// Options of everybody who dials or is dialed.
#[derive(Args)]
pub(crate) struct PeerOptions {
    /// A version to speak instead of all, any number of times, the most wanted first. Without a value:
    /// prints that of the program, as -V
    #[arg(long = "version", value_name = "VERSION", value_parser = VersionParser)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    versions: Vec<Version>,
    /// SHA-256 of a certificate to trust instead of Mozilla's roots, any number of times
    #[arg(long = "fingerprint", value_name = "HEX", conflicts_with = "insecure")]
    fingerprints: Vec<Fingerprint>,
    /// Trusts every server that is dialed, whoever it is
    #[arg(long)]
    insecure: bool,
    /// Print version
    #[arg(short = 'V', action = ArgAction::Version)]
    print_version: Option<bool>,
}

impl PeerOptions {
    /// All versions, unless some are asked for.
    pub(crate) fn versions(&self) -> Versions {
        match &*self.versions {
            [] => Versions::default(),
            some => some.iter().copied().collect(),
        }
    }

    /// The web's roots, unless something else is asked for.
    pub(crate) fn trust(&self) -> Trust {
        match (self.insecure, &*self.fingerprints) {
            (true, _) => Trust::Insecure,
            (false, []) => Trust::WebRoots,
            (false, pins) => Trust::Pinned(pins.to_vec()),
        }
    }
}

/// What the command line says. Ends the program if that is nothing, or a question.
pub(crate) fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if error.kind() == ErrorKind::DisplayVersion {
            print!("{}", T::command().render_version());
            std::process::exit(0);
        }
        error.exit()
    })
}

/// Any spelling that [`Version`] reads; the help lists ours. No value is a question for the program's own.
#[derive(Clone)]
struct VersionParser;

impl TypedValueParser for VersionParser {
    type Value = Version;

    fn parse_ref(
        &self,
        cmd: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Version, clap::Error> {
        if value.is_empty() {
            return Err(clap::Error::new(ErrorKind::DisplayVersion));
        }
        let parser = StringValueParser::new().try_map(|name| name.parse::<Version>());
        parser.parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Version::known().map(|version| PossibleValue::new(version.name()))))
    }
}

/// Connects from a socket of its own, to the address of the host that answers first.
pub(crate) async fn dial(
    url: &Url,
    config: quinn::ClientConfig,
) -> anyhow::Result<(quinn::Endpoint, quinn::Connection)> {
    let host = url.host();
    let addresses = tokio::net::lookup_host((host, url.port()))
        .await
        .with_context(|| format!("the host {host} has no address"))
        .with_context(|| format!("can't reach {url}"))?;
    let begun = Instant::now();
    let dialed = smoq_quinn::dial(host, addresses, config).await;
    dialed.with_context(|| {
        format!("can't reach {url}, tried for {:.1} s", begun.elapsed().as_secs_f64())
    })
}
