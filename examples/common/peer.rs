//! Options for versions, trust and QUIC, and dialing, shared by the examples.

#[path = "transport.rs"]
mod transport;
#[path = "web_socket.rs"]
pub(crate) mod web_socket;

use std::ffi::OsStr;
use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, Parser};
use smoq::{Client, Hop, Session, Version, Versions};
use smoq_quinn::smoq_quic::{Fingerprint, InvalidUrl, Redial, Scheme, Trust, Url};
use smoq_quinn::{SessionEvent, config};
use smoq_web_transport::dial_with_fallback;
use tokio::time::Instant;

use crate::report;

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
    /// Dials the URL that a server names when it goes away. Without it the same server is dialed again
    #[arg(long)]
    follow_redirects: bool,
    #[command(flatten)]
    transport: transport::TransportOptions,
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

    /// The requested way to dial. By default it trusts the roots of the web.
    pub(crate) fn dialer(&self) -> Dialer {
        let trust = match (self.insecure, &*self.fingerprints) {
            (true, _) => Trust::Insecure,
            (false, []) => Trust::WebRoots,
            (false, pins) => Trust::Pinned(pins.to_vec()),
        };
        Dialer { trust, transport: self.transport() }
    }

    /// The requested configuration of QUIC.
    pub(crate) fn transport(&self) -> Arc<quinn::TransportConfig> {
        self.transport.config()
    }

    /// When and where to dial again.
    pub(crate) fn redial(&self, urls: &Targets) -> Redial<Url> {
        let [first, more @ ..] = &*urls.0 else { unreachable!("a list has a first URL") };
        let redial = more.iter().cloned().fold(Redial::new(first.clone()), Redial::or);
        if self.follow_redirects { redial.follow(|_| true) } else { redial }
    }
}

/// A hop that is nonzero, below 2^53 so that JavaScript can represent it, and practically unique.
pub(crate) fn random_hop() -> Result<Hop> {
    let random = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| anyhow!("the system has no random numbers"))?;
    let random: [u8; 8] = random.expose();
    Ok(Hop::new((u64::from_le_bytes(random) >> 11).max(1)))
}

/// Prints what became of a session, or of the attempt to make one.
pub(crate) fn tell(event: &SessionEvent<Url, Error>) {
    let again = |pause: &Duration| format!("dialing again in {:.1} s", pause.as_secs_f64());
    match event {
        SessionEvent::Connected { url, session } => {
            eprintln!("{url} speaks {}", session.version());
        }
        SessionEvent::Failed { url, error, pause } => {
            let silent = || format!("{url} did not answer in time");
            let why = error.as_ref().map_or_else(silent, report::sentence);
            eprintln!("{why}; {}", again(pause));
        }
        SessionEvent::Lost { url, end, pause } => {
            let again =
                pause.as_ref().map_or_else(String::new, |pause| "; ".to_owned() + &again(pause));
            match end {
                Ok(()) => eprintln!("{url} left{again}"),
                Err(error) => eprintln!("{url} lost: {error}{again}"),
            }
        }
        SessionEvent::GoingAway { url, goaway, pause, .. } => {
            let uri = goaway.uri.as_deref().map(str::escape_debug);
            let to = uri.map_or_else(String::new, |uri| format!(" for {uri}"));
            eprintln!("{url} is going away{to}; {}", again(pause));
        }
        other => eprintln!("{other:?}"),
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
    ) -> std::result::Result<Version, clap::Error> {
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

/// URLs that are tried in turn, separated by commas: `moqt://` and `https://` by QUIC and, if that does not answer soon,
/// by `wss://`; `ws://` and `wss://` by a WebSocket alone.
#[derive(Clone, Debug)]
pub(crate) struct Targets(Vec<Url>);

impl FromStr for Targets {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidUrl> {
        Ok(Self(text.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?))
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, url) in self.0.iter().enumerate() {
            write!(f, "{}{url}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Drives a session to its end, and the last packets after it.
pub(crate) type Driving = Pin<Box<dyn Future<Output = smoq::Result<()>> + Send>>;

/// A carrier that was dialed.
enum Dialed {
    Quic(quinn::Endpoint, quinn::Connection),
    WebSocket(Box<web_socket::Carrier>),
}

/// How to dial.
#[derive(Clone)]
pub(crate) struct Dialer {
    trust: Trust,
    transport: Arc<quinn::TransportConfig>,
}

impl Dialer {
    /// Dials `url`, and starts a session of `client`.
    pub(crate) async fn join(&self, url: &Url, client: &Client) -> Result<(Session, Driving)> {
        let trust = &self.trust;
        let quic = async {
            let mut config = config::client_for(url, trust, client.versions())?;
            config.transport_config(Arc::clone(&self.transport));
            let (endpoint, connection) = dial(url, config).await?;
            anyhow::Ok(Dialed::Quic(endpoint, connection))
        };
        let web_socket = async {
            let (host, is_tls) = ((url.host(), url.port()), url.scheme() != Scheme::Ws);
            let (authority, path) = (url.authority(), url.path());
            let trust = is_tls.then_some(trust);
            let dialed = web_socket::dial(host, &authority, path, trust, client.versions());
            let dialed = dialed.await.with_context(|| format!("can't reach {url}"))?;
            anyhow::Ok(Dialed::WebSocket(Box::new(dialed)))
        };
        let dialed = match url.scheme() {
            Scheme::Moqt | Scheme::Https => {
                let dialed = dial_with_fallback(quic, web_socket, &tokio::time::sleep).await;
                dialed.map_err(|error| {
                    anyhow!("{:#}. By wss, {:#}", error.preferred, error.fallback)
                })?
            }
            Scheme::Ws | Scheme::Wss => web_socket.await?,
        };
        match dialed {
            Dialed::Quic(endpoint, connection) => {
                let client = client.clone().with_path(url.path()).with_authority(url.authority());
                let joined = smoq_quinn::connect(connection, &client).await;
                let (session, driving) =
                    joined.with_context(|| format!("no session with {url}"))?;
                let driving = async move {
                    let end = driving.await;
                    endpoint.wait_idle().await;
                    end
                };
                Ok((session, Box::pin(driving)))
            }
            Dialed::WebSocket(carrier) => {
                // The request had path and authority.
                let joined = smoq_web_transport::connect(*carrier, client, tokio::time::sleep);
                let (session, driving) =
                    joined.with_context(|| format!("no session with {url}"))?;
                Ok((session, Box::pin(driving)))
            }
        }
    }
}

/// Connects from a new socket, to the address of the host that answers first.
async fn dial(
    url: &Url,
    config: quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection)> {
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
