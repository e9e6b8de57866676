//! `koder dns steering …`: all steering of a zone at once.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use herald_wire::api::Warning;
use herald_wire::api::steering::SteeringDocument;

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs, input};
use crate::client::Client;
use crate::failure::Failure;
use crate::names;
use crate::{table, yaml};

/// What to do about a zone's steering.
#[derive(Debug, Subcommand)]
pub enum SteeringCommand {
    /// Show what there is of it
    Show(ShowArgs),
    /// Print all of it as a document
    Export(ExportArgs),
    /// Make all of it what a document says
    Import(ImportArgs),
    /// Show what is odd about it: rules that never match, clients that fall through
    Lint(LintArgs),
}

/// Flags of `koder dns steering show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name or id of the zone
    pub zone: String,
    /// As it was at this revision or time (4711, 2026-11-01, 2026-11-01T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
}

/// Flags of `koder dns steering export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns steering export example.com > steering.yaml
  koder dns steering export example.com --format json --at 2026-11-01")]
pub struct ExportArgs {
    /// Name or id of the zone
    pub zone: String,
    /// The form [default: yaml, with --json json]
    #[arg(long)]
    pub format: Option<Form>,
    /// As it was at this revision or time (4711, 2026-11-01, 2026-11-01T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
}

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Yaml,
    /// For programs
    Json,
}

/// Flags of `koder dns steering import`.
#[derive(Args, Debug)]
#[command(after_help = "\
What isn't in the document goes. --if-match takes the zone's ETag.

Examples:
  koder dns steering import example.com steering.yaml --dry-run
  koder dns steering export example.com | sed s/fra1/fra2/ | koder dns steering import example.com - --wait")]
pub struct ImportArgs {
    /// Name or id of the zone
    pub zone: String,
    /// A YAML or JSON file; "-" is stdin
    pub file: PathBuf,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns steering lint`.
#[derive(Args, Debug)]
pub struct LintArgs {
    /// Name or id of the zone
    pub zone: String,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &SteeringCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        SteeringCommand::Show(args) => {
            let answer = client.steering(&names::zone_for_path(&args.zone), args.at.as_deref())?;
            session.show(&answer, show)
        }
        SteeringCommand::Export(args) => export(session, &client, args),
        SteeringCommand::Import(args) => import(session, &client, args),
        SteeringCommand::Lint(args) => {
            let zone = names::zone_for_path(&args.zone);
            let listing = Listing::fetch(&args.list, |page| client.lint_steering(&zone, &page))?;
            session.listed(&listing, lint_table)
        }
    }
}

fn export(session: &mut Session<'_>, client: &Client, args: &ExportArgs) -> Result<(), Failure> {
    let answer = client.steering(&names::zone_for_path(&args.zone), args.at.as_deref())?;
    match args.format {
        Some(Form::Json) => session.output.raw(format!("{}\n", answer.text.trim_end()).as_bytes()),
        None if session.output.is_json() => session.output.result(&answer.text, String::new),
        _ => {
            let text = yaml::write(&answer.value)?;
            session.output.raw(text.as_bytes())
        }
    }
}

fn import(session: &mut Session<'_>, client: &Client, args: &ImportArgs) -> Result<(), Failure> {
    let text = input::text(input::read(&args.file)?, &args.file)?;
    let document = yaml::read(&text, &args.file)?;
    let zone = names::zone_for_path(&args.zone);
    let answer = client.put_steering(&zone, &document, &args.write.options_for(&args.reason))?;
    let text = answer.item.as_ref().map(|zone| {
        format!(
            "{} {} items of steering in {}\n",
            args.write.tense("there are", "there would be"),
            zone.steering_count,
            zone.name_unicode
        )
    });
    session.written(&args.write, &answer, &text.unwrap_or_default())
}

fn show(document: &SteeringDocument) -> String {
    let on_off = |is_on: bool| Some(if is_on { "on" } else { "off" }.to_owned());
    let mut text = table::pairs([
        ("ECS", on_off(document.settings.ecs)),
        ("ALIAS by region", on_off(document.settings.alias_by_region)),
    ]);
    let mut part = |title: &str, is_empty: bool, table: String| {
        if !is_empty {
            text.push_str(&format!("\n{title}\n{table}"));
        }
    };
    let pools = document.pools.iter().map(|(name, pool)| (name.as_str(), pool));
    part("Pools", document.pools.is_empty(), super::pool::table_of(pools));
    let views = document.views.iter().map(|(name, view)| (name.as_str(), view));
    part("Views", document.views.is_empty(), super::view::table_of(views));
    part("Policies", document.policies.is_empty(), super::policy::table_of(&document.policies));
    part("What views have", document.overlays.is_empty(), super::view::overlay_table(&document.overlays));
    text
}

fn lint_table(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return "nothing odd\n".into();
    }
    table::columns(
        ["NAME", "CODE", "WHAT"],
        warnings.iter().map(|warning| {
            [warning.name.clone().unwrap_or_default(), warning.code.clone(), warning.detail.clone()]
        }),
    )
}
