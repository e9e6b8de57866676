//! `koder dns brakes …`: how much may go before somebody is asked, for operators.

use clap::{Args, Subcommand};
use herald_wire::api::{Brakes, BrakesPatch};

use super::{MessageArgs, Session, WriteArgs};
use crate::failure::Failure;
use crate::table;

/// What to do about the emptiness brake.
#[derive(Debug, Subcommand)]
pub enum BrakesCommand {
    /// Show how much may go before somebody is asked
    Show,
    /// Set it
    Set(SetArgs),
}

/// Flags of `koder dns brakes set`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("settings").multiple(true).required(true))]
#[command(after_help = "\
Examples:
  koder dns brakes set --pop-percent 10 --pop-zones-min 50
  koder dns brakes set --zone-percent 100 -m 'nobody is to be asked about records'")]
pub struct SetArgs {
    /// Percent of a zone's RRsets, or of its records, that may go in one change; 100: all
    #[arg(long, group = "settings", value_name = "PERCENT")]
    pub zone_percent: Option<u8>,
    /// A zone of fewer RRsets may lose all
    #[arg(long, group = "settings", value_name = "RRSETS")]
    pub zone_rrsets_min: Option<u64>,
    /// Percent of a PoP's zones that may go within an hour; 100: all
    #[arg(long, group = "settings", value_name = "PERCENT")]
    pub pop_percent: Option<u8>,
    /// Fewer zones than this may go within an hour, whatever share that is
    #[arg(long, group = "settings", value_name = "ZONES")]
    pub pop_zones_min: Option<u64>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &BrakesCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        BrakesCommand::Show => {
            let answer = client.brakes()?;
            session.show(&answer, show)
        }
        BrakesCommand::Set(args) => {
            let patch = BrakesPatch {
                zone_percent: args.zone_percent,
                zone_rrsets_min: args.zone_rrsets_min,
                pop_percent: args.pop_percent,
                pop_zones_min: args.pop_zones_min,
                message: args.reason.message.clone(),
            };
            let answer = client.patch_brakes(&patch, &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
    }
}

fn show(brakes: &Brakes) -> String {
    let Brakes { zone_percent, zone_rrsets_min, pop_percent, pop_zones_min } = *brakes;
    let zone = format!(
        "more than {zone_percent} % of its RRsets or records, if it has {zone_rrsets_min} RRsets or more"
    );
    let pop = format!(
        "more than {pop_percent} % of its zones within an hour, if that is {pop_zones_min} zones or more"
    );
    table::pairs([
        ("a zone loses", (zone_percent < 100).then_some(zone).or_else(|| Some("nobody is asked".into()))),
        ("a PoP loses", (pop_percent < 100).then_some(pop).or_else(|| Some("nobody is asked".into()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let brakes = Brakes { zone_percent: 50, zone_rrsets_min: 20, pop_percent: 100, pop_zones_min: 7 };
        assert_eq!(
            show(&brakes),
            "a zone loses  more than 50 % of its RRsets or records, if it has 20 RRsets or more\n\
             a PoP loses   nobody is asked\n"
        );
    }
}
