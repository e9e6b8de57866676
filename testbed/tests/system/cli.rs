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

/// A folder of zone files, of which some are wrong: each error is told with its place, and the others are imported; then the
/// wrong ones are put right, and the folder is imported again.
#[test]
fn a_folder_of_zone_files() {
    let platform = Platform::start("cli-folder", 0);
    let shell = Shell { platform: &platform, home: platform.folder("home") };
    let folder = shell.home.join("zones");
    fs::create_dir(&folder).unwrap();
    let soa = "@ 3600 IN SOA ns.old.example. host.old.example. 1 2 3 4 5\n";
    let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
    write("good.example.zone", &format!("{soa}www 300 IN A 192.0.2.1\n"));
    write(
        "db.other.example",
        "$ORIGIN other.example.\n$TTL 60\n@ SOA ns.old.example. h.old.example. 1 2 3 4 5\nwww A 192.0.2.2\n",
    );
    write("there.example.zone", &format!("{soa}new 300 IN A 192.0.2.3\n"));
    write(
        "bad.example.zone",
        &format!(
            "{soa}www 300 IN A 192.0.2.1\nfirst 300 IN A 192.0.2\n\nsecond 300 IN MX ten mail\n  300 NOSUCH x\n"
        ),
    );
    write("cname.example.zone", &format!("{soa}a 300 IN CNAME b\na 300 IN A 192.0.2.1\n"));
    shell.ok("dns zone create there.example");
    shell.ok("dns record set there.example old A 192.0.2.9");

    // What would happen is told without its happening.
    let said = shell.exits("dns zone import zones --dry-run", 1);
    assert!(said.contains("2 of 5 files"), "{said}");
    shell.exits("dns zone show good.example", 3);

    let output = shell.run("dns zone import zones");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), out.as_ref()), (Some(1), "imported 3 of 5 files\n"), "{err}");
    // All errors of a file, not only the first, and none of the files that are right.
    for expected in [
        "zones/bad.example.zone: ",
        "line 3, column 16: ",
        "line 5, column 18: ",
        "line 6, column 7: unknown record type \"NOSUCH\"",
        "zones/cname.example.zone: ",
    ] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    assert!(
        !err.contains("good.example") && !err.contains("other.example") && !err.contains("there.example"),
        "{err}"
    );

    // Nothing is half made: of a wrong file there is no zone, and each of the others is its file.
    for zone in ["bad.example", "cname.example"] {
        shell.exits(&format!("dns zone show {zone}"), 3);
    }
    for (zone, record) in
        [("good.example", "192.0.2.1"), ("other.example", "192.0.2.2"), ("there.example", "192.0.2.3")]
    {
        assert!(shell.ok(&format!("dns record list {zone}")).contains(record), "{zone}");
    }
    assert!(!shell.ok("dns record list there.example").contains("192.0.2.9"));

    write("bad.example.zone", &format!("{soa}www 300 IN A 192.0.2.1\n"));
    write("cname.example.zone", &format!("{soa}a 300 IN CNAME b\n"));
    assert_eq!(shell.ok("dns zone import zones"), "imported 5 of 5 files\n");
    let zones: Value = serde_json::from_str(&shell.ok("--json dns zone list")).unwrap();
    assert_eq!(zones["items"].as_array().unwrap().len(), 5, "{zones}");
}

#[test]
fn steering_by_command_line() {
    let platform = Platform::start("cli-steering", 0);
    let shell = Shell { platform: &platform, home: platform.folder("home") };
    let document = "\
settings: {ecs: true}
views:
  office: {prefixes: [10.0.0.0/8]}
pools:
  eu:
    endpoints:
      - {name: fra1, records: {A: [192.0.2.1]}, weight: 3, location: {latitude: 50.1, longitude: 8.7}}
      - {name: ams1, records: {A: [192.0.2.2]}, weight: 1}
policies:
  - name: www
    type: A
    rules:
      - {when: {countries: [NO, SE]}, pools: [eu], nearest: true}
      - {pools: [eu]}
overlays:
  - {view: office, name: intranet, type: A, ttl: 60, records: [10.0.0.1]}
";
    fs::write(shell.home.join("steering.yaml"), document).unwrap();
    fs::write(shell.home.join("bad.yaml"), document.replace("weight: 3", "weight: 3000000")).unwrap();
    shell.ok("dns zone create example.com");
    shell.ok("dns steering import example.com steering.yaml --dry-run");
    let refused = shell.exits("dns steering import example.com bad.yaml", 6);
    assert!(refused.contains("/pools/eu/endpoints/0/weight"), "{refused}");
    shell.ok("dns steering import example.com steering.yaml");

    // What comes out goes in again, and nothing changes by it.
    let exported = shell.ok("dns steering export example.com");
    fs::write(shell.home.join("again.yaml"), &exported).unwrap();
    let before: Value = serde_json::from_str(&shell.ok("--json dns zone show example.com")).unwrap();
    shell.ok("dns steering import example.com again.yaml");
    let after: Value = serde_json::from_str(&shell.ok("--json dns zone show example.com")).unwrap();
    assert_eq!(before["revision"], after["revision"], "{exported}");
    assert_eq!(shell.ok("dns steering export example.com"), exported);

    shell.ok("dns pool weight example.com eu ams1 3");
    shell.ok("dns pool drain example.com eu fra1");
    assert!(shell.ok("dns pool show example.com eu").contains("drained"));
    shell.ok("dns pool enable example.com eu fra1");
    shell.exits("dns pool delete example.com eu", 6);
    shell.ok("dns policy set example.com api A --pool eu");
    assert!(shell.ok("dns policy list example.com").contains("everybody"));
    shell.ok("dns view set example.com lab --prefix 192.168.0.0/16");
    shell.ok("dns view hide example.com lab www ANY");
    assert!(shell.ok("dns view show example.com lab").contains("(hidden)"));
    shell.ok("dns view remove example.com lab www ANY");
    shell.ok("dns view delete example.com lab");
    assert!(shell.ok("dns steering show example.com").contains("intranet"));
    shell.ok("dns steering lint example.com");

    let explained = shell.ok("dns explain www.example.com A --client 203.0.113.7");
    assert!(
        explained.contains("50.0 %") && explained.contains("not for this client: countries"),
        "{explained}"
    );
    let explained = shell.ok("dns explain intranet.example.com --client 10.1.2.3");
    assert!(explained.contains("of a view") && explained.contains("10.0.0.1"), "{explained}");
}
