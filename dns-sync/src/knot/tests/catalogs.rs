//! Several catalogs, and knotds that were started with another number of them.

use std::process::{Command as Process, Stdio};

use super::*;
use crate::knot::catalog::Catalogs;

/// Starts a knotd as an earlier agent would have, and waits until it answers.
fn start_by_hand(hooks: &TestHooks, config: &str) {
    fs::write(hooks.knot.config_file(), config).unwrap();
    let child = Process::new("knotd")
        .arg("-c")
        .arg(hooks.knot.config_file())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Nobody waits for its end but the supervisor, by its PID.
    std::thread::spawn(move || drop({ child }.wait()));
    let deadline = Instant::now() + DEADLINE;
    while !catalog::are_loaded(&hooks.knot.control_socket(), DEADLINE, &hooks.knot.catalog) {
        assert!(Instant::now() < deadline, "knotd does not start");
        std::thread::yield_now();
    }
}

/// Adopts a knotd that was started by `start`, changes all that can be changed, and has it start anew.
fn adopt(start: impl FnOnce(&mut TestHooks)) {
    let mut zones = hundred_zones();
    let pop = Pop::start_on(zones.clone(), Limits::default(), |hooks| {
        let mut hooks = hooks.clone();
        hooks.knot.install().unwrap();
        start(&mut hooks);
    });
    assert_eq!(pop.seen.recv_timeout(DEADLINE).unwrap(), Seen::Up { adopted: true });
    pop.do_ok(&zones[0].apex.clone(), Task::Delta(zones[0].change_a([192, 0, 2, 7])));
    let new: Vec<TestZone> = (0..20).map(|number| TestZone::new(&format!("new{number}.test"), 1)).collect();
    let job = |(tag, zone): (u64, &TestZone), task| Job { zone: zone.apex.clone().into(), tag, task };
    pop.driver.submit((0..).zip(&new).map(|at| job(at, Task::Put(at.1.put()))).collect());
    assert!(pop.wait_done(0..20).values().all(Result::is_ok), "{}", pop.log());
    pop.driver.submit((0..).zip(&zones[1..]).map(|at| job(at, Task::Remove)).collect());
    assert!(pop.wait_done(0..99).values().all(Result::is_ok), "{}", pop.log());
    assert_eq!((pop.ask_soa(&zones[1].apex).rcode, pop.serial(&new[19].apex)), (5, Some(1)));
    assert_eq!(pop.address_of_a(&zones[0].apex), ["192.0.2.7"]);

    // It comes back with the number of catalogs that is meant now.
    {
        let mut replica = pop.replica.lock().unwrap();
        zones[1..].iter().for_each(|zone| drop(replica.remove(&zone.apex)));
        replica.insert(zones[0].apex.clone(), zones[0].clone());
        replica.extend(new.iter().map(|zone| (zone.apex.clone(), zone.clone())));
    }
    rustix::process::kill_process(pop.pid(), Signal::KILL).unwrap();
    pop.wait_seen(&Seen::Up { adopted: false });
    pop.wait_report(&Report::Settled);
    let mut connection = Connection::open(&pop.knot.control_socket(), DEADLINE).unwrap();
    let running = catalog::running(&mut connection, &pop.knot.catalog).unwrap().unwrap();
    connection.close();
    assert_eq!(running.catalogs, pop.knot.catalogs());
    assert_eq!((pop.serial(&zones[0].apex), pop.serial(&new[0].apex)), (Some(2), Some(1)));
    assert_eq!(pop.ask_soa(&zones[1].apex).rcode, 5);
}

#[test]
fn a_knotd_with_the_one_catalog_of_the_first_agents_is_adopted() {
    adopt(|hooks| {
        hooks.knot.catalog_count = 1;
        hooks.materialize().unwrap();
        let file = hooks.knot.catalog_dir().join(catalog::file_name(0));
        let (old, new) = ("catalog.herald.invalid.", "c0.catalog.herald.invalid.");
        let members = fs::read_to_string(&file).unwrap().replace(new, old);
        fs::write(file, members).unwrap();
        start_by_hand(hooks, &hooks.knot.render(None).replace(new, old));
    });
}

#[test]
fn a_knotd_with_another_number_of_catalogs_is_adopted() {
    adopt(|hooks| {
        hooks.knot.catalog_count = 11;
        hooks.materialize().unwrap();
        start_by_hand(hooks, &hooks.knot.render(None));
    });
}

#[test]
fn a_knotd_with_zones_of_its_own_is_not_adopted() {
    let pop = Pop::start_on(hundred_zones(), Limits::default(), |hooks| {
        let mut hooks = hooks.clone();
        hooks.knot.install().unwrap();
        hooks.materialize().unwrap();
        start_by_hand(&hooks, &hooks.knot.render(None));
        // It goes on with its old configuration until it's told to reload.
        let mut config = hooks.knot.render(None);
        config.push_str("  - domain: \"mine.test.\"\n");
        fs::write(hooks.knot.config_file(), config).unwrap();
        let mut batch = Batch::new();
        batch.push(Command::Reload, &[]).unwrap();
        ctl::run_batch(&hooks.knot.control_socket(), DEADLINE, &batch, |_| {}).unwrap();
    });
    assert_eq!(pop.seen.recv_timeout(DEADLINE).unwrap(), Seen::Materialized);
    assert_eq!(pop.seen.recv_timeout(DEADLINE).unwrap(), Seen::Up { adopted: false });
    assert_eq!(pop.ask_soa(&name("mine.test.")).rcode, 5);
}

#[test]
fn catalogs_are_known_by_their_names() {
    let base = name("catalog.test.");
    for count in [1, 2, 11, 64, 300] {
        let catalogs = Catalogs::numbered(&base, count);
        let mut zones = catalogs.names().to_vec();
        zones.reverse();
        assert_eq!(Catalogs::of_zones(&base, zones.clone()), Some(catalogs.clone()));
        zones[0] = name("c7.other.test.");
        assert_eq!(Catalogs::of_zones(&base, zones), None);
        let hundred = (0..1_000).map(|number| name(&format!("z{number}.test.")));
        let mut members = vec![0; usize::from(count)];
        hundred.for_each(|zone| members[catalogs.index_of(&zone)] += 1);
        let most = members.iter().max().unwrap();
        assert!(*most <= 1_000 / usize::from(count) * 2 + 10, "{members:?}");
    }
    assert_eq!(Catalogs::of_zones(&base, vec![base.clone()]).unwrap().names(), std::slice::from_ref(&base));
    assert_eq!(Catalogs::of_zones(&base, Vec::new()), None);
}

#[test]
fn members_are_read_from_files_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let members: Vec<Name> = ["one.test.", "a\\.b.test.", "\\000\\255.test.", "."].map(name).into();
    for count in [5, 2] {
        let catalogs = Catalogs::numbered(&name("catalog.test."), count);
        catalog::write_files(dir.path(), &catalogs, 1, &members).unwrap();
        let files = catalog::files_in(dir.path());
        assert_eq!(files.len(), usize::from(count));
        let mut found: Vec<Name> =
            files.iter().flat_map(|file| catalog::members_in_file(file).unwrap()).collect();
        found.sort_unstable();
        let mut wanted = members.clone();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }
}
