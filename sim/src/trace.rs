//! What happened, line by line: hashed always, so that two runs can be compared; shown or kept as is wanted.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write as _};

/// How many lines are kept for the account of a failure.
const LINES_KEPT: usize = 60;

/// See the module.
#[derive(Default)]
pub struct Trace {
    /// Whether lines are printed as they come.
    pub is_shown: bool,
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// Adds a line.
    pub fn line(&mut self, at_us: u64, text: Arguments<'_>) {
        let mut line = if self.lines.len() == LINES_KEPT {
            self.lines.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        let _ = write!(line, "{:>10.3} {text}", at_us as f64 / 1000.0);
        // FNV-1a.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_shown {
            println!("{line}");
        }
        self.lines.push_back(line);
    }

    /// Of all lines so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.lines.iter().fold(String::new(), |all, line| all + line + "\n")
    }
}
