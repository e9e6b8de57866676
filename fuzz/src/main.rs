//! Runs a target on files (`TARGET FILE…`), or writes seeds and dictionaries for libFuzzer (`--seeds DIR`).

use std::fs;
use std::io;
use std::path::Path;

use fuzz::{TARGETS, found, target};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, folder] if flag == "--seeds" => write_seeds(Path::new(folder)),
        [name, files @ ..] if !files.is_empty() => {
            let target = target(name);
            for file in files {
                println!("{file}");
                (target.run)(&fs::read(file)?);
            }
            Ok(())
        }
        _ => {
            let names = TARGETS.map(|target| target.name).join(", ");
            Err(io::Error::other(format!("usage: fuzz TARGET FILE… (of {names}), or fuzz --seeds DIR")))
        }
    }
}

fn write_seeds(folder: &Path) -> io::Result<()> {
    for target in TARGETS {
        let corpus = folder.join(target.name);
        fs::create_dir_all(&corpus)?;
        for (number, seed) in (target.seeds)().iter().chain(&found(target.name)).enumerate() {
            fs::write(corpus.join(format!("seed-{number}")), seed)?;
        }
        let quoted = |word: &&str| {
            let octets = word.bytes().map(|octet| match octet {
                b'"' | b'\\' => format!("\\{}", char::from(octet)),
                b' '..=b'~' => char::from(octet).to_string(),
                _ => format!("\\x{octet:02x}"),
            });
            format!("\"{}\"\n", octets.collect::<String>())
        };
        fs::write(
            folder.join(format!("{}.dict", target.name)),
            target.words.iter().map(quoted).collect::<String>(),
        )?;
    }
    Ok(())
}
