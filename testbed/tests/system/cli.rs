//! The real `koder` against a real control plane.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use testbed::herald::program;
use testbed::platform::Platform;

/// A shell's worth of `koder`, logged in by the environment.
struct Shell<'a> {
    platform: &'a Platform,
    home: PathBuf,
}

impl Shell<'_> {
    fn run(&self, line: &str) -> Output {
        Command::new(program("koder"))
            .args(line.split(' '))
            .env_clear()
            .env("HOME", &self.home)
            .env("KODER_SERVER", format!("http://{}", self.platform.herald.api))
            .env("KODER_TOKEN", self.platform.tenant.token())
            .current_dir(&self.home)
            .output()
            .expect("koder can be run")
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.exits(line, 0)
    }

    #[track_caller]
    fn exits(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "koder {line}\n{out}{err}");
        if code == 0 { out } else { err.into_owned() }
    }
}

#[test]
fn zones_and_records_by_command_line() {
    let platform = Platform::start("cli", 0);
    let shell = Shell { platform: &platform, home: platform.folder("home") };
    fs::write(shell.home.join("example.zone"), testbed::EXAMPLE_ZONE).unwrap();

    shell.ok("dns zone create example.com");
    shell.ok("dns zone import example.zone --zone example.com --dry-run");
    assert!(!shell.ok("dns record list example.com").contains("mx1"));
    shell.ok("dns zone import example.zone --zone example.com");
    assert!(shell.ok("dns record list example.com").contains("mx1"));

    shell.ok("dns record set example.com www A 192.0.2.80 --ttl 60");
    shell.ok("dns record add example.com www A 192.0.2.81");
    let listed: Value =
        serde_json::from_str(&shell.ok("--json dns record list example.com --type A")).unwrap();
    let www = listed["items"].as_array().unwrap().iter().find(|r| r["name"] == "www.example.com.").unwrap();
    assert_eq!(www["records"], serde_json::json!(["192.0.2.80", "192.0.2.81"]));
    shell.ok("dns record delete example.com www A --dry-run");
    shell.ok("dns record delete example.com www A");

    let zones: Value = serde_json::from_str(&shell.ok("--json dns zone list")).unwrap();
    assert_eq!(zones["items"][0]["name"], "example.com.");
    let export = shell.ok("dns zone export example.com");
    assert!(export.contains("mx1.example.com."), "{export}");
    shell.ok("dns zone delete example.com --yes");
    assert!(shell.exits("dns zone show example.com", 3).contains("example.com"));
}

#[test]
fn exit_codes_mean_something() {
    let platform = Platform::start("cli-codes", 0);
    let shell = Shell { platform: &platform, home: platform.folder("home") };
    shell.ok("dns zone create example.com");
    shell.exits("dns zone", 2);
    shell.exits("dns zone show nobody.example", 3);
    shell.exits("dns pop list", 4);
    shell.exits("dns zone create example.com", 5);
    let invalid = shell.exits("dns record set example.com www A 192.0.2.256", 6);
    assert!(invalid.contains("192.0.2.256"), "{invalid}");
    shell.exits("--server http://127.0.0.1:9 dns zone list", 8);
    assert!(shell.ok("completions bash").contains("koder"));
}
