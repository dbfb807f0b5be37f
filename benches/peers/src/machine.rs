//! A description of the machine that measured the figures.

use std::fs;

use serde::{Deserialize, Serialize};

/// A description of this machine, and of the day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// "release" or "debug".
    pub(crate) profile: String,
    /// The load average of the last minute when the run began: other work on the machine spoils the figures.
    pub(crate) load: f64,
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
            value.unwrap_or("unknown").to_owned()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let load = read("/proc/loadavg");
        Self {
            date: time::OffsetDateTime::now_utc().date().to_string(),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}
