//! What the command-line examples share: the options for versions and trust, and dialing.

use pico_args::Arguments;
use smoq::{Version, Versions};
use smoq_quinn::smoq_tls::{Trust, Url};

/// Anything that ends an example.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `--version V`, any number of them, the most wanted first.
pub(crate) fn versions(args: &mut Arguments) -> Result<Versions, Failure> {
    let named: Vec<Version> = args.values_from_str("--version")?;
    Ok(if named.is_empty() { Versions::default() } else { named.into_iter().collect() })
}

/// `--fingerprint HEX`, any number of them, or `--insecure`, or the web's roots.
pub(crate) fn trust(args: &mut Arguments) -> Result<Trust, Failure> {
    let pins = args.values_from_str("--fingerprint")?;
    Ok(match (args.contains("--insecure"), pins.is_empty()) {
        (true, _) => Trust::Insecure,
        (false, true) => Trust::WebRoots,
        (false, false) => Trust::Pinned(pins),
    })
}

/// Connects from a socket of its own.
pub(crate) async fn dial(
    url: &Url,
    config: quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), Failure> {
    let mut addresses = tokio::net::lookup_host((url.host(), url.port())).await?;
    let address = addresses.next().ok_or("the host has no address")?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let endpoint = quinn::Endpoint::client(any.parse()?)?;
    let connection = endpoint.connect_with(config, address, url.host())?.await?;
    Ok((endpoint, connection))
}
