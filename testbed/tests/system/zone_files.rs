//! Zone files of every style, read by us and by the servers that read such files for a living: what comes out has to be the
//! same. The files, and what we make of them, are those of herald-core's own tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use herald_core::Name;
use herald_core::zonefile::{ZoneFile, parse_zone_file, write_zone_file};
use serde_json::{Value, json};
use testbed::dns::differences;
use testbed::knot::Knot;
use testbed::platform::Platform;
use testbed::scratch::Scratch;

/// Files that BIND does not take, and what it says.
const REFUSED_BY_BIND: [(&str, &str); 2] = [
    // An export without the records at the apex that the registrar adds by itself. So do we.
    ("registrar", "has no NS records"),
    // It doesn't know the newest parameters of SVCB, nor the oldest types any more.
    ("rare-types", "syntax error"),
];

/// A file with a name in UTF-8: see [`READ_OTHERWISE`].
const INTERNATIONALISED: &str = "nsd";

/// Files that Knot 3.2 takes. The others have what it doesn't: `$GENERATE`, a relative `$ORIGIN`, CRLF, comments after blanks before the
/// first record, names in UTF-8, types that it knows by number alone.
const TAKEN_BY_KNOT: [&str; 7] =
    ["classless", "cloudflare", "cloudflare-full", "cloudns", "root-extract", "route53", "tinydns"];

/// What we and BIND both take, and read otherwise: the entries, what we make of them, and what BIND does.
const READ_OTHERWISE: [(&str, &str, &str); 3] = [
    // The TTL of an RRset is the lowest of its records (RFC 2181 §5.2), whichever comes first; a warning says so.
    (
        "a 600 A 192.0.2.1\na 300 A 192.0.2.2\n",
        "a.example.com. 300 A 192.0.2.1\na.example.com. 300 A 192.0.2.2\n",
        "a.example.com. 600 A 192.0.2.1\na.example.com. 600 A 192.0.2.2\n",
    ),
    // An offset is that of the `$` it stands at; BIND keeps it for those that follow in the same word.
    (
        "$GENERATE 1-1 ${9}-$ A 192.0.2.1\n",
        "10-1.example.com. 300 A 192.0.2.1\n",
        "10-10.example.com. 300 A 192.0.2.1\n",
    ),
    // Names are internationalised where they are written so; to BIND they are octets that nobody asks for.
    (
        "ü A 192.0.2.1\n",
        "xn--tda.example.com. 300 A 192.0.2.1\n",
        "\\195\\188.example.com. 300 A 192.0.2.1\n",
    ),
];

/// What BIND refuses and we take.
const TAKEN_BY_US_ALONE: [&str; 3] = [
    // RDATA of several fields without quotation marks.
    "$GENERATE 1-2 mx$ MX 10 mail$\n",
    // A string that is too long for one is split.
    concat!(
        "a TXT \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "012345678901234567890123456789012345678901234567890123456789\"\n"
    ),
    // A type that BIND calls obsolete.
    "a MD host\n",
];

/// What BIND takes and we refuse.
const REFUSED_BY_US_ALONE: [(&str, &str); 2] = [
    // A file that is sent to us can't name others.
    ("$INCLUDE /dev/null\n", "$INCLUDE is not possible here"),
    // It leaves such records out, with a warning that few read.
    ("www.example.org. A 192.0.2.1\n", "is not in the zone"),
];

const APEX: &str = "$TTL 300\n@ SOA ns.example.net. h.example.net. 1 2 3 4 5\n@ NS ns.example.net.\n";

struct Fixture {
    name: String,
    path: PathBuf,
    zone: Name,
}

fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../herald-core/src/testdata/zonefiles");
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "zone") {
            let text = fs::read(&path).unwrap();
            let head = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
            let zone = Name::parse(head.strip_prefix("; zone: ").expect("a first line")).unwrap();
            fixtures.push(Fixture {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                path,
                zone,
            });
        }
    }
    assert!(fixtures.len() >= 18, "{}", fixtures.len());
    fixtures
}

fn read(zone: &Name, text: &[u8]) -> Result<ZoneFile, String> {
    parse_zone_file(text, zone, None).map_err(|errors| format!("{:#?}", errors.first))
}

fn canonical(zone: &Name, file: &ZoneFile) -> String {
    let mut text = String::new();
    let soa = file.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
    write_zone_file(zone, soa, file.rrsets.iter(), &mut text).unwrap();
    text
}

/// Records as lines of owner, TTL, type and RDATA, without those of [`APEX`].
fn below_apex(zone: &Name, file: &ZoneFile) -> String {
    let mut text = String::new();
    let rrsets = file.rrsets.iter().filter(|(key, _)| key.owner != *zone);
    write_zone_file(&Name::root(), None, rrsets, &mut text).unwrap();
    text.lines().skip(1).map(|line| line.replace("\tIN\t", " ").replace('\t', " ") + "\n").collect()
}

/// What BIND makes of a file: a record a line, with all that can be left out; or what it says.
fn by_bind(zone: &Name, file: &Path) -> Result<Vec<u8>, String> {
    let mut command = Command::new("named-compilezone");
    // What it only advises against is let through: here it is about reading.
    for check in ["-k", "-M", "-S", "-W", "-n", "-m", "-r"] {
        command.args([check, "ignore"]);
    }
    let output = command
        .args(["-i", "none", "-s", "full", "-o", "-", &zone.to_string()])
        .arg(file)
        .output()
        .unwrap_or_else(|e| panic!("named-compilezone can't be run: {e}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(said) }
}

#[test]
fn bind_reads_files_as_we_do() {
    let scratch = Scratch::new("zone-files-bind");
    for Fixture { name, path, zone } in fixtures() {
        let ours = read(&zone, &fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let refused = REFUSED_BY_BIND.iter().find(|(file, _)| *file == name);
        match (by_bind(&zone, &path), refused) {
            (Ok(dumped), None) => {
                let theirs = read(&zone, &dumped).unwrap_or_else(|e| panic!("{name}, dumped by BIND: {e}"));
                if name != INTERNATIONALISED {
                    assert_eq!(canonical(&zone, &theirs), canonical(&zone, &ours), "{name}");
                }
            }
            (Err(said), Some((_, why))) => {
                assert!(said.contains(why), "{name}: {said}");
                continue;
            }
            (Ok(_), Some(_)) => panic!("BIND takes {name} after all"),
            (Err(said), None) => panic!("BIND refuses {name}: {said}"),
        }
        // And BIND reads what we export.
        let export = scratch.path().join("export");
        fs::write(&export, canonical(&zone, &ours)).unwrap();
        let dumped =
            by_bind(&zone, &export).unwrap_or_else(|e| panic!("BIND refuses the export of {name}: {e}"));
        let theirs = read(&zone, &dumped).unwrap_or_else(|e| panic!("{name}, dumped by BIND: {e}"));
        assert_eq!(canonical(&zone, &theirs), canonical(&zone, &ours), "the export of {name}");
    }
}

#[test]
fn where_bind_reads_otherwise() {
    let scratch = Scratch::new("zone-files-otherwise");
    let zone = Name::parse("example.com").unwrap();
    let by_both = |entries: &str| {
        let (text, file) = (format!("{APEX}{entries}"), scratch.path().join("file"));
        fs::write(&file, &text).unwrap();
        (read(&zone, text.as_bytes()), by_bind(&zone, &file))
    };
    for (entries, ours, theirs) in READ_OTHERWISE {
        let (we, bind) = by_both(entries);
        assert_eq!(below_apex(&zone, &we.unwrap()), ours, "{entries}");
        assert_eq!(below_apex(&zone, &read(&zone, &bind.unwrap()).unwrap()), theirs, "{entries}");
    }
    for entries in TAKEN_BY_US_ALONE {
        let (we, bind) = by_both(entries);
        assert!(we.is_ok() && bind.is_err(), "{entries}: {we:?} {bind:?}");
    }
    for (entries, why) in REFUSED_BY_US_ALONE {
        let (we, bind) = by_both(entries);
        let said = we.expect_err(entries);
        assert!(said.contains(why), "{entries}: {said}");
        assert!(bind.is_ok(), "{entries}: {bind:?}");
    }
}

#[test]
fn knot_serves_files_as_we_read_them() {
    let scratch = Scratch::new("zone-files-knot");
    let mut compared = 0;
    for Fixture { name, path, zone } in fixtures() {
        if !TAKEN_BY_KNOT.contains(&name.as_str()) {
            continue;
        }
        let original = fs::read_to_string(&path).unwrap();
        let ours = read(&zone, original.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let content = |side: &str, text: String| {
            let files = [(zone.to_string(), text)];
            Knot::of_files(scratch.path(), &format!("{name}-{side}"), &files).content(&files[0].0)
        };
        let theirs = content("file", original);
        assert!(theirs.len() > 2, "{theirs:?}");
        assert_eq!(differences(&theirs, &content("export", canonical(&zone, &ours)), 20), "", "{name}");
        compared += 1;
    }
    assert_eq!(compared, TAKEN_BY_KNOT.len());
}

/// Every type as a zone file, as JSON, at a PoP, and as an export: it stays what it is.
#[test]
fn every_type_by_file_and_by_json() {
    let platform = Platform::start("every-type", 1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../herald-core/src/testdata/zonefiles");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    // A pop's Knot is asked by its transfer, and knows no names of the newest types: it is given octets.
    let file: String =
        read("every-type.zone") + read("rare-types.zone").split_once("ns.example.net.\n").unwrap().1;
    platform.create_zone("example.com");
    platform.tenant.import("example.com", &file).expect(200);
    let rrsets = |zone: &str| -> Vec<Value> {
        let (mut items, mut after) = (Vec::new(), String::new());
        loop {
            let page = platform.tenant.get(&format!("/zones/{zone}/rrsets?limit=100{after}")).expect(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => after = format!("&cursor={cursor}"),
                None => return items,
            }
        }
    };
    let all = rrsets("example.com");
    assert!(all.len() > 100, "{}", all.len());

    // One by one as JSON into another zone, which then is the same.
    platform.create_zone("example.org");
    let moved = |text: &str| text.replace("example.com.", "example.org.");
    let changes: Vec<Value> = all
        .iter()
        .filter(|rrset| {
            !(rrset["name"] == "example.com." && (rrset["type"] == "SOA" || rrset["type"] == "NS"))
        })
        .map(|rrset| {
            json!({ "op": "put", "name": moved(rrset["name"].as_str().unwrap()), "type": rrset["type"],
                "ttl": rrset["ttl"], "records": rrset["records"] })
        })
        .collect();
    for part in changes.chunks(50) {
        platform.tenant.patch("/zones/example.org/rrsets", &json!({ "changes": part })).expect(200);
    }
    let plain = |items: &[Value]| -> BTreeSet<String> {
        let told = |item: &Value| {
            format!(
                "{} {} {} {}",
                moved(item["name"].as_str().unwrap()),
                item["type"],
                item["ttl"],
                item["records"]
            )
        };
        items.iter().filter(|item| item["type"] != "SOA").map(told).collect()
    };
    assert_eq!(plain(&rrsets("example.org")), plain(&all));

    // The export is imported as the same zone: nothing is to be done.
    let export = platform.tenant.get("/zones/example.com/export").text;
    let again = platform.tenant.import("example.com", &export).expect(200);
    let counts =
        ["rrsets_added", "rrsets_changed", "rrsets_removed"].map(|count| again["item"][count].as_u64());
    assert_eq!(counts, [Some(0); 3], "{again}");

    // The PoP holds just that, octet by octet.
    platform.wait_until_in_sync();
    let held = testbed::knot::zone_files_of(&platform.pops[0].control_socket(), &["example.com.".to_owned()]);
    let zone = Name::parse("example.com").unwrap();
    let [(_, held)] = &held.expect("the zone is there")[..] else { panic!("one zone") };
    let held = parse_zone_file(held.as_bytes(), &zone, None).unwrap_or_else(|e| panic!("{e:#?}\n{held}"));
    let exported = parse_zone_file(export.as_bytes(), &zone, None).unwrap();
    assert_eq!(canonical(&zone, &held), canonical(&zone, &exported));
}
