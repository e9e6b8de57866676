//! The tour: what the README has one type, with every answer checked.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Site;
use crate::EXAMPLE_STEERING;
use crate::dns::{self, Answer, Asked, Transport};
use crate::herald::{Pop, program};
use crate::knot::Knot;
use crate::scratch::Scratch;
use crate::wait::{wait_for, wait_until};

const ZONE: &str = "example.com.";

/// How long a change may take to be answered everywhere; it is waited for with its receipt already.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Makes the tour.
///
/// # Errors
/// At the first answer that isn't right.
pub(super) fn make(site: &mut Site) -> Result<(), String> {
    let scratch = Scratch::new("tour");
    let begin = Instant::now();
    say(begin, "the example zone was imported");
    let questions = compare_all(site, &scratch, "imported")?;
    say(begin, &format!("all {questions} answers of {} PoPs over UDP and TCP are right", site.pops.len()));

    let set = ["dns", "record", "set", "example.com", "www", "A", "192.0.2.80", "--ttl", "60", "--wait"];
    koder(site, &set)?;
    expect(site, "www.example.com.", "A", &["192.0.2.80"])?;
    say(begin, "a change by command line is answered");

    let batch = json!({
        "message": "blog moves",
        "changes": [
            { "op": "put", "name": "blog", "type": "CNAME", "ttl": 300, "records": ["www.example.com."] },
            { "op": "add", "name": "@", "type": "TXT", "records": ["\"hello\""] },
        ],
    });
    site.tenant().patch("/zones/example.com/rrsets?wait=all", &batch).expect(200);
    expect(site, "blog.example.com.", "CNAME", &["www.example.com."])?;
    say(begin, "a batch by API is answered");
    compare_all(site, &scratch, "changed")?;

    steer(site)?;
    say(begin, "answers are steered by client subnet, by weight and by PoP");
    steer_by_place(site, &scratch)?;
    say(begin, "answers are steered by place, and explained");

    for pop in &site.pops {
        pop.kill_knotd();
        let first = first_answer(pop)?;
        if first.values("A") != ["192.0.2.80"] {
            return Err(format!("{} came back with {first:?}", pop.name));
        }
    }
    say(begin, "a killed knotd comes back, and its first answer is right");
    compare_all(site, &scratch, "restarted")?;

    site.herald.stop()?;
    expect(site, "blog.example.com.", "CNAME", &["www.example.com."])?;
    site.herald.restart();
    koder(site, &["dns", "record", "delete", "example.com", "blog", "CNAME", "--wait"])?;
    expect(site, "blog.example.com.", "CNAME", &[])?;
    say(begin, "the PoPs answer without the control plane, and follow it when it is back");

    let history: Value = site.tenant().get("/zones/example.com/history").expect(200);
    let before = history["items"][1]["id"].as_str().ok_or("the history has no change before the last")?;
    koder(site, &["dns", "zone", "diff", "example.com", before])?;
    koder(site, &["dns", "zone", "rollback", "example.com", before, "--wait"])?;
    expect(site, "blog.example.com.", "CNAME", &["www.example.com."])?;
    say(begin, "a zone is what it was before its last change");
    let questions = compare_all(site, &scratch, "last")?;
    say(begin, &format!("all {questions} answers are right"));
    Ok(())
}

/// In a zone of its own: who comes from a documentation network gets one answer, everybody else another, and what weights say.
fn steer(site: &Site) -> Result<(), String> {
    let tenant = site.tenant();
    let known = tenant.get("/zones/steered.example").status == 200;
    if !known {
        tenant.post("/zones", &json!({ "name": "steered.example" })).expect(201);
    }
    let endpoint = |name: &str, address: &str, weight: u32| json!({ "name": name, "records": { "A": [address] }, "weight": weight });
    let document = |weight: u32| {
        json!({
            "settings": { "ecs": true },
            "pools": {
                "near": { "ttl": 30, "endpoints": [endpoint("near", "192.0.2.50", 1)] },
                "all": { "ttl": 30, "answer": "one", "endpoints": [
                    endpoint("a", "192.0.2.51", 1 - weight), endpoint("b", "192.0.2.52", weight),
                ] },
                "first": { "ttl": 30, "endpoints": [endpoint("first", "192.0.2.53", 1)] },
            },
            "policies": [
                { "name": "www", "type": "A", "rules": [
                    { "name": "who is near", "when": { "prefixes": ["198.51.100.0/24"] }, "pools": ["near"] },
                    { "name": "everybody else", "pools": ["all"] },
                ] },
                { "name": "pop", "type": "A", "rules": [
                    { "when": { "pops": ["pop1"] }, "pools": ["first"] },
                    { "pools": ["all"] },
                ] },
            ],
        })
    };
    let near = Asked { subnet: Some((Ipv4Addr::new(198, 51, 100, 7).into(), 32)), ..Asked::default() };
    for (weight, address) in [(0, "192.0.2.51"), (1, "192.0.2.52")] {
        tenant.put("/zones/steered.example/steering?wait=all", &document(weight)).expect(200);
        expect(site, "www.steered.example.", "A", &[address])?;
        for (number, pop) in site.pops.iter().enumerate() {
            let asked = |name: &str, asked: &Asked| {
                dns::query_as(pop.listen, name, "A", asked)
                    .map(|(answer, scope)| (answer.values("A").join(" "), scope))
                    .map_err(|e| format!("{name} at {}: {e}", pop.name))
            };
            let told = asked("www.steered.example.", &near)?;
            if told != ("192.0.2.50".to_owned(), Some(24)) {
                return Err(format!("{} answers whom is near with {told:?}", pop.name));
            }
            let told = asked("pop.steered.example.", &Asked::default())?;
            let expected = if number == 0 { "192.0.2.53" } else { address };
            if told.0 != expected {
                return Err(format!(
                    "{} answers pop.steered.example. with {told:?}, not {expected}",
                    pop.name
                ));
            }
        }
    }
    Ok(())
}

/// The example of steering by the CLI: clients of the documentation's networks are where the little database says.
fn steer_by_place(site: &Site, scratch: &Scratch) -> Result<(), String> {
    let file = scratch.folder("steering").join("steering.yaml");
    fs::write(&file, EXAMPLE_STEERING).map_err(|e| format!("{}: {e}", file.display()))?;
    let file = file.to_str().ok_or("the folder's name is no text")?;
    koder(site, &["dns", "steering", "import", "example.com", file, "--wait"])?;
    let clients: [(&str, &[&str]); 3] = [
        ("192.0.2.0", &["192.0.2.101", "192.0.2.102"]),
        ("198.51.100.0", &["192.0.2.111", "192.0.2.112"]),
        ("203.0.113.0", &["192.0.2.121"]),
    ];
    for (client, may_be) in clients {
        for pop in &site.pops {
            let subnet = client.parse().map_err(|e| format!("{client}: {e}"))?;
            let asked = Asked { subnet: Some((subnet, 24)), ..Asked::default() };
            // The table of places comes to one PoP after the other.
            let waited = wait_until(ANSWERED_WITHIN, "an answer by place", || {
                dns::query_as(pop.listen, "app.example.com.", "A", &asked).is_ok_and(|(answer, _)| {
                    let values = answer.values("A");
                    !values.is_empty() && values.iter().all(|value| may_be.contains(&value.as_str()))
                })
            });
            waited.map_err(|e| format!("{e} for {client} at {}\n{}", pop.name, pop.tail()))?;
        }
    }
    koder(site, &["dns", "explain", "app.example.com", "A", "--client", "198.51.100.7"])
}

fn say(begin: Instant, what: &str) {
    println!("{:6.2} s  {what}", begin.elapsed().as_secs_f64());
}

/// Asks every PoP for every RRset of the zone over UDP and TCP, and for a name that isn't there, and compares the answers
/// with those of a Knot that was given the API's export. How many questions that were.
fn compare_all(site: &Site, scratch: &Scratch, step: &str) -> Result<usize, String> {
    let export = site.tenant().get("/zones/example.com/export");
    let reference = Knot::of_files(&scratch.folder(step), "reference", &[(ZONE.to_owned(), export.text)]);
    let mut questions: BTreeSet<(String, String)> =
        reference.content(ZONE).into_iter().map(|r| (r.name.clone(), r.rtype.to_string())).collect();
    questions.insert(("nobody.example.com.".to_owned(), "A".to_owned()));
    questions.insert(("any.preview.example.com.".to_owned(), "A".to_owned()));
    for pop in &site.pops {
        for (name, rtype) in &questions {
            for transport in [Transport::Udp, Transport::Tcp] {
                let ask = |server| {
                    dns::query(server, name, rtype, transport).map_err(|e| format!("{name} {rtype}: {e}"))
                };
                let expected = ask(reference.listen)?;
                let waited = wait_until(ANSWERED_WITHIN, "the right answer", || {
                    ask(pop.listen).as_ref() == Ok(&expected)
                });
                if waited.is_err() {
                    let found = ask(pop.listen);
                    return Err(format!(
                        "{name} {rtype} at {} over {transport:?}: {found:?} instead of {expected:?}",
                        pop.name
                    ));
                }
            }
        }
    }
    Ok(questions.len() * site.pops.len() * 2)
}

/// Sees that all PoPs answer with these values now.
fn expect(site: &Site, name: &str, rtype: &str, values: &[&str]) -> Result<(), String> {
    for pop in &site.pops {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = dns::query(pop.listen, name, rtype, transport).map_err(|e| e.to_string())?;
            if answer.values(rtype) != values {
                return Err(format!("{name} {rtype} at {}: {answer:?} instead of {values:?}", pop.name));
            }
        }
    }
    Ok(())
}

/// The first authoritative answer of a knotd that is coming back: while it loads, it refuses.
fn first_answer(pop: &Pop) -> Result<Answer, String> {
    wait_for(Duration::from_secs(60), "knotd to come back", || {
        dns::query(pop.listen, "www.example.com.", "A", Transport::Tcp)
            .ok()
            .filter(|answer| answer.authoritative)
    })
    .map_err(|e| format!("{e}\n{}", pop.tail()))
}

fn koder(site: &Site, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program("koder"))
        .args(arguments)
        .env("KODER_SERVER", format!("http://{}", site.plan.api))
        .env("KODER_TOKEN", &site.plan.token)
        .env("KODER_CONFIG", site.data.join("no-config"))
        .output()
        .map_err(|e| format!("koder: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "koder {}: {}\n{}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
