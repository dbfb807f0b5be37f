//! A readable record of a run.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// One line for each input, action, opened stream and write.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(super) fn line(&mut self, text: fmt::Arguments<'_>) {
        let mut line = String::new();
        line.write_fmt(text).expect("text can be written");
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push(line);
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// A hash of all lines (FNV-1a). Equal runs have equal hashes.
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Bytes in hexadecimal, followed by their number if some are omitted.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 24;
        self.0.iter().take(SHOWN).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.0.len() > SHOWN {
            write!(f, "..({})", self.0.len())?;
        }
        Ok(())
    }
}
