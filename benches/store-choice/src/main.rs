//! Measures the candidates for Herald's embedded store. See docs/decisions/0001-embedded-store.md.
//!
//!     cargo run --release                    everything, about ten minutes
//!     cargo run --release -- commits|size|faults [directory for the stores]
//!
//! Every measurement runs in a child process of its own, so that one store's memory and threads do
//! not weigh on the next, and the candidates take turns within a round, so that a slow spell of the machine
//! hits them all.

mod stores;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stores::{Error, NAMES};

const GROUPS: [usize; 4] = [1, 16, 64, 120];
const DELAYS_US: [u64; 2] = [0, 5000];
const ROUNDS: usize = 3;
const SECONDS_A_RUN: f64 = 1.5;
const MANY: u64 = 1_000_000;
const FLIPS: u64 = 150;
const FAULT_ENTRIES: u64 = 2000;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let directory = |at: usize| {
        words.get(at).map_or_else(|| std::env::temp_dir().join("herald-store-choice"), PathBuf::from)
    };
    match words.as_slice() {
        ["child", rest @ ..] => child(rest),
        [] | ["all"] => {
            commits(&directory(1))?;
            size(&directory(1))?;
            faults(&directory(1))
        }
        ["commits", ..] => commits(&directory(1)),
        ["size", ..] => size(&directory(1)),
        ["faults", ..] => faults(&directory(1)),
        _ => Err("usage: store-choice [commits|size|faults [directory]]".into()),
    }
}

// ---- the three measurements -------------------------------------------------------------------------

/// Commit rate and latency by size of the group, with and without slow syncs.
fn commits(base: &Path) -> Result<(), Error> {
    // (delay, group, store) -> one line of figures a round.
    let mut figures: BTreeMap<(u64, usize, usize), Vec<[f64; 5]>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for delay in DELAYS_US {
            for group in GROUPS {
                for (index, name) in NAMES.iter().enumerate() {
                    let dir = fresh(base)?;
                    let out = run(
                        &["commits", name, path(&dir), &group.to_string(), &SECONDS_A_RUN.to_string()],
                        Some(delay),
                    )?;
                    figures.entry((delay, group, index)).or_default().push(numbers(&out)?);
                }
            }
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    println!("| sync delay | group | store | commits/s | entries/s | median ms | p99 ms | syncs a commit |");
    println!("|---|---|---|---|---|---|---|---|");
    for ((delay, group, index), rounds) in figures {
        // The median round for each figure.
        let [rate, median, p99, syncs, _] = std::array::from_fn(|column| {
            let mut values: Vec<f64> = rounds.iter().map(|line| line[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        println!(
            "| {} ms | {group} | {} | {rate:.0} | {:.0} | {median:.2} | {p99:.2} | {syncs:.2} |",
            delay / 1000,
            NAMES[index],
            rate * group as f64
        );
    }
    Ok(())
}

/// Memory, disk and reopen time with a million entries, after a clean end and after kill -9.
fn size(base: &Path) -> Result<(), Error> {
    println!(
        "| store | filled in s | memory after filling MB | disk MB | reopen ms | scan s | memory after scan MB | reopen after kill -9 ms | entries lost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for name in NAMES {
        let dir = fresh(base)?;
        let [filled, memory, ..]: [f64; 5] = numbers(&run(&["fill", name, path(&dir), "0", "clean"], None)?)?;
        let disk = files(&dir)?.iter().map(|(_, length)| length).sum::<u64>() as f64 / 1e6;
        let [reopen, scan, memory_scan, head, _]: [f64; 5] =
            numbers(&run(&["open", name, path(&dir)], None)?)?;
        assert_eq!(head, MANY as f64, "{name} lost entries over a clean end");
        let acknowledged = fill_and_kill(name, &dir, 3000)?;
        let [reopen_killed, _, _, head, _]: [f64; 5] = numbers(&run(&["open", name, path(&dir)], None)?)?;
        let lost = (MANY + acknowledged) as f64 - head;
        println!(
            "| {name} | {filled:.1} | {memory:.0} | {disk:.0} | {reopen:.1} | {scan:.2} | {memory_scan:.0} | {reopen_killed:.1} | {} |",
            lost.max(0.0)
        );
    }
    Ok(())
}

/// What a candidate says about one flipped byte, after a clean end and after kill -9.
fn faults(base: &Path) -> Result<(), Error> {
    println!(
        "| store | end | harmless | error | panic | hangs | tail lost silently | wrong content silently |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for name in NAMES {
        for end in ["clean", "kill"] {
            let original = fresh(&base.join("original"))?;
            let entries = if end == "clean" {
                run(&["fill", name, path(&original), &FAULT_ENTRIES.to_string(), "clean"], None)?;
                FAULT_ENTRIES
            } else {
                fill_and_kill(name, &original, FAULT_ENTRIES)?
            };
            let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
            for flip in 0..FLIPS {
                let copy = fresh(&base.join("copy"))?;
                copy_tree(&original, &copy)?;
                flip_byte(&copy, flip)?;
                *outcomes.entry(verify(name, &copy, entries)?).or_default() += 1;
            }
            let count = |what: &str| outcomes.get(what).copied().unwrap_or(0);
            println!(
                "| {name} | {end} | {} | {} | {} | {} | {} | {} |",
                count("harmless"),
                count("error"),
                count("panic"),
                count("hangs"),
                count("tail"),
                count("wrong")
            );
        }
    }
    Ok(())
}

// ---- what a child does ------------------------------------------------------------------------------

fn child(words: &[&str]) -> Result<(), Error> {
    match words {
        ["commits", name, dir, group, seconds] => {
            let group: usize = group.parse()?;
            let mut store = stores::open(name, Path::new(dir))?;
            let mut latencies = Vec::new();
            let mut next = 1;
            let syncs_before = syncs();
            let start = Instant::now();
            let limit = Duration::from_secs_f64(seconds.parse()?);
            while start.elapsed() < limit {
                let entries = group_of(next, group);
                let before = Instant::now();
                store.append(next, &entries)?;
                latencies.push(before.elapsed().as_secs_f64() * 1e3);
                next += group as u64;
            }
            let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
            let syncs_a_commit = (syncs() - syncs_before) as f64 / latencies.len() as f64;
            latencies.sort_by(f64::total_cmp);
            let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
            println!("{rate} {} {} {syncs_a_commit} 0", at(0.5), at(0.99));
        }
        ["fill", name, dir, count, end] => {
            let mut store = stores::open(name, Path::new(dir))?;
            let count = if *count == "0" { MANY } else { count.parse()? };
            let start = Instant::now();
            let first = store.head()? + 1;
            let mut next = first;
            while next < first + count {
                let group = 120.min(first + count - next) as usize;
                store.append(next, &group_of(next, group))?;
                next += group as u64;
                if *end == "kill" {
                    // What is printed was acknowledged.
                    println!("{}", next - first);
                }
            }
            if *end == "kill" {
                // The store stays open until the parent kills this process.
                std::thread::sleep(Duration::from_secs(60));
            }
            println!("{} {} 0 0 0", start.elapsed().as_secs_f64(), resident_mb());
        }
        ["open", name, dir] => {
            let start = Instant::now();
            let store = stores::open(name, Path::new(dir))?;
            let head = store.head()?;
            let reopen = start.elapsed().as_secs_f64() * 1e3;
            let start = Instant::now();
            let mut bytes = 0;
            store.scan(&mut |_, entry| bytes += entry.len())?;
            assert!(bytes > 0);
            println!("{reopen} {} {} {head} 0", start.elapsed().as_secs_f64(), resident_mb());
        }
        ["verify", name, dir, count] => {
            let count: u64 = count.parse()?;
            let store = stores::open(name, Path::new(dir))?;
            let (mut expected, mut wrong) = (1, false);
            store.scan(&mut |number, entry| {
                wrong |= number != expected || entry != entry_of(expected);
                expected += 1;
            })?;
            wrong |= store.head()? + 1 != expected;
            println!(
                "{}",
                if wrong {
                    "wrong"
                } else if expected - 1 < count {
                    "tail"
                } else {
                    "harmless"
                }
            );
        }
        _ => return Err(format!("a child does not know {words:?}").into()),
    }
    Ok(())
}

// ---- helpers ----------------------------------------------------------------------------------------

/// Runs this program again as a child and returns what it printed; `delay` puts the shim in front of it.
fn run(words: &[&str], delay: Option<u64>) -> Result<String, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(words).stderr(Stdio::inherit());
    if let Some(delay) = delay {
        let counter = std::env::temp_dir().join(format!("herald-sync-count-{}", std::process::id()));
        command
            .env("LD_PRELOAD", env!("SYNC_DELAY_LIBRARY"))
            .env("HERALD_SYNC_DELAY_US", delay.to_string())
            .env("HERALD_SYNC_COUNT", counter);
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("child {words:?} ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Appends about `count` entries in a child, kills it with SIGKILL, returns how many were acknowledged.
fn fill_and_kill(name: &str, dir: &Path, count: u64) -> Result<u64, Error> {
    use std::io::BufRead;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", "fill", name, path(dir), &count.to_string(), "kill"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut acknowledged = 0;
    for line in std::io::BufReader::new(child.stdout.take().expect("piped")).lines() {
        acknowledged = line?.trim().parse()?;
        if acknowledged >= count {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(acknowledged)
}

/// How a candidate takes a damaged directory; it gets ten seconds.
fn verify(name: &str, dir: &Path, entries: u64) -> Result<String, Error> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", "verify", name, path(dir), &entries.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > Duration::from_secs(10) {
            child.kill()?;
            child.wait()?;
            return Ok("hangs".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = std::io::read_to_string(child.stdout.take().expect("piped"))?;
    // `main` returning an error ends with 1; a panic with 101; an abort or a fault has no code.
    Ok(match status.code() {
        Some(0) => said.trim().to_owned(),
        Some(1) => "error".into(),
        _ => "panic".into(),
    })
}

/// Flips one bit of a byte that is in use (not zero); which one depends on `seed` only.
fn flip_byte(dir: &Path, seed: u64) -> Result<(), Error> {
    let mut in_use = Vec::new();
    for (file, _) in files(dir)? {
        let content = fs::read(&file)?;
        in_use.extend((0..content.len()).filter(|at| content[*at] != 0).map(|at| (file.clone(), at)));
    }
    let random = mix(seed);
    let (file, at) = &in_use[(random % in_use.len() as u64) as usize];
    let mut content = fs::read(file)?;
    content[*at] ^= 1 << (random >> 61);
    fs::write(file, content)?;
    Ok(())
}

fn group_of(first: u64, count: usize) -> Vec<Vec<u8>> {
    (first..first + count as u64).map(entry_of).collect()
}

/// The entry with this number: about 300 bytes, half of them hard to compress, like names and hashes.
fn entry_of(number: u64) -> Vec<u8> {
    let mut entry = Vec::with_capacity(320);
    for word in 0..18 {
        entry.extend(mix(number << 8 | word).to_le_bytes());
    }
    while entry.len() < 280 + (number % 40) as usize {
        entry.extend(b"www.example.com. ");
    }
    entry
}

/// SplitMix64: a stream of random-looking numbers that is the same on every run.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The shim's counter; 0 without the shim.
fn syncs() -> u64 {
    std::env::var_os("HERALD_SYNC_COUNT")
        .and_then(|file| fs::read(file).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}

fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn numbers(line: &str) -> Result<[f64; 5], Error> {
    let values: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    values.try_into().map_err(|_| format!("not five numbers: {line}").into())
}

fn fresh(dir: &Path) -> Result<PathBuf, Error> {
    let dir = dir.join("store");
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, Error> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            found.extend(files(&item.path())?);
        } else {
            found.push((item.path(), item.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    for (file, _) in files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().expect("inside"))?;
        fs::copy(&file, &target)?;
    }
    Ok(())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the directory's name is UTF-8")
}
