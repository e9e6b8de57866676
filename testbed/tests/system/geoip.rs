//! GeoIP databases get to PoPs, one after the other; what is no database doesn't; a damaged table is fetched anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use steering::geo::testing::{City, mmdb};
use testbed::dns::{self, Asked};
use testbed::herald::program;
use testbed::platform::Platform;
use testbed::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

fn database(built_s: u64) -> Vec<u8> {
    let record =
        |country| City { continent: "EU", country, subdivisions: &[], city: None, location: None }.record();
    let networks = [("192.0.2.0/24", "DE"), ("198.51.100.0/24", "FR"), ("2001:db8::/32", "NL")];
    mmdb(
        "GeoLite2-City",
        built_s,
        &networks.map(|(network, country)| (network.parse().unwrap(), record(country))),
    )
}

fn koder(platform: &Platform, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("koder"));
    command.args(arguments).env_clear().env("HOME", platform.folder("home"));
    command.env("KODER_SERVER", format!("http://{}", platform.herald.api));
    command.env("KODER_TOKEN", platform.herald.operator().token());
    command.output().unwrap()
}

fn shown(platform: &Platform) -> Value {
    platform.herald.operator().get("/geoip").expect(200)
}

pub fn wait_till_all_have(platform: &Platform, sha256: &Value) {
    let pops = platform.pops.len();
    wait_for(SOON, "all PoPs to have the table", || {
        let shown = shown(platform);
        let in_sync =
            shown["pops"].as_array()?.iter().filter(|pop| pop["in_sync"] == true && pop["sha256"] == *sha256);
        (in_sync.count() == pops && shown["rollout"]["state"] == "all").then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}: {}\n{}", shown(platform), platform.herald.tail()));
}

fn put(platform: &Platform, file: &Path) -> Value {
    let put = koder(platform, &["--json", "dns", "geoip", "put", file.to_str().unwrap(), "--kind", "city"]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    serde_json::from_slice::<Value>(&put.stdout).unwrap()["item"]["sha256"].clone()
}

fn tables(pop: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pop).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == "geo")).collect()
}

/// A name with an answer for Germany, one for France, and one for everybody else.
fn steer_by_place(platform: &Platform) {
    platform.create_zone("example.com");
    let pool =
        |address: &str| json!({ "ttl": 30, "endpoints": [{ "name": "one", "records": { "A": [address] } }] });
    let document = json!({
        "settings": { "ecs": true },
        "pools": { "de": pool("192.0.2.49"), "fr": pool("192.0.2.33"), "else": pool("192.0.2.100") },
        "policies": [{ "name": "www", "type": "A", "rules": [
            { "when": { "countries": ["DE"] }, "pools": ["de"] },
            { "when": { "countries": ["FR"] }, "pools": ["fr"] },
            { "pools": ["else"] },
        ] }],
    });
    platform.tenant.put("/zones/example.com/steering?wait=all", &document).expect(200);
}

/// Waits until every PoP answers clients in Germany, in France and nowhere in this way.
fn wait_for_answers(platform: &Platform, expected: [&str; 3]) {
    let clients = ["192.0.2.7", "198.51.100.7", "203.0.113.7"];
    for pop in &platform.pops {
        wait_for(SOON, "answers by place", || {
            let answered = clients.map(|client| {
                let asked = Asked { subnet: Some((client.parse().unwrap(), 32)), ..Asked::default() };
                let answer = dns::query_as(pop.listen, "www.example.com.", "A", &asked);
                answer.map(|(answer, _)| answer.values("A").join(" ")).unwrap_or_default()
            });
            (answered == expected).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
    }
}

#[test]
fn a_database_gets_to_all_pops_and_a_damaged_table_is_fetched_anew() {
    let mut platform = Platform::start("geoip", 2);
    let folder = platform.folder("databases");
    let (good, cut) = (folder.join("good.mmdb"), folder.join("cut.mmdb"));
    fs::write(&good, database(1_700_000_000)).unwrap();
    let whole = database(1_700_000_000);
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    steer_by_place(&platform);

    let refused = koder(&platform, &["dns", "geoip", "put", cut.to_str().unwrap(), "--kind", "city"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("it is no whole MaxMind database"), "{said}");
    assert_eq!(shown(&platform)["rollout"]["state"], "none");

    let first = put(&platform, &good);
    wait_till_all_have(&platform, &first);
    wait_for_answers(&platform, ["192.0.2.49", "192.0.2.33", "192.0.2.100"]);
    let explained =
        platform.tenant.get("/explain?name=www.example.com&type=A&client=198.51.100.7").expect(200);
    assert_eq!(explained["decision"]["answer"]["records"], json!(["192.0.2.33"]), "{explained}");
    let name = platform.pops[0].name.clone();
    let pop = koder(&platform, &["dns", "pop", "show", &name]);
    let pop = String::from_utf8_lossy(&pop.stdout).into_owned();
    assert!(pop.contains("GeoLite2-City of 2023-11-14T22:13:20Z"), "{pop}");
    let text = koder(&platform, &["dns", "geoip", "show"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("all PoPs get it"), "{text:?}");

    // The one before is used where the new one was damaged, and the new one is fetched again.
    fs::write(&good, database(1_800_000_000)).unwrap();
    let second = put(&platform, &good);
    assert_ne!(first, second);
    wait_till_all_have(&platform, &second);
    let geo = platform.pops[0].folder().join("geo");
    assert_eq!(tables(&geo).len(), 2, "that one and the one before");
    let path = geo.join(format!("{}.geo", second.as_str().unwrap()));
    platform.pops[0].kill();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    platform.pops[0].start();
    wait_till_all_have(&platform, &second);
    wait_for_answers(&platform, ["192.0.2.49", "192.0.2.33", "192.0.2.100"]);
    assert_ne!(fs::read(&path).unwrap(), bytes, "it was fetched anew");

    // A knotd that comes back answers by place from the first answer on, and one whose agent comes back doesn't cease to.
    platform.pops[0].kill_knotd();
    let asked = Asked { subnet: Some(("192.0.2.7".parse().unwrap(), 32)), ..Asked::default() };
    let answered = |platform: &Platform| {
        let answer = dns::query_as(platform.pops[0].listen, "www.example.com.", "A", &asked);
        answer.ok().filter(|(answer, _)| answer.authoritative).map(|(answer, _)| answer.values("A").join(" "))
    };
    let first = wait_for(SOON, "an answer of knotd", || answered(&platform)).unwrap();
    assert_eq!(first, "192.0.2.49");
    platform.pops[0].kill_agent();
    platform.pops[0].launch();
    let back = Instant::now() + Duration::from_secs(2);
    while Instant::now() < back {
        assert_eq!(answered(&platform).as_deref(), Some("192.0.2.49"), "{}", platform.pops[0].tail());
    }

    // The control plane has it after a start, and so does a PoP that was away.
    platform.pops[1].stop().unwrap();
    platform.herald.restart();
    platform.pops[1].start();
    wait_till_all_have(&platform, &second);

    let gone = koder(&platform, &["dns", "geoip", "delete", "city"]);
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    wait_for(SOON, "no PoP to have a table", || {
        let shown = shown(&platform);
        shown["pops"].as_array()?.iter().all(|pop| pop["sha256"] == json!(null)).then_some(())
    })
    .unwrap();
    wait_for_answers(&platform, ["192.0.2.100"; 3]);
}

/// A table that is damaged or gone while nobody is there to send it again: rules fall through, and the agent says why.
#[test]
fn without_a_whole_table_rules_fall_through_and_that_is_said() {
    let mut platform = Platform::start("geoip-missing", 1);
    let good = platform.folder("databases").join("good.mmdb");
    fs::write(&good, database(1_700_000_000)).unwrap();
    steer_by_place(&platform);
    let hash = put(&platform, &good);
    wait_till_all_have(&platform, &hash);
    let by_place = ["192.0.2.49", "192.0.2.33", "192.0.2.100"];
    wait_for_answers(&platform, by_place);
    let table = platform.pops[0].folder().join("geo").join(format!("{}.geo", hash.as_str().unwrap()));
    let whole = fs::read(&table).unwrap();
    for kept in [Some(whole.len() / 2), Some(0), None] {
        platform.herald.kill();
        platform.pops[0].kill();
        match kept {
            Some(octets) => fs::write(&table, &whole[..octets]).unwrap(),
            None => fs::remove_file(&table).unwrap(),
        }
        platform.pops[0].start();
        wait_for_answers(&platform, ["192.0.2.100"; 3]);
        let told = platform.pops[0].status_text();
        assert!(told.contains("the GeoIP table on the disk can't be used"), "{kept:?}: {told}");
        // It comes again by itself.
        platform.herald.restart();
        wait_till_all_have(&platform, &hash);
        wait_for_answers(&platform, by_place);
    }
}

/// A backup has the table that was in use, and a control plane that is restored from it gives that to the PoPs again.
#[test]
fn a_table_is_in_backups_and_gets_to_the_pops_again() {
    let mut platform = Platform::start("geoip-restore", 2);
    let databases = platform.folder("databases");
    steer_by_place(&platform);
    let file = databases.join("city.mmdb");
    fs::write(&file, database(1_700_000_000)).unwrap();
    let first = put(&platform, &file);
    wait_till_all_have(&platform, &first);
    let (data, backup) = (platform.herald.data(), databases.join("backup"));
    let herald = |action: &str, way: &str| {
        let done = Command::new(program("herald"))
            .args([action, "--data", data.to_str().unwrap(), way, backup.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    herald("backup", "--to");

    // Since then there is another one, and then none.
    let elsewhere = City { continent: "AS", country: "JP", subdivisions: &[], city: None, location: None };
    let all = [("192.0.2.0/24".parse().unwrap(), elsewhere.record())];
    fs::write(&file, mmdb("GeoLite2-City", 1_800_000_000, &all)).unwrap();
    let second = put(&platform, &file);
    wait_till_all_have(&platform, &second);
    wait_for_answers(&platform, ["192.0.2.100"; 3]);
    assert!(koder(&platform, &["dns", "geoip", "delete", "city"]).status.success());

    platform.herald.stop().unwrap();
    herald("restore", "--from");
    platform.herald.restart();
    wait_till_all_have(&platform, &first);
    wait_for_answers(&platform, ["192.0.2.49", "192.0.2.33", "192.0.2.100"]);
    let explained = platform.tenant.get("/explain?name=www.example.com&client=192.0.2.7").expect(200);
    assert_eq!(explained["decision"]["answer"]["records"], json!(["192.0.2.49"]), "{explained}");
}
