//! The table of places: taken into use, replaced, refused.

mod support;

use std::fs;

use herald_core::Rtype;
use herald_core::steering::{AnswerMode, When};
use sha2::{Digest, Sha256};
use steering::geo::{Builder, Facts};
use steering::link::{ToAgent, ToModule};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{Agent, Knot, TestZone};

/// A table in which all of 127.0.0.0/8 is in a country.
fn table(country: [u8; 2]) -> Vec<u8> {
    let mut builder = Builder::default();
    let record = builder.record(Facts { country, ..Facts::default() });
    builder.city4(0x7f00_0000, 0x7fff_ffff, record).unwrap();
    builder.finish().write()
}

/// Announces a file, and gives back what is wrong with it.
fn announce(agent: &mut Agent, knot: &Knot, octets: &[u8], hash_of: &[u8]) -> Option<String> {
    let file = knot.file("places");
    fs::write(&file, octets).unwrap();
    let hash = Sha256::digest(hash_of).to_vec();
    agent.say(&ToModule::Geo { path: file.to_str().unwrap().into(), hash: hash.clone() });
    match agent.receive() {
        ToAgent::GeoLoaded { hash: of, problem } if of == hash => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_is_used_as_soon_as_it_is_whole() {
    let countries = |codes: &[[u8; 2]]| When { countries: codes.to_vec(), ..When::default() };
    let zone = TestZone::new("example.com.")
        .pool("de", pool(AnswerMode::All, Rtype::A, &[("192.0.2.49", 1)]))
        .pool("fr", pool(AnswerMode::All, Rtype::A, &[("192.0.2.33", 1)]))
        .pool("any", pool(AnswerMode::All, Rtype::A, &[("192.0.2.1", 1)]))
        .rules(
            "www",
            Rtype::A,
            vec![
                rule(countries(&[*b"DE"]), &["de"]),
                rule(countries(&[*b"FR"]), &["fr"]),
                rule(When::default(), &["any"]),
            ],
        );
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    let answer = |knot: &Knot| knot.ask("www.example.com.", "A").values()[0].to_owned();
    assert_eq!(answer(&knot), "192.0.2.1", "nothing is known of any place");

    let (german, french) = (table(*b"DE"), table(*b"FR"));
    let cut = &german[..german.len() - 5];
    assert!(announce(&mut agent, &knot, cut, &german).unwrap().contains("isn't the file that was announced"));
    assert!(announce(&mut agent, &knot, cut, cut).is_some(), "it is cut off");
    assert_eq!(answer(&knot), "192.0.2.1");
    assert_eq!(announce(&mut agent, &knot, &german, &german), None);
    assert_eq!(answer(&knot), "192.0.2.49");
    assert_eq!(announce(&mut agent, &knot, &french, &french), None);
    assert_eq!(answer(&knot), "192.0.2.33");
    // One that isn't whole leaves what is in use.
    assert!(announce(&mut agent, &knot, cut, cut).is_some());
    assert_eq!(answer(&knot), "192.0.2.33");
    agent.say(&ToModule::Geo { path: "/nowhere".into(), hash: vec![1; 32] });
    let ToAgent::GeoLoaded { problem: Some(problem), .. } = agent.receive() else { panic!("it isn't there") };
    assert!(problem.contains("/nowhere"), "{problem}");
    let ToAgent::Hello { geo, .. } = knot.agent().hello else { panic!("it says hello first") };
    assert_eq!(geo, Sha256::digest(&french).to_vec());

    agent.say(&ToModule::NoGeo);
    agent.synchronize();
    assert_eq!(answer(&knot), "192.0.2.1");

    // The snapshot names the table, too.
    fs::write(knot.file("places"), &german).unwrap();
    let path = knot.file("places").to_str().unwrap().to_owned();
    let geo = ToModule::Geo { path, hash: Sha256::digest(&german).to_vec() };
    let mut octets = steering::link::SNAPSHOT_MAGIC.to_vec();
    for message in [geo].into_iter().chain(zone.messages()).chain([ToModule::SnapshotEnd]) {
        steering::link::encode_frame(&message, &mut octets);
    }
    fs::write(knot.snapshot_file(), octets).unwrap();
    knot.kill();
    knot.run();
    assert_eq!(answer(&knot), "192.0.2.49");
}
