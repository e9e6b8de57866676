//! Instructions that a logged query takes besides what it takes anyway, counted by callgrind; `./dev bench steering-instructions` counts the
//! rest. Not run with the others, as valgrind may not be here: `cargo test -p knot-module --test instructions -- --ignored --nocapture`.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use steering::link::{LoggedZone, ToModule};
use support::agent::snapshot;
use support::{KNOWN_DRAWS, Knot, Question, TestZone};

/// Names that are asked for.
const NAMES: usize = 100;

/// Queries that are counted, after as many that aren't.
const COUNTED: usize = 2_000;

/// How many more a logged query may take.
const LOGGED_MORE: f64 = 2_000.0;

#[test]
#[ignore = "it takes valgrind, and a minute"]
fn a_logged_query_costs_little() {
    let mut zone = TestZone::new("example.com.");
    zone.records.extend((0..NAMES).map(|n| format!("plain{n} A 192.0.2.1")));
    let out = tempfile::tempdir().unwrap();
    let file = format!("--callgrind-out-file={}", out.path().join("out").display());
    let runner = ["valgrind", "--tool=callgrind", "--quiet", &file];
    let knot = Knot::start_by(&runner, KNOWN_DRAWS, &[&zone], Some(&snapshot(&[&zone])));
    let plain = count(&knot, out.path());
    let mut agent = knot.agent();
    let log =
        LoggedZone { zone: zone.id, name: zone.apex(), is_private: false, one_in: 1, left_ms: 3_600_000 };
    agent.say(&ToModule::LogQueries { zones: vec![log] });
    let logged = count(&knot, out.path());
    println!("{plain:.0}, logged {logged:.0}: {:+.0} (at most {LOGGED_MORE:+.0})", logged - plain);
    assert!((100.0..LOGGED_MORE).contains(&(logged - plain)));
}

/// Instructions by query.
fn count(knot: &Knot, out: &Path) -> f64 {
    ask(knot);
    control(knot, "--zero");
    ask(knot);
    control(knot, "--dump");
    let mut total = 0u64;
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        total += text
            .lines()
            .find_map(|line| line.strip_prefix("totals: "))
            .map_or(0, |total| total.trim().parse().unwrap());
        fs::remove_file(path).unwrap();
    }
    total as f64 / COUNTED as f64
}

fn ask(knot: &Knot) {
    for n in 0..COUNTED {
        let name = format!("plain{}.example.com.", n % NAMES);
        let answer = Question::new(&name, "A").id(n as u16).ask(knot.address);
        assert_eq!(answer.answers.len(), 1, "{name}: {answer:?}");
    }
}

fn control(knot: &Knot, order: &str) {
    let output = Command::new("callgrind_control").args([order, &knot.pid().to_string()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
