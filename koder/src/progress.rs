//! How far something long is, on stderr, and only where that is a terminal.

use std::io::{self, IsTerminal, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar. It is drawn by whoever moves it, and by no thread of its own.
pub struct Progress(ProgressBar);

impl Progress {
    /// Of so many octets, if that is known.
    pub fn of_bytes(total: Option<u64>, is_quiet: bool) -> Progress {
        let known = "{msg:10} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Progress::new(
            total,
            if total.is_some() { known } else { "{msg:10} {bytes} {bytes_per_sec}" },
            is_quiet,
        )
    }

    /// Of so many things.
    pub fn of_items(total: u64, is_quiet: bool) -> Progress {
        Progress::new(Some(total), "{msg:10} {bar:30} {pos}/{len} {per_sec} {eta}", is_quiet)
    }

    fn new(total: Option<u64>, template: &str, is_quiet: bool) -> Progress {
        let target = match is_quiet || !io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr_with_hz(10),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(ProgressStyle::with_template(template).expect("a template of our own"));
        Progress(bar)
    }

    /// Says what is being done.
    pub fn phase(&self, words: &'static str) {
        self.0.set_message(words);
        self.0.tick();
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// Says something above the bar.
    pub fn interrupt<T>(&self, speak: impl FnOnce() -> T) -> T {
        self.0.suspend(speak)
    }

    /// A reader that moves the bar.
    pub fn watch<R: Read>(&self, reader: R) -> Watched<'_, R> {
        Watched { progress: self, reader }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What [`Progress::watch`] gives.
pub struct Watched<'p, R> {
    progress: &'p Progress,
    reader: R,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.progress.add(length as u64);
        if length == 0 {
            // All was sent; now it is the server's turn.
            self.progress.phase("judging");
        }
        Ok(length)
    }
}
