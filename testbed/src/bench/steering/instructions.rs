//! User-space instructions of knotd by query, counted by callgrind: what a noisy machine can't blur.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::flood::{self, Questions};
use super::{city_file, ours, qps};
use crate::bench::Settings;
use crate::bench::report::{Line, figure};
use crate::dns::{self, Transport};
use crate::process::{Launch, Process};
use crate::wait::wait_until;

/// Questions of a kind that are counted, after as many that aren't.
const COUNTED: usize = 2_000;

/// How long knotd may take to start under valgrind, which makes it fifty times slower.
const START_WITHIN: Duration = Duration::from_secs(300);

/// Measures.
///
/// # Panics
/// If something isn't right.
pub fn run(_: &Settings) -> Vec<Line> {
    let mut platform = ours::start(&city_file());
    // A start makes knotd's files anew; they are there still when it has ended.
    platform.pops[0].stop().unwrap_or_else(|e| panic!("{e}"));
    platform.pops[0].start();
    platform.wait_until_in_sync();
    platform.pops[0].stop().unwrap_or_else(|e| panic!("{e}"));
    let pop = &platform.pops[0];
    let config = pop.folder().join("knot/knot.conf");
    let without = config.with_file_name("without.conf");
    let text = fs::read_to_string(&config).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
    fs::write(&without, without_module(&text)).unwrap_or_else(|e| panic!("{}: {e}", without.display()));

    let (plain, plain_by_place) =
        (qps::everywhere(ours::PLAIN, "plain"), qps::by_place(ours::PLAIN, "plain"));
    let beside_steered = qps::everywhere(super::peers::ZONE, "plain");
    let base = Counted::start(&without, pop.listen);
    let (plain_alone, by_place_alone) = (base.count(&plain), base.count(&plain_by_place));
    // The same names in the same zone: what it takes to find them there is no cost of the module.
    let beside_alone = base.count(&beside_steered);
    drop(base);
    let with = Counted::start(&config, pop.listen);
    let zone = super::peers::ZONE;
    let line_of = |setting: &'static str, ours: f64, base: f64, more: f64| {
        let mut line = Line {
            bench: "steering-instructions",
            unit: "instructions a query",
            less_is_better: true,
            ours: Some(ours),
            peer: Some(base),
            setting: vec![("answers", setting.into()), ("beside", "plain, without the module".into())],
            details: vec![("more_percent", figure(Some((ours / base - 1.0) * 100.0)))],
            goals: Vec::new(),
        };
        line.goal_detail("more_percent", more);
        line
    };
    let line = |setting: &'static str, questions: &Questions, base: f64, more: f64| {
        line_of(setting, with.count(questions), base, more)
    };
    let geo = qps::by_place(zone, "geo");
    vec![
        line_of(
            "geo, by networks in the question that weren't asked for before",
            with.count_after(&geo, 0..COUNTED, COUNTED..2 * COUNTED),
            by_place_alone,
            25.0,
        ),
        line("plain, in a zone without steering", &plain, plain_alone, 8.0),
        line("not steered, beside steered names", &beside_steered, beside_alone, 8.0),
        line("weighted", &qps::everywhere(zone, "weight"), plain_alone, 15.0),
        line("view", &qps::everywhere(ours::VIEWED, "view"), plain_alone, 15.0),
        line("geo, by the client's network in the question", &geo, by_place_alone, 25.0),
        line("geo, by the source", &qps::everywhere(zone, "geo"), plain_alone, 25.0),
    ]
}

/// The configuration without our module.
fn without_module(config: &str) -> String {
    let mut kept = String::new();
    let mut is_ours = false;
    for line in config.lines() {
        // Whole sections of it, and its being named in others.
        if !line.starts_with([' ', '#']) {
            is_ours = line.starts_with("module:") || line.starts_with("mod-herald:");
        }
        if !is_ours && !line.contains("mod-herald") {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// A knotd under callgrind.
struct Counted {
    listen: SocketAddr,
    folder: PathBuf,
    process: Process,
}

impl Counted {
    fn start(config: &Path, listen: SocketAddr) -> Self {
        let folder = config.parent().expect("a file is in a folder").to_owned();
        let process = Launch::new("knotd-counted", "/usr/bin/valgrind", &folder)
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", folder.join("callgrind.out").display()))
            .args(["/usr/sbin/knotd", "-c"])
            .arg(config)
            .start();
        let mut counted = Self { listen, folder, process };
        wait_until(START_WITHIN, "knotd under valgrind", || {
            assert!(counted.process.is_running(), "knotd ended\n{}", counted.process.tail());
            dns::query(listen, &format!("plain0.{}", ours::PLAIN), "A", Transport::Udp)
                .is_ok_and(|answer| !answer.values("A").is_empty())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", counted.process.tail()));
        counted
    }

    /// Of questions that were asked before.
    fn count(&self, questions: &Questions) -> f64 {
        self.count_after(questions, 0..COUNTED, 0..COUNTED)
    }

    /// Of questions after others.
    fn count_after(&self, questions: &Questions, before: Range<usize>, counted: Range<usize>) -> f64 {
        self.ask(questions, before);
        self.control("--zero");
        self.ask(questions, counted);
        for old in self.dumps() {
            fs::remove_file(&old).unwrap_or_else(|e| panic!("{}: {e}", old.display()));
        }
        self.control("--dump");
        let dumps = self.dumps();
        let total: u64 = dumps.iter().map(|dump| total_of(dump)).sum();
        if let Some(folder) = std::env::var_os("HERALD_CALLGRIND") {
            dumps.iter().for_each(|dump| keep(dump, Path::new(&folder), questions));
        }
        total as f64 / COUNTED as f64
    }

    fn ask(&self, questions: &Questions, which: Range<usize>) {
        flood::ask_each(self.listen, questions, which)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.process.tail()));
    }

    fn control(&self, order: &str) {
        let output = Command::new("callgrind_control")
            .args([order, &self.process.id().to_string()])
            .output()
            .unwrap_or_else(|e| panic!("callgrind_control: {e}"));
        assert!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stdout));
    }

    fn dumps(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.folder).unwrap_or_else(|e| panic!("{}: {e}", self.folder.display()));
        let is_dump = |name: &str| name.starts_with("callgrind.out.");
        files
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_dump))
            .collect()
    }
}

/// Keeps a dump that has something in it, for `callgrind_annotate`: named by what was asked first.
fn keep(dump: &Path, folder: &Path, questions: &Questions) {
    if total_of(dump) > 0 {
        let name = format!("callgrind.{}.{}", questions.first_label(), total_of(dump));
        fs::copy(dump, folder.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// The instructions that a dump of callgrind tells of.
fn total_of(dump: &Path) -> u64 {
    let text = fs::read_to_string(dump).unwrap_or_else(|e| panic!("{}: {e}", dump.display()));
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    total
        .and_then(|total| total.trim().parse().ok())
        .unwrap_or_else(|| panic!("no total in {}", dump.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_module_is_taken_out_of_the_configuration() {
        let config = "server:\n    listen: ::1@53\nmodule:\n  - id: mod-herald\n    file: /x.so\nmod-herald:\n  \
                      - id: default\n    pop: p\ntemplate:\n  - id: default\n    module: mod-herald/default\n    \
                      storage: /y\n";
        let expected = "server:\n    listen: ::1@53\ntemplate:\n  - id: default\n    storage: /y\n";
        assert_eq!(super::without_module(config), expected);
    }
}
