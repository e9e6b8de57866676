//! `./dev run`, as one would use it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use testbed::process::Launch;
use testbed::scratch::Scratch;
use testbed::wait::wait_for;

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");

#[test]
fn the_tour_is_right_and_a_second_start_goes_on() {
    let scratch = Scratch::new("tour-test");
    for pops in ["2", "3", "1"] {
        let output = Command::new(TESTBED)
            .args(["run", "--once", "--pops", pops, "--data"])
            .arg(scratch.path().join("data"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn it_runs_until_it_is_stopped() {
    let scratch = Scratch::new("run-test");
    let data = scratch.path().join("data");
    let koder = |line: &str| {
        let environment = fs::read_to_string(data.join("env")).unwrap();
        let script = format!("{environment}\nkoder {line}");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for start in 1..=2 {
        let mut process =
            Launch::new("run", TESTBED, scratch.path()).args(["run", "--data"]).arg(&data).start();
        wait_for(Duration::from_secs(60), "the introduction", || {
            (process.output().matches("Ctrl-C stops it").count() == start).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", process.tail()));
        let listed = koder("dns record list example.com");
        assert!(listed.contains("mx1"), "{listed}");
        assert_eq!(listed.contains("192.0.2.80"), start == 2, "{listed}");
        koder("dns record set example.com www A 192.0.2.80 --wait");
        let ended = process.stop(Duration::from_secs(30)).unwrap();
        assert!(ended.success(), "{}", process.tail());
    }
}
