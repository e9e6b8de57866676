//! `koder dns view …`: views, and what they have at names.

use clap::{Args, Subcommand};
use herald_wire::api::steering::{Named, Overlay, OverlayPut, Tagged, View};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs};
use crate::failure::Failure;
use crate::names;
use crate::table;

/// The TTL of a view's records unless it is said.
const TTL_DEFAULT: u32 = 300;

/// What to do about views.
#[derive(Debug, Subcommand)]
pub enum ViewCommand {
    /// List views
    List(ListViewsArgs),
    /// Show a view: who is inside, and what they get
    Show(ViewArgs),
    /// Make a view: who is inside
    Set(SetArgs),
    /// Delete a view that has nothing and that no policy asks for
    Delete(DeleteArgs),
    /// Give insiders records at a name, instead of or beside what everybody else gets
    Put(PutArgs),
    /// Hide a name or type from insiders
    Hide(HideArgs),
    /// Take back what a view has at a name
    Remove(RemoveArgs),
}

/// Flags of `koder dns view list`.
#[derive(Args, Debug)]
pub struct ListViewsArgs {
    /// Name or id of the zone
    pub zone: String,
    /// The page.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Zone and view.
#[derive(Args, Debug)]
pub struct ViewArgs {
    /// Name or id of the zone
    pub zone: String,
    /// Name of the view
    pub view: String,
}

/// Flags of `koder dns view set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("who").multiple(true).required(true))]
#[command(after_help = "\
Inside is whose query comes from one of the prefixes, if any are given, to one of the PoPs, if any are given.
--if-match takes the view's ETag.

Examples:
  koder dns view set example.com office --prefix 192.0.2.0/24 --prefix 2001:db8::/32")]
pub struct SetArgs {
    /// Which.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Where queries come from
    #[arg(long = "prefix", group = "who", value_name = "PREFIX")]
    pub prefixes: Vec<String>,
    /// The PoP that answers
    #[arg(long = "pop", group = "who", value_name = "POP")]
    pub pops: Vec<String>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns view delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Which.
    #[command(flatten)]
    pub view: ViewArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Zone, view, name and type.
#[derive(Args, Debug)]
pub struct PlaceArgs {
    /// Which.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Owner name: @, relative to the zone, or fully qualified
    pub name: String,
    /// Type, such as A
    #[arg(value_name = "TYPE")]
    pub rtype: String,
}

/// Flags of `koder dns view put`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  koder dns view put example.com office intranet A 10.0.0.1")]
pub struct PutArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Records, in presentation format
    #[arg(required = true)]
    pub data: Vec<String>,
    /// TTL in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_DEFAULT)]
    pub ttl: u32,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns view hide`.
#[derive(Args, Debug)]
#[command(after_help = "\
The type ANY hides all of the name.

Examples:
  koder dns view hide example.com office www ANY")]
pub struct HideArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// Flags of `koder dns view remove`.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &ViewCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        ViewCommand::List(args) => {
            let zone = names::zone_for_path(&args.zone);
            let listing = Listing::fetch(&args.list, |page| client.views(&zone, &page))?;
            session
                .listed(&listing, |views| table_of(views.iter().map(|view| (view.name.as_str(), &view.item))))
        }
        ViewCommand::Show(args) => {
            let zone = names::zone_for_path(&args.zone);
            let answer = client.view(&zone, &args.view)?;
            let all = ListArgs::default();
            let overlays = Listing::fetch(&all, |page| client.overlays(&zone, &args.view, &page))?.items;
            session.show(&answer, |view| show(view, &overlays))
        }
        ViewCommand::Set(args) => {
            let body = View { prefixes: args.prefixes.clone(), pops: args.pops.clone() };
            let (zone, options) =
                (names::zone_for_path(&args.view.zone), args.write.options_for(&args.reason));
            let answer = client.put_view(&zone, &args.view.view, &body, &options)?;
            let text = answer.item.as_ref().map(|view| show(view, &[])).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        ViewCommand::Delete(args) => {
            let (zone, options) =
                (names::zone_for_path(&args.view.zone), args.write.options_for(&args.reason));
            let answer = client.delete_view(&zone, &args.view.view, &options)?;
            let text =
                format!("{} the view {}\n", args.write.tense("deleted", "would delete"), args.view.view);
            session.written(&args.write, &answer, &text)
        }
        ViewCommand::Put(args) => {
            let body = OverlayPut { ttl: Some(args.ttl), records: args.data.clone(), hidden: false };
            put(session, &args.place, &body, &args.write, &args.reason)
        }
        ViewCommand::Hide(args) => {
            let body = OverlayPut { hidden: true, ..OverlayPut::default() };
            put(session, &args.place, &body, &args.write, &args.reason)
        }
        ViewCommand::Remove(args) => {
            let PlaceArgs { view, name, rtype } = &args.place;
            let (zone, options) = (names::zone_for_path(&view.zone), args.write.options_for(&args.reason));
            let answer = client.delete_overlay(&zone, &view.view, (name, rtype), &options)?;
            let text = format!(
                "the view {} {} nothing of its own at {name} {rtype}\n",
                view.view,
                args.write.tense("has", "would have")
            );
            session.written(&args.write, &answer, &text)
        }
    }
}

fn put(
    session: &mut Session<'_>,
    place: &PlaceArgs,
    body: &OverlayPut,
    write: &WriteArgs,
    reason: &MessageArgs,
) -> Result<(), Failure> {
    let client = session.client()?;
    let PlaceArgs { view, name, rtype } = place;
    let zone = names::zone_for_path(&view.zone);
    let answer = client.put_overlay(&zone, &view.view, (name, rtype), body, &write.options_for(reason))?;
    let text = answer.item.as_ref().map(|overlay| overlay_table([&overlay.item])).unwrap_or_default();
    session.written(write, &answer, &text)
}

/// Views, a line each.
pub(super) fn table_of<'a>(views: impl Iterator<Item = (&'a str, &'a View)>) -> String {
    table::columns(
        ["VIEW", "PREFIXES", "POPS"],
        views.map(|(name, view)| [name.to_owned(), view.prefixes.join(", "), view.pops.join(", ")]),
    )
}

/// What views have, a line for each record.
pub(super) fn overlay_table<'a>(overlays: impl IntoIterator<Item = &'a Overlay>) -> String {
    table::columns(
        ["VIEW", "NAME", "TTL", "TYPE", "DATA"],
        overlays.into_iter().flat_map(|overlay| {
            let data = if overlay.hidden { vec!["(hidden)".to_owned()] } else { overlay.records.clone() };
            let ttl = overlay.ttl.map(|ttl| ttl.to_string()).unwrap_or_default();
            data.into_iter().map(move |data| {
                [overlay.view.clone(), overlay.name.clone(), ttl.clone(), overlay.rtype.clone(), data]
            })
        }),
    )
}

fn show(view: &Named<View>, overlays: &[Tagged<Overlay>]) -> String {
    let mut text = table::pairs([
        ("view", Some(view.name.clone())),
        ("prefixes", Some(view.item.prefixes.join(", "))),
        ("pops", Some(view.item.pops.join(", "))),
        ("etag", Some(view.etag.clone())),
    ]);
    if !overlays.is_empty() {
        text.push('\n');
        text.push_str(&overlay_table(overlays.iter().map(|overlay| &overlay.item)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_view_has() {
        let overlay = |rtype: &str, records: &[&str]| Overlay {
            view: "office".into(),
            name: "www".into(),
            rtype: rtype.into(),
            ttl: (!records.is_empty()).then_some(60),
            records: records.iter().map(|record| (*record).to_owned()).collect(),
            hidden: records.is_empty(),
        };
        assert_eq!(
            overlay_table(&[overlay("A", &["10.0.0.1", "10.0.0.2"]), overlay("AAAA", &[])]),
            "VIEW    NAME  TTL  TYPE  DATA\n\
             office  www   60   A     10.0.0.1\n\
             office  www   60   A     10.0.0.2\n\
             office  www        AAAA  (hidden)\n"
        );
    }
}
