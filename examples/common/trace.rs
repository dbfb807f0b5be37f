//! Traces in files, written by a thread that may wait for the disk.

use std::fs::{self, File};
use std::io::Write;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use smoq::machine::trace::{Sink, TraceStopped};
use tokio::sync::mpsc::{Sender, channel};

/// The number of bytes handed to the thread at once.
const CHUNK: usize = 64 << 10;
/// The number of chunks that may wait for the disk. Beyond it the trace ends.
const WAITING: usize = 64;

/// Creates a file for each session.
#[derive(Clone)]
pub(crate) struct Files {
    directory: Arc<PathBuf>,
    last: Arc<AtomicU64>,
}

impl Files {
    /// Creates the directory if necessary, and fails if files can't be created in it.
    pub(crate) fn in_directory(directory: PathBuf) -> anyhow::Result<Self> {
        let no_traces = || format!("can't write traces to the directory {}", directory.display());
        fs::create_dir_all(&directory).with_context(no_traces)?;
        let probe = directory.join(format!("session-{}.probe", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(probe)).with_context(no_traces)?;
        Ok(Self { directory: Arc::new(directory), last: Arc::default() })
    }

    /// `None` if the file can't be created. The session is not recorded then.
    pub(crate) fn sink(&self) -> Option<Box<dyn Sink>> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let name = format!("session-{}-{number}.trace", std::process::id());
        let path = self.directory.join(name);
        let mut file = File::create(&path)
            .inspect_err(|error| eprintln!("no trace in {}: {error}", path.display()))
            .ok()?;
        let (chunks, mut written) = channel::<Vec<u8>>(WAITING);
        tokio::task::spawn_blocking(move || {
            while let Some(chunk) = written.blocking_recv() {
                if let Err(error) = file.write_all(&chunk) {
                    eprintln!("the trace in {} ends: {error}", path.display());
                    return;
                }
            }
        });
        Some(Box::new(Chunks { chunks, chunk: Vec::new() }))
    }
}

/// Collects records into chunks.
struct Chunks {
    chunks: Sender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl Sink for Chunks {
    fn write(&mut self, record: &[u8]) -> Result<(), TraceStopped> {
        self.chunk.extend_from_slice(record);
        if self.chunk.len() < CHUNK {
            return Ok(());
        }
        self.chunks.try_send(mem::take(&mut self.chunk)).map_err(|_| TraceStopped)
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if !self.chunk.is_empty() {
            // It fails if the trace has ended before.
            let _ = self.chunks.try_send(mem::take(&mut self.chunk));
        }
    }
}
