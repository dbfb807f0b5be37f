//! A clock: one end publishes the time (UTC), the others print it.
//!
//! ```text
//! clock publish|subscribe moqt://HOST:PORT [--broadcast NAME] [--count SECONDS]
//!       [--version V]... [--fingerprint HEX | --insecure]
//! ```
//!
//! The track `seconds` has a group a minute: first a frame `YYYY-MM-DD HH:MM:`, then every second a
//! frame `SS`. It is the same as that of the other implementations' clock, so either end can be theirs.
#![allow(clippy::disallowed_methods, reason = "a clock reads the clock")]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::Failure;
use smoq::{
    BroadcastConsumer, BroadcastProducer, Client, Origin, Subscription, Timestamp, TrackProducer,
};
use smoq_quinn::config;
use smoq_quinn::smoq_tls::Url;

const TRACK: &str = "seconds";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = pico_args::Arguments::from_env();
    let role = args.subcommand()?;
    let name: String = args.opt_value_from_str("--broadcast")?.unwrap_or_else(|| "clock".into());
    let count = args.opt_value_from_str("--count")?.unwrap_or(u64::MAX);
    let versions = common::versions(&mut args)?;
    let trust = common::trust(&mut args)?;
    let url: Url = args.free_from_str()?;
    if let Some(unknown) = args.finish().first() {
        return Err(format!("what is {unknown:?}?").into());
    }

    let origin = Origin::default().produce();
    let client = Client::new().with_versions(versions).with_path(url.path());
    let client = match role.as_deref() {
        Some("publish") => client.with_publish(origin.consume()),
        Some("subscribe") => client.with_consume(origin.clone()),
        _ => return Err("publish or subscribe?".into()),
    };
    let (endpoint, connection) =
        common::dial(&url, config::client(&trust, client.versions())?).await?;
    let (session, mut driving) = smoq_quinn::connect(connection, &client)?;

    let work = async {
        if role.as_deref() == Some("publish") {
            publish(origin.create_broadcast(&*name)?, count).await
        } else {
            let broadcast = origin.consume().announced_broadcast(&name).await;
            subscribe(broadcast.ok_or("no such path")?, count).await
        }
    };
    tokio::select! {
        end = &mut driving => {
            end?;
            return Err("the relay closed the session".into());
        }
        done = work => done?,
    }
    // What was written last is still on its way.
    drop(session);
    driving.await?;
    endpoint.wait_idle().await;
    Ok(())
}

async fn publish(mut broadcast: BroadcastProducer, mut count: u64) -> Result<(), Failure> {
    let mut track = broadcast.create_track(TRACK)?;
    while count > 0 {
        count = publish_minute(&mut track, count).await?;
    }
    track.finish()?;
    broadcast.finish()?;
    Ok(())
}

/// One group; gives how many seconds are left to publish.
async fn publish_minute(track: &mut TrackProducer, mut count: u64) -> Result<u64, Failure> {
    let start = unix_time()?;
    let minute = start.as_secs() / 60;
    let mut group = track.create_group(minute)?;
    group.write_frame(timestamp(start), date_and_minute(minute))?;
    while count > 0 {
        let now = unix_time()?;
        let second = now.as_secs();
        if second / 60 != minute {
            break;
        }
        group.write_frame(timestamp(now), format!("{:02}", second % 60))?;
        count -= 1;
        let next = Duration::from_secs(second + 1);
        // More than once if the two clocks disagree about how long that is.
        while count > 0 && unix_time()? < next {
            tokio::time::sleep(next.saturating_sub(unix_time()?)).await;
        }
    }
    group.finish()?;
    Ok(count)
}

async fn subscribe(broadcast: BroadcastConsumer, mut count: u64) -> Result<(), Failure> {
    let mut track = broadcast.subscribe_track(TRACK, Subscription::default())?;
    while let Some(mut group) = track.next_group().await? {
        let Some(base) = group.read_frame().await? else { continue };
        let base = std::str::from_utf8(&base)?.to_owned();
        while let Some(second) = group.read_frame().await? {
            println!("{base}{}", std::str::from_utf8(&second)?);
            count -= 1;
            if count == 0 {
                return Ok(());
            }
        }
    }
    Err("the clock stopped".into())
}

fn unix_time() -> Result<Duration, Failure> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// In the track's default timescale.
fn timestamp(time: Duration) -> Timestamp {
    Timestamp::new(time.as_millis() as u64)
}

/// `YYYY-MM-DD HH:MM:` of a minute since 1970, in the Gregorian calendar.
fn date_and_minute(minute: u64) -> String {
    // Years that begin in March have their leap day at the end; eras of 400 of them are all alike.
    let days = minute / (24 * 60) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:", minute / 60 % 24, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::date_and_minute;

    #[test]
    fn dates() {
        for (day, date) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (20_088, "2024-12-31"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date_and_minute(day * 1_440 + 754), format!("{date} 12:34:"));
        }
    }
}
