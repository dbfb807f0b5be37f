//! Options for versions and trust, and dialing, shared by the examples.

use std::ffi::OsStr;

use anyhow::Context;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, Parser};
use smoq::{Version, Versions};
use smoq_quinn::smoq_quic::{Fingerprint, Trust, Url};
use tokio::time::Instant;

/// The options of examples that dial or listen.
#[derive(Args)]
pub(crate) struct PeerOptions {
    /// A version to use, most preferred first; may be repeated. Default: all of them. Without a value:
    /// print the version of the program, like -V
    #[arg(long = "version", value_name = "VERSION", value_parser = VersionParser)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    versions: Vec<Version>,
    /// SHA-256 of a certificate to trust instead of Mozilla's roots; may be repeated
    #[arg(long = "fingerprint", value_name = "HEX", conflicts_with = "insecure")]
    fingerprints: Vec<Fingerprint>,
    /// Trusts any certificate
    #[arg(long)]
    insecure: bool,
    /// Print version
    #[arg(short = 'V', action = ArgAction::Version)]
    print_version: Option<bool>,
}

impl PeerOptions {
    /// The requested versions, by default all.
    pub(crate) fn versions(&self) -> Versions {
        match &*self.versions {
            [] => Versions::default(),
            some => some.iter().copied().collect(),
        }
    }

    /// The requested trust, by default the roots of the web.
    pub(crate) fn trust(&self) -> Trust {
        match (self.insecure, &*self.fingerprints) {
            (true, _) => Trust::Insecure,
            (false, []) => Trust::WebRoots,
            (false, pins) => Trust::Pinned(pins.to_vec()),
        }
    }
}

/// Parses the command line. Ends the program if it is invalid or asks for help or the version.
pub(crate) fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if error.kind() == ErrorKind::DisplayVersion {
            print!("{}", T::command().render_version());
            std::process::exit(0);
        }
        error.exit()
    })
}

/// Accepts any spelling that [`Version`] parses, and lists ours in the help. Without a value it asks for
/// the version of the program.
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

/// Connects from a new socket, to the address of the host that answers first.
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
        format!("can't reach {url} after trying for {:.1} s", begun.elapsed().as_secs_f64())
    })
}
