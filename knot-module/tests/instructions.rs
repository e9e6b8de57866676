//! Instructions that a query takes in knotd, counted by callgrind. Not run with the others, as valgrind may not be here:
//! `cargo test -p knot-module --test instructions -- --ignored --nocapture`.

mod support;

use std::fs;
use std::process::Command;

use herald_core::Rtype;
use herald_core::steering::{AnswerMode, When};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{KNOWN_DRAWS, Knot, Question, TestZone};

/// Names of each kind.
const NAMES: usize = 100;

/// Queries that are counted, after as many that aren't.
const COUNTED: usize = 2_000;

/// How much more a query may take than a plain one without the module, in percent.
const PLAIN_MORE: f64 = 8.0;
const STEERED_MORE: f64 = 15.0;

#[test]
#[ignore = "it takes valgrind, and a minute"]
fn the_module_costs_little() {
    let mut steered = TestZone::new("steered.example.");
    let mut plain = TestZone::new("plain-z.example.");
    steered = steered
        .pool(
            "pool",
            pool(AnswerMode::One, Rtype::A, &[("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.3", 3)]),
        )
        .pool("office", pool(AnswerMode::All, Rtype::A, &[("192.0.2.4", 1)]))
        .view(
            "office",
            herald_core::steering::View { prefixes: vec!["127.0.0.0/8".parse().unwrap()], pops: vec![] },
        );
    for n in 0..NAMES {
        plain.records.push(format!("plain{n} A 192.0.2.1"));
        steered.records.push(format!("plain{n} A 192.0.2.1"));
        steered = steered.policy(&format!("weigh{n}"), Rtype::A, &["pool"]);
        let inside = When { views: vec!["office".into()], ..When::default() };
        let rules = vec![rule(inside, &["office"]), rule(When::default(), &["pool"])];
        steered = steered.rules(&format!("views{n}"), Rtype::A, rules);
    }
    let zones = [&steered, &plain];
    let snapshot = snapshot(&[&steered]);
    let without = count(&zones, None, &["plain@.plain-z.example."])[0];
    let names = [
        "plain@.plain-z.example.",
        "plain@.steered.example.",
        "weigh@.steered.example.",
        "views@.steered.example.",
    ];
    let with = count(&zones, Some(&snapshot), &names);
    println!("without the module: {without:.0}");
    for ((name, count), most) in
        names.iter().zip(with).zip([PLAIN_MORE, PLAIN_MORE, STEERED_MORE, STEERED_MORE])
    {
        let more = (count / without - 1.0) * 100.0;
        println!("{name}: {count:.0}, {more:+.1}% (at most {most}%)");
        assert!(more <= most, "{name}: {more:+.1}%");
    }
}

/// Instructions by query for names of each kind, with the module if there is a snapshot.
fn count(zones: &[&TestZone], snapshot: Option<&[u8]>, names: &[&str]) -> Vec<f64> {
    let out = tempfile::tempdir().unwrap();
    let file = format!("--callgrind-out-file={}", out.path().join("out").display());
    let runner = ["valgrind", "--tool=callgrind", "--quiet", &file];
    let knot = Knot::start_by(&runner, snapshot.is_some().then_some(KNOWN_DRAWS), zones, snapshot);
    let mut counts = Vec::new();
    for name in names {
        ask(&knot, name);
        control(&knot, "--zero");
        ask(&knot, name);
        control(&knot, "--dump");
        let mut total = 0u64;
        for entry in fs::read_dir(out.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            total += text
                .lines()
                .find_map(|line| line.strip_prefix("totals: "))
                .map_or(0, |total| total.trim().parse().unwrap());
            if let Some(kept) = std::env::var_os("HERALD_CALLGRIND") {
                let to = std::path::Path::new(&kept).join(format!("{}{name}", snapshot.is_some()));
                fs::copy(&path, to).unwrap();
            }
            fs::remove_file(path).unwrap();
        }
        counts.push(total as f64 / COUNTED as f64);
    }
    counts
}

fn ask(knot: &Knot, name: &str) {
    for n in 0..COUNTED {
        let name = name.replace('@', &(n % NAMES).to_string());
        let answer = Question::new(&name, "A").id(n as u16).ask(knot.address);
        assert_eq!(answer.answers.len(), 1, "{name}: {answer:?}");
    }
}

fn control(knot: &Knot, order: &str) {
    let output = Command::new("callgrind_control").args([order, &knot.pid().to_string()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
