//! `koder dns token …`.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use herald_wire::api::{Scope, Token, TokenCreate, Verb};

use super::list::Listing;
use super::{ListArgs, MessageArgs, Session, WriteArgs};
use crate::failure::Failure;
use crate::table;
use crate::times::{format_time, later_ms, parse_duration};

/// What to do about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List the tokens, without their secrets
    List(ListArgs),
    /// Show a token, without its secret
    Show {
        /// Id of the token
        id: String,
    },
    /// Make a token; its secret is shown once
    Create(CreateArgs),
    /// Revoke a token
    Revoke(RevokeArgs),
}

/// Flags of `koder dns token create`.
#[derive(Args, Debug)]
#[command(after_help = "\
A kind of limit that isn't given doesn't limit. Each may be given more than once.

Examples:
  koder dns token create certbot --zone example.com --name '_acme-challenge.*' --type TXT --verb write --expires 90d
  koder dns token create terraform --zone '*.example.com' --verb read --verb write
  koder dns --json token create ci | jq -r .item.secret > token")]
pub struct CreateArgs {
    /// What it is for
    pub description: String,
    /// The tenant it acts for (operators)
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this zone; *.example.com is all zones below
    #[arg(long = "zone", value_name = "ZONE")]
    pub zones: Vec<String>,
    /// Only this owner name; *.dyn.example.com is all names below, _acme-challenge.* all that begin so
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Only this record type
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only this verb
    #[arg(long = "verb", value_name = "VERB")]
    pub verbs: Vec<VerbArg>,
    /// When it ends, from now, such as 12h or 90d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerbArg {
    /// See zones and records
    Read,
    /// Change records
    Write,
    /// Make and import zones, and change their settings
    Create,
    /// Delete zones
    Delete,
    /// Tokens; for operators also tenants, PoPs and sets of name servers
    Admin,
    /// Make, change and delete monitors
    Monitor,
}

/// Flags of `koder dns token revoke`.
#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// Id of the token
    pub id: String,
    /// How to write.
    #[command(flatten)]
    pub write: WriteArgs,
    /// Why.
    #[command(flatten)]
    pub reason: MessageArgs,
}

pub(super) fn run(session: &mut Session<'_>, command: &TokenCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        TokenCommand::List(args) => {
            let listing = Listing::fetch(args, |page| client.tokens(&page))?;
            session.listed(&listing, table_of)
        }
        TokenCommand::Show { id } => {
            let answer = client.token(id)?;
            session.show(&answer, show)
        }
        TokenCommand::Create(args) => {
            let answer = client.create_token(&token(args, SystemTime::now()), &args.write.options())?;
            let text = answer.item.as_ref().map(show).unwrap_or_default();
            session.written(&args.write, &answer, &text)
        }
        TokenCommand::Revoke(args) => {
            let answer = client.revoke_token(&args.id, &args.write.options_for(&args.reason))?;
            let verb = args.write.tense("revoked", "would revoke");
            session.written(&args.write, &answer, &format!("{verb} {}\n", args.id))
        }
    }
}

fn token(args: &CreateArgs, now: SystemTime) -> TokenCreate {
    TokenCreate {
        tenant: args.tenant.clone(),
        description: args.description.clone(),
        scope: Scope {
            zones: args.zones.clone(),
            names: args.names.clone(),
            types: args.types.iter().map(|rtype| rtype.to_ascii_uppercase()).collect(),
            verbs: args.verbs.iter().map(|verb| (*verb).into()).collect(),
        },
        expires_at_ms: args.expires.map(|after| later_ms(now, after)),
        message: args.reason.message.clone(),
    }
}

impl From<VerbArg> for Verb {
    fn from(verb: VerbArg) -> Verb {
        match verb {
            VerbArg::Read => Verb::Read,
            VerbArg::Write => Verb::Write,
            VerbArg::Create => Verb::Create,
            VerbArg::Delete => Verb::Delete,
            VerbArg::Admin => Verb::Admin,
            VerbArg::Monitor => Verb::Monitor,
        }
    }
}

fn verb_word(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "read",
        Verb::Write => "write",
        Verb::Create => "create",
        Verb::Delete => "delete",
        Verb::Admin => "admin",
        Verb::Monitor => "monitor",
    }
}

fn table_of(tokens: &[Token]) -> String {
    table::columns(
        ["ID", "DESCRIPTION", "TENANT", "SCOPE", "EXPIRES", "REVOKED"],
        tokens.iter().map(|token| {
            [
                token.id.clone(),
                token.description.clone(),
                token.tenant.clone().unwrap_or_default(),
                scope_text(&token.scope),
                token.expires_at_ms.map_or("never".to_owned(), format_time),
                token.revoked_at_ms.map(format_time).unwrap_or_default(),
            ]
        }),
    )
}

/// A token for people.
pub(super) fn show(token: &Token) -> String {
    let mut text = table::pairs([
        ("token", Some(token.id.clone())),
        ("description", Some(token.description.clone())),
        ("tenant", token.tenant.clone()),
        ("may", Some(scope_text(&token.scope))),
        ("created", Some(format_time(token.created_at_ms))),
        ("expires", Some(token.expires_at_ms.map_or("never".to_owned(), format_time))),
        ("revoked", token.revoked_at_ms.map(format_time)),
        ("secret", token.secret.clone()),
    ]);
    if token.secret.is_some() {
        text.push_str("the secret is shown this once: keep it safe\n");
    }
    text
}

fn scope_text(scope: &Scope) -> String {
    let verbs: Vec<&str> = scope.verbs.iter().map(|verb| verb_word(*verb)).collect();
    let mut text = if verbs.is_empty() { "everything".to_owned() } else { verbs.join(",") };
    for (what, limits) in [("zone", &scope.zones), ("name", &scope.names), ("type", &scope.types)] {
        if !limits.is_empty() {
            text.push_str(&format!(" {what}={}", limits.join(",")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn args() -> CreateArgs {
        CreateArgs {
            description: "certbot".into(),
            tenant: None,
            zones: vec!["example.com".into()],
            names: vec!["_acme-challenge.*".into()],
            types: vec!["txt".into()],
            verbs: vec![VerbArg::Read, VerbArg::Write],
            expires: Some(Duration::from_secs(60)),
            write: WriteArgs::default(),
            reason: MessageArgs::default(),
        }
    }

    #[test]
    fn flags_become_a_scope() {
        let token = token(&args(), UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(token.expires_at_ms, Some(61_000));
        assert_eq!(token.scope.types, ["TXT"]);
        assert_eq!(scope_text(&token.scope), "read,write zone=example.com name=_acme-challenge.* type=TXT");
        assert_eq!(scope_text(&Scope::default()), "everything");
    }

    #[test]
    fn the_secret_is_shown_if_it_is_there() {
        let token = Token {
            id: "k1".into(),
            tenant: None,
            description: "ci".into(),
            scope: Scope::default(),
            created_at_ms: 0,
            expires_at_ms: None,
            revoked_at_ms: None,
            secret: Some("s3cret".into()),
        };
        assert_eq!(
            show(&token),
            "token        k1\n\
             description  ci\n\
             may          everything\n\
             created      1970-01-01T00:00:00Z\n\
             expires      never\n\
             secret       s3cret\n\
             the secret is shown this once: keep it safe\n"
        );
        assert_eq!(
            table_of(&[token]),
            "ID  DESCRIPTION  TENANT  SCOPE       EXPIRES  REVOKED\n\
             k1  ci                   everything  never\n"
        );
    }
}
