//! Signals that end a program.

use anyhow::Context;

/// Resolves to the name of the first SIGTERM or SIGINT (ctrl-c). Both are caught from now on.
#[cfg(unix)]
pub(crate) fn stopped() -> anyhow::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let catch = |kind| signal(kind).context("can't catch SIGTERM and SIGINT");
    let (mut terminate, mut interrupt) =
        (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Resolves at ctrl-c.
#[cfg(not(unix))]
pub(crate) fn stopped() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = tokio::signal::windows::ctrl_c().context("can't catch ctrl-c")?;
    Ok(async move {
        interrupt.recv().await;
        "ctrl-c"
    })
}
