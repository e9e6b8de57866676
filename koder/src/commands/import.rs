//! `koder dns zone import` and `export`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use herald_core::Name;
use herald_wire::api::{
    ImportMode, ImportPreview, ImportReport, ImportedRrset, MultiZoneBatch, ProblemItem, SyncState,
    ZoneCreate,
};

use super::change::wait_for;
use super::zone::{created, zone_name};
use super::{MessageArgs, Session, WriteArgs};
use crate::client::{Client, ClientError, FileUpload, ImportOptions, WaitFor, WriteOptions, ZONE_FILE_TYPE};
use crate::failure::Failure;
use crate::names;
use crate::progress::Progress;
use crate::table::printable;
use crate::upload::{self, Upload};
use crate::zonefile::{self, ApexSource};

/// So many RRsets of a preview are asked for, and with `--full` as many as there are to be had.
const PREVIEW_RRSETS: u64 = 100;
const PREVIEW_RRSETS_MAX: u64 = 100_000;

/// So many lines of a preview are shown unless all are wanted.
const PREVIEW_LINES: usize = 40;

/// What is sent in one batch, in zones and octets of their files.
const BATCH_ZONES: usize = 500;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// So many bad items of one batch are told; if there are more, its files are tried one by one.
const ITEMS_MAX: usize = 100;

/// Flags of `koder dns zone import`.
#[derive(Args, Debug)]
#[command(after_help = "\
The zone's name is --zone, or else the owner of the SOA record, or $ORIGIN, or the file's name. Of several files, or
all those of a folder, the small ones go in batches, and one that is wrong doesn't keep the others out.

Examples:
  koder dns zone import example.com.zone --dry-run
  koder dns zone import db.example.com --wait
  dig @old-server example.com AXFR | koder dns zone import - --zone example.com
  koder dns zone import more.zone --zone example.com --merge
  koder dns zone import /etc/bind/zones/")]
pub struct ImportArgs {
    /// Zone files, plain or gzip'd, or folders of them; "-" is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Name of the zone, if it is one file
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// Keep the RRsets that the file doesn't have
    #[arg(long)]
    pub merge: bool,
    /// With --dry-run: show all that would change, up to 100,000 RRsets
    #[arg(long, requires = "dry_run")]
    pub full: bool,
    /// Don't show how far it is
    #[arg(short, long)]
    pub quiet: bool,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns zone export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns zone export example.com > example.com.zone
  koder dns zone export example.com --at 2026-11-01T12:00:00Z")]
pub struct ExportArgs {
    /// Name or id of the zone
    pub zone: String,
    /// As it was at this revision or time (4711, 2026-11-01, 2026-11-01T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub(super) fn run(session: &mut Session<'_>, client: &Client, args: &ImportArgs) -> Result<(), Failure> {
    let files = upload::files(&args.files)?;
    match files.as_slice() {
        [file] => one(session, client, args, file),
        _ if args.zone.is_some() || args.write.if_match.is_some() => {
            Err(Failure::Usage("--zone and --if-match are for one file".to_owned()))
        }
        _ => Many::new(session, client, args).import(&files),
    }
}

// ------------------------------------------------------------------------------------------- one file

fn one(session: &mut Session<'_>, client: &Client, args: &ImportArgs, file: &Path) -> Result<(), Failure> {
    let upload = Upload::open(file)?;
    let name = match &args.zone {
        Some(name) => zone_name(name)?,
        None => {
            let (name, source) = guess_name(&upload.head(), file)?;
            session.output.note(&format!("the zone is {}, from {source}", name.to_unicode()));
            name
        }
    };
    let zone = name.to_string();
    // Asked first, so that a token that is wrong is known before everything was sent.
    let is_new = match client.zone(&zone) {
        Ok(_) => false,
        Err(ClientError::Problem { problem, .. }) if problem.status == 404 => true,
        Err(error) => return Err(error.into()),
    };
    let progress = Progress::of_bytes(upload.total_bytes(), args.quiet);
    let mut options = args.write.options_for(&args.reason);
    let wait = options.wait.take();
    let preview = match (args.write.dry_run, args.full) {
        (false, _) => 0,
        (true, false) => PREVIEW_RRSETS,
        (true, true) => PREVIEW_RRSETS_MAX,
    };
    let import = ImportOptions { mode: mode(args), create: true, preview };
    let mut answer = send(client, &progress, &zone, upload, &import, &options)?;
    if let (Some(WaitFor { wait, timeout }), Some(change)) = (wait, &answer.value.change) {
        progress.phase("in sync?");
        let receipt = wait_for(client, &change.id, wait, timeout)?;
        let is_overdue = receipt.is_overdue() || receipt.state == SyncState::Pending;
        answer.value.change = Some(receipt.value);
        answer.text = serde_json::to_string(&answer.value).expect("the API's types have string keys only");
        if is_overdue {
            answer.status = 202;
        }
    }
    drop(progress);
    let text = answer.item.as_ref().map(|report| match is_new && !args.write.dry_run {
        true => created(&args.write, &report.zone) + &replaced(report),
        false => imported(&args.write, report, args.full),
    });
    session.written(&args.write, &answer, &text.unwrap_or_default())
}

fn mode(args: &ImportArgs) -> ImportMode {
    if args.merge { ImportMode::Merge } else { ImportMode::Replace }
}

fn send(
    client: &Client,
    progress: &Progress,
    zone: &str,
    upload: Upload,
    import: &ImportOptions,
    options: &WriteOptions,
) -> Result<crate::client::Answer<herald_wire::api::Written<ImportReport>>, ClientError> {
    progress.phase("sending");
    let encoding = upload.encoding();
    let mut content = progress.watch(upload.into_reader());
    client.import_zone(
        zone,
        FileUpload { content: &mut content, content_type: ZONE_FILE_TYPE, encoding },
        import,
        options,
    )
}

fn guess_name(head: &[u8], file: &Path) -> Result<(Name, ApexSource), Failure> {
    let without_gz = file.with_extension("");
    let file = if file.extension().is_some_and(|extension| extension == "gz") { &without_gz } else { file };
    let file_name = (file != Path::new("-")).then_some(file);
    zonefile::apex(&String::from_utf8_lossy(head), file_name).ok_or_else(|| {
        Failure::Usage("the file doesn't say which zone it is of: give --zone NAME".to_owned())
    })
}

fn imported(write: &WriteArgs, report: &ImportReport, is_full: bool) -> String {
    let mut text = format!(
        "{} into {}: {} RRsets added, {} changed, {} removed\n",
        write.tense("imported", "would import"),
        report.zone.name_unicode,
        report.rrsets_added,
        report.rrsets_changed,
        report.rrsets_removed
    );
    text.push_str(&replaced(report));
    text.extend(report.preview.as_ref().map(|preview| previewed(preview, is_full)));
    text
}

fn replaced(report: &ImportReport) -> String {
    if report.foreign_nameservers.is_empty() {
        return String::new();
    }
    let foreign: Vec<String> =
        report.foreign_nameservers.iter().map(|name| names::for_people(name)).collect();
    format!("NS at the apex that are not of the zone's set, replaced by the set's: {}\n", foreign.join(", "))
}

/// A line for each record that comes or goes, and how much more there is.
fn previewed(preview: &ImportPreview, is_full: bool) -> String {
    let lines_max = if is_full { usize::MAX } else { PREVIEW_LINES };
    let (mut text, mut lines, mut shown) = (String::new(), 0, 0);
    for rrset in &preview.changes {
        let all = changed_lines(rrset);
        if lines > 0 && lines + all.len() > lines_max {
            break;
        }
        lines += all.len();
        shown += 1;
        all.iter().for_each(|line| text.extend([line, "\n"]));
    }
    let more = preview.more + (preview.changes.len() - shown) as u64;
    if more > 0 {
        let hint = if is_full { "" } else { ": --full shows them" };
        text.push_str(&format!("… and {more} more RRsets{hint}\n"));
    }
    text
}

fn changed_lines(rrset: &ImportedRrset) -> Vec<String> {
    let line = |sign: char, ttl: Option<u32>, record: &String| {
        let ttl = ttl.unwrap_or_default();
        format!("{sign} {}", printable(&format!("{} {ttl} {} {record}", rrset.name, rrset.rtype)))
    };
    let gone = rrset.removed.iter().map(|record| line('-', rrset.ttl_before, record));
    gone.chain(rrset.added.iter().map(|record| line('+', rrset.ttl_after, record))).collect()
}

// --------------------------------------------------------------------------------------- several files

/// The import of several files: new zones in batches, and what a batch refuses by itself, so that each file's fate is known.
struct Many<'s, 'o> {
    session: &'s mut Session<'o>,
    client: &'s Client,
    args: &'s ImportArgs,
    progress: Progress,
    options: WriteOptions,
    /// Changes to wait for.
    changes: Vec<String>,
    imported: usize,
    failed: usize,
}

/// A small file that is to be a new zone.
struct Small {
    file: PathBuf,
    zone: String,
    text: String,
}

impl<'s, 'o> Many<'s, 'o> {
    fn new(session: &'s mut Session<'o>, client: &'s Client, args: &'s ImportArgs) -> Many<'s, 'o> {
        let options = WriteOptions { wait: None, ..args.write.options_for(&args.reason) };
        let progress = Progress::of_items(0, args.quiet);
        Many { session, client, args, progress, options, changes: Vec::new(), imported: 0, failed: 0 }
    }

    fn import(mut self, files: &[PathBuf]) -> Result<(), Failure> {
        self.progress = Progress::of_items(files.len() as u64, self.args.quiet);
        self.progress.phase("importing");
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for file in files {
            let (upload, zone) = match self.open(file) {
                Ok(opened) => opened,
                Err(failure) => {
                    self.refused(file, &failure);
                    continue;
                }
            };
            let Some(text) = upload.small_text() else {
                self.import_one(file, &zone, upload)?;
                continue;
            };
            bytes += text.len();
            batch.push(Small { file: file.clone(), zone, text });
            if batch.len() == BATCH_ZONES || bytes >= BATCH_BYTES {
                self.import_batch(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.import_batch(batch)?;
        self.finish(files.len())
    }

    fn open(&self, file: &Path) -> Result<(Upload, String), Failure> {
        let upload = Upload::open(file)?;
        let (name, _) = guess_name(&upload.head(), file)?;
        Ok((upload, name.to_string()))
    }

    /// Makes the zones of a batch. Those that are refused (as they exist, or are wrong) are tried by themselves, and the
    /// others again without them.
    fn import_batch(&mut self, mut batch: Vec<Small>) -> Result<(), Failure> {
        while !batch.is_empty() {
            let create = batch.iter().map(|small| ZoneCreate {
                name: small.zone.clone(),
                zone_file: Some(small.text.clone()),
                ..ZoneCreate::default()
            });
            let body = MultiZoneBatch { create: create.collect(), ..MultiZoneBatch::default() };
            let problem = match self.client.create_batch(&body, &self.options) {
                Ok(answer) => {
                    self.done(batch.len(), answer.change.as_ref().map(|change| change.id.clone()));
                    for warning in &answer.warnings {
                        self.say(&format!("warning: {}", warning.detail));
                    }
                    return Ok(());
                }
                Err(ClientError::Problem { problem, .. }) if (400..500).contains(&problem.status) => problem,
                Err(error) => return Err(error.into()),
            };
            let mut places: Vec<usize> = problem.errors.iter().filter_map(place_of).collect();
            places.sort_unstable();
            places.dedup();
            if places.is_empty() || places.len() >= ITEMS_MAX {
                places = (0..batch.len()).collect();
            }
            for place in places.into_iter().rev() {
                let small = batch.remove(place);
                match Upload::open(&small.file) {
                    Ok(upload) => self.import_one(&small.file, &small.zone, upload)?,
                    Err(failure) => self.refused(&small.file, &failure),
                }
            }
        }
        Ok(())
    }

    fn import_one(&mut self, file: &Path, zone: &str, upload: Upload) -> Result<(), Failure> {
        let import = ImportOptions { mode: mode(self.args), create: true, preview: 0 };
        let encoding = upload.encoding();
        let mut content = upload.into_reader();
        let content = FileUpload { content: &mut content, content_type: ZONE_FILE_TYPE, encoding };
        match self.client.import_zone(zone, content, &import, &self.options) {
            Ok(answer) => self.done(1, answer.change.as_ref().map(|change| change.id.clone())),
            Err(error @ ClientError::Problem { .. }) if error.status().is_some_and(|status| status < 500) => {
                self.refused(file, &error.into());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn done(&mut self, files: usize, change: Option<String>) {
        self.imported += files;
        self.progress.add(files as u64);
        if self.args.write.wait.is_some() {
            self.changes.extend(change);
        }
    }

    fn refused(&mut self, file: &Path, failure: &Failure) {
        self.failed += 1;
        self.progress.add(1);
        self.say(&format!("{}: {}", file.display(), failure.render().trim_end()));
    }

    fn say(&mut self, text: &str) {
        let output = &mut self.session.output;
        self.progress.interrupt(|| text.lines().for_each(|line| output.note(line)));
    }

    fn finish(mut self, files: usize) -> Result<(), Failure> {
        self.progress.phase("in sync?");
        if let Some(WaitFor { wait, timeout }) = self.args.write.options().wait {
            let start = std::time::Instant::now();
            for id in std::mem::take(&mut self.changes) {
                let left = timeout.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
                let receipt = wait_for(self.client, &id, wait, left)?;
                if receipt.is_overdue() {
                    return Err(Failure::NotInSync { change: Box::new(receipt.value), wait, timeout });
                }
            }
        }
        let Many { session, args, imported, failed, progress, .. } = self;
        drop(progress);
        let json = serde_json::json!({ "imported": imported, "failed": failed }).to_string();
        let verb = args.write.tense("imported", "would import");
        session.output.result(&json, || format!("{verb} {imported} of {files} files\n"))?;
        if failed > 0 { Err(Failure::SomeFiles { failed, files }) } else { Ok(()) }
    }
}

/// Which zone of a batch an item is about.
fn place_of(item: &ProblemItem) -> Option<usize> {
    item.pointer.strip_prefix("/create/")?.split('/').next()?.parse().ok()
}

// ---------------------------------------------------------------------------------------------- export

pub(super) fn export(session: &mut Session<'_>, client: &Client, args: &ExportArgs) -> Result<(), Failure> {
    let zone = names::zone_for_path(&args.zone);
    let Some(path) = &args.output else {
        let copied = client.export_zone(&zone, args.at.as_deref(), session.output.stdout())?;
        return copied.map(drop).map_err(Failure::Output);
    };
    // A file that was there is only replaced by a whole one.
    let error = |source| Failure::File { path: path.clone(), source };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut file = fs::File::create(&part).map_err(error)?;
    let copied = client.export_zone(&zone, args.at.as_deref(), &mut file);
    let written = match copied {
        Ok(copied) => copied.map_err(error).and_then(|_| fs::rename(&part, path).map_err(error)),
        Err(error) => Err(error.into()),
    };
    written.inspect_err(|_| _ = fs::remove_file(&part))
}

#[cfg(test)]
mod tests {
    use herald_wire::api::{Zone, ZoneStatus};

    use super::*;

    fn report() -> ImportReport {
        let zone = Zone {
            id: "z1".into(),
            name: "example.com.".into(),
            name_unicode: "example.com.".into(),
            tenant: "t1".into(),
            status: ZoneStatus::Active,
            private: false,
            serial: 1,
            revision: 42,
            rrset_count: 3,
            record_count: 5,
            steering_count: 0,
            labels: Default::default(),
            nameserver_set: "main".into(),
            created_at_ms: 1,
            changed_at_ms: 2,
            proof: None,
        };
        ImportReport {
            zone,
            rrsets_added: 1,
            rrsets_changed: 2,
            rrsets_removed: 0,
            foreign_nameservers: vec!["ns.other.example.".into()],
            preview: None,
        }
    }

    #[test]
    fn an_import_says_what_it_did_or_would_do() {
        let dry = WriteArgs { dry_run: true, ..WriteArgs::default() };
        let mut report = report();
        let counts = "would import into example.com.: 1 RRsets added, 2 changed, 0 removed\n\
             NS at the apex that are not of the zone's set, replaced by the set's: ns.other.example.\n";
        assert_eq!(imported(&dry, &report, false), counts);
        assert!(imported(&WriteArgs::default(), &report, false).starts_with("imported into example.com.:"));
        let change = |name: &str, added: usize| ImportedRrset {
            name: name.into(),
            rtype: "A".into(),
            ttl_before: Some(60),
            ttl_after: Some(300),
            removed: vec!["192.0.2.1".into()],
            added: vec!["192.0.2.2".into(); added],
        };
        let changes = vec![change("a.", 1), change("b.", PREVIEW_LINES)];
        report.preview = Some(ImportPreview { changes, more: 7 });
        assert_eq!(
            imported(&dry, &report, false),
            format!(
                "{counts}- a. 60 A 192.0.2.1\n+ a. 300 A 192.0.2.2\n… and 8 more RRsets: --full shows them\n"
            )
        );
        let full = imported(&dry, &report, true);
        assert!(
            full.lines().count() == 2 + 2 + 1 + PREVIEW_LINES + 1 && full.ends_with("… and 7 more RRsets\n")
        );
    }

    #[test]
    fn a_stream_without_a_name_needs_one() {
        assert!(matches!(guess_name(b"www A 192.0.2.1\n", Path::new("-")), Err(Failure::Usage(_))));
        for file in ["example.com.zone", "example.com.zone.gz", "example.com.gz"] {
            let (name, source) = guess_name(b"www A 192.0.2.1\n", Path::new(file)).unwrap();
            assert_eq!((name.to_string().as_str(), source), ("example.com.", ApexSource::FileName));
        }
    }

    #[test]
    fn items_name_the_zone_of_a_batch() {
        let item = |pointer: &str| ProblemItem {
            pointer: pointer.into(),
            detail: String::new(),
            name: None,
            rtype: None,
        };
        assert_eq!(place_of(&item("/create/12/zone_file")), Some(12));
        assert_eq!(place_of(&item("/create/3")), Some(3));
        assert_eq!(place_of(&item("/create")), None);
    }
}
