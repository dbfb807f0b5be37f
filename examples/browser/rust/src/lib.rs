//! A page whose client is smoq: `index.html?relay=https://HOST:PORT&fingerprint=HEX`.
//!
//! It reads the broadcast `clock` of the example of that name, shows it, and publishes what it has read as the broadcast
//! `page`, frame by frame. Each of them is a track `seconds` with a group a minute.

use std::time::Duration;

use smoq::{
    BroadcastConsumer, Client, Clock, Instant, Origin, OriginConsumer, OriginProducer, Subscription,
};
use smoq_web_transport::Timer;
use url::Url;
use wasm_bindgen::prelude::wasm_bindgen;
use web_transport_wasm::{ClientBuilder, Session as Carrier};

const TRACK: &str = "seconds";

/// Why there is no session, or no more.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("this is no page with a clock")]
    NoPage,
    #[error("the address of the page has no `{0}`")]
    Missing(&'static str),
    #[error("the fingerprint is not 64 hexadecimal digits")]
    Fingerprint,
    #[error("no URL: {0}")]
    Url(#[from] url::ParseError),
    #[error("can't reach the relay: {0}")]
    Unreachable(#[from] web_transport_wasm::Error),
    #[error("no session: {0}")]
    NoSession(#[from] smoq_web_transport::Error),
    #[error("the session was lost: {0}")]
    Lost(#[source] smoq::Error),
    #[error("nothing to read or to publish: {0}")]
    Model(#[from] smoq::Error),
}

/// The timers of the browser.
struct PageTimer(web_sys::Performance);

impl Timer for PageTimer {
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        // Rounded up, or a deadline would be waited for many times. The longest sleep that there is has 31 bits.
        let millis = duration.as_micros().div_ceil(1_000).min(i32::MAX as u128);
        gloo_timers::future::TimeoutFuture::new(millis as u32)
    }

    fn now(&self, _: &Clock) -> Instant {
        Instant::from_micros((self.0.now() * 1_000.0) as u64)
    }
}

#[wasm_bindgen(start)]
async fn main() {
    let end = match run().await {
        Ok(()) => "the session ended".to_owned(),
        Err(error) => format!("failed: {error}"),
    };
    show("state", &end);
}

/// Runs one session to its end.
async fn run() -> Result<(), Error> {
    let window = web_sys::window().ok_or(Error::NoPage)?;
    let timer = PageTimer(window.performance().ok_or(Error::NoPage)?);
    let page = Url::parse(&window.location().href().map_err(|_| Error::NoPage)?)?;

    let (received, published) = (Origin::default().produce(), Origin::default().produce());
    let client = Client::new().with_publish(published.consume()).with_consume(received.clone());
    let carrier = dial(&page, &client).await?;
    let (session, driving) = smoq_web_transport::connect(carrier, &client, timer)?;
    show("state", &format!("connected, {}", session.version()));
    let broadcasts = received.consume();
    // Only the session fills the origin now. Its end is the end of the task as well.
    drop((client, received));
    wasm_bindgen_futures::spawn_local(async move {
        if let Err(error) = repeat_all(broadcasts, published).await {
            show("clock", &error.to_string());
        }
    });
    driving.await.map_err(Error::Lost)
}

/// Dials the relay that the address of the page names.
async fn dial(page: &Url, client: &Client) -> Result<Carrier, Error> {
    let parameter = |name| {
        let found = page.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).ok_or(Error::Missing(name))
    };
    let relay = Url::parse(&parameter("relay")?)?;
    let hash = hash(&parameter("fingerprint")?).ok_or(Error::Fingerprint)?;
    let builder = ClientBuilder::new().with_protocols(client.versions().alpns());
    Ok(builder.with_server_certificate_hashes(vec![hash]).connect(relay).await?)
}

/// The SHA-256 of a certificate in hexadecimal digits.
fn hash(fingerprint: &str) -> Option<Vec<u8>> {
    let digits = fingerprint.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8));
    let digits: Vec<_> = digits.collect::<Option<_>>()?;
    (digits.len() == 64).then(|| digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect())
}

/// Reads one clock after the other, as often as one begins.
async fn repeat_all(mut broadcasts: OriginConsumer, origin: OriginProducer) -> Result<(), Error> {
    while let Some(change) = broadcasts.announced().await {
        if let (true, Some(clock)) = (change.path.as_str() == "clock", change.broadcast) {
            if let Err(error) = repeat(&clock, &origin).await {
                show("clock", &error.to_string());
            }
        }
    }
    Ok(())
}

/// Shows the clock, and publishes it as `page`.
async fn repeat(clock: &BroadcastConsumer, origin: &OriginProducer) -> Result<(), Error> {
    let mut track = clock.subscribe_track(TRACK, Subscription::default())?;
    let mut page = origin.create_broadcast("page")?;
    let mut repeated = page.create_track(TRACK)?;
    while let Some(mut group) = track.next_group().await? {
        let mut copy = repeated.create_group(group.sequence())?;
        let mut minute = None;
        while let Some(frame) = group.read_frame().await? {
            let text = String::from_utf8_lossy(frame.payload()).into_owned();
            copy.write_frame(frame.timestamp(), text.clone())?;
            match &minute {
                None => minute = Some(text),
                Some(minute) => show("clock", &format!("{minute}{text}")),
            }
        }
        copy.finish()?;
    }
    repeated.finish()?;
    page.finish()?;
    Ok(())
}

/// Replaces the text of an element.
fn show(id: &str, text: &str) {
    let document = web_sys::window().and_then(|window| window.document());
    if let Some(element) = document.and_then(|document| document.get_element_by_id(id)) {
        element.set_text_content(Some(text));
    }
}
