//! The units in `packaging/`: systemd understands every line, and what they leave open is little.

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::herald::program;
use testbed::scratch::Scratch;

/// The most exposure that `systemd-analyze security` may find, of 10.0: both need the network, the agent starts knotd, which binds to
/// port 53.
const EXPOSURE_MAX: f64 = 2.0;

#[test]
fn systemd_understands_the_units() {
    if let Err(why) = Command::new("systemd-analyze").arg("--version").output() {
        eprintln!("!!! NOT TESTED: systemd-analyze can't be run: {why}");
        return;
    }
    let scratch = Scratch::new("units");
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    for (unit, daemon) in [("herald.service", "herald"), ("koder-dns-sync.service", "koder-dns-sync")] {
        let text = fs::read_to_string(packaging.join(unit)).unwrap();
        let installed = format!("ExecStart=/usr/bin/{daemon} ");
        assert!(text.contains(&installed), "{unit} starts {daemon}");
        let file = scratch.path().join(unit);
        let here = format!("ExecStart={} ", program(daemon).display());
        fs::write(&file, text.replace(&installed, &here)).unwrap();
        let analyze = |words: &[&str]| {
            let output = Command::new("systemd-analyze").args(words).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{unit}: {words:?}: {said}");
            said
        };
        // A word that it doesn't know is no failure, but is told.
        assert_eq!(analyze(&["verify"]), "", "{unit}");
        let said = analyze(&["security", "--offline=true", "--no-pager"]);
        let exposure =
            said.lines().find_map(|line| line.split_once("exposure level for")?.1.split_once(": "));
        let exposure: f64 =
            exposure.and_then(|(_, level)| level.split(' ').next()?.parse().ok()).expect("a level");
        assert!(exposure <= EXPOSURE_MAX, "{unit}: {said}");
    }
}
