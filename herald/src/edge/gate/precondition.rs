//! `If-Match` and `If-None-Match` (RFC 9110 §13.1).

use std::fmt;

use axum::http::{HeaderMap, HeaderName, header};
use herald_core::command::RrsetMatch;
use herald_core::zone::Zone;
use herald_core::{RrKey, Rrset};

use crate::edge::problem::{ApiError, Code};

/// What a request asks of the present state.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// `If-Match`.
    pub if_match: Option<IfMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<IfMatch>,
}

/// Tags, without their quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever is there.
    Any,
    /// One of these.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Reads a list of tags. Quotes may be missing, as people copy tags out of documents.
    pub fn parse(text: &str) -> IfMatch {
        if text.trim() == "*" {
            return IfMatch::Any;
        }
        let tag = |tag: &str| {
            let tag = tag.trim();
            tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()
        };
        IfMatch::Tags(text.split(',').map(tag).collect())
    }

    /// Whether something of this tag is among them.
    pub fn has(&self, tag: &str) -> bool {
        match self {
            IfMatch::Any => true,
            IfMatch::Tags(tags) => tags.iter().any(|one| one == tag),
        }
    }

    /// The revision that a zone must still have when the command is decided.
    ///
    /// # Errors
    /// If it hasn't got it even now.
    pub fn zone_revision(&self, zone: &Zone) -> Result<Option<u64>, ApiError> {
        self.revision(zone.revision, format_args!("zone {}", zone.name))
    }

    /// The same of anything whose ETag is its revision.
    fn revision(&self, now: u64, what: fmt::Arguments<'_>) -> Result<Option<u64>, ApiError> {
        match self {
            IfMatch::Any => Ok(None),
            IfMatch::Tags(_) if self.has(&now.to_string()) => Ok(Some(now)),
            IfMatch::Tags(_) => Err(ApiError::new(
                Code::PreconditionFailed,
                format!("the {what} has changed since: its ETag is \"{now}\" now"),
            )),
        }
    }
}

impl Preconditions {
    pub(super) fn read(headers: &HeaderMap) -> Result<Preconditions, ApiError> {
        if !headers.contains_key(header::IF_MATCH) && !headers.contains_key(header::IF_NONE_MATCH) {
            return Ok(Preconditions::default());
        }
        let read = |name: HeaderName| match headers.get(&name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(IfMatch::parse(text))),
            Some(Err(_)) => Err(ApiError::malformed(format!("the header {name} is not ASCII"))),
        };
        Ok(Preconditions { if_match: read(header::IF_MATCH)?, if_none_match: read(header::IF_NONE_MATCH)? })
    }

    /// Whether the client has this version already.
    pub fn is_known(&self, tag: &str) -> bool {
        self.if_none_match.as_ref().is_some_and(|known| known.has(tag))
    }

    /// The revision that a zone must have.
    ///
    /// # Errors
    /// If it hasn't got it even now.
    pub fn zone_revision(&self, zone: &Zone) -> Result<Option<u64>, ApiError> {
        self.if_match.as_ref().map_or(Ok(None), |if_match| if_match.zone_revision(zone))
    }

    /// The revision that what has `now` must still have when the command is decided.
    ///
    /// # Errors
    /// If it has another one by now.
    pub fn revision(&self, now: u64, what: fmt::Arguments<'_>) -> Result<Option<u64>, ApiError> {
        self.if_match.as_ref().map_or(Ok(None), |if_match| if_match.revision(now, what))
    }

    /// What isn't there has no tag.
    ///
    /// # Errors
    /// If it is to have one.
    pub fn zone_is_absent(&self) -> Result<(), ApiError> {
        match self.if_match {
            None => Ok(()),
            Some(_) => {
                Err(ApiError::new(Code::PreconditionFailed, "there is no such zone, so it has no ETag"))
            }
        }
    }

    /// What an RRset must be. Of several tags the one that it has now is the one it must still have.
    ///
    /// # Errors
    /// If a tag can't be one, or `If-None-Match` has tags.
    pub fn rrset(&self, zone: &Zone, key: &RrKey) -> Result<Option<RrsetMatch>, ApiError> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Ok(None),
            (None, Some(IfMatch::Any)) => Ok(Some(RrsetMatch::Absent)),
            (Some(IfMatch::Any), None) => Ok(Some(RrsetMatch::Present)),
            (Some(IfMatch::Tags(tags)), None) => {
                let now = zone.get(key).map(|rrset| rrset_tag(key, &rrset));
                let tag = tags.iter().find(|tag| Some(*tag) == now.as_ref()).or(tags.first());
                // A tag that isn't one of ours is matched by nothing.
                let digest = tag.and_then(|tag| u128::from_str_radix(tag, 16).ok());
                digest.map(|digest| Some(RrsetMatch::Digest(digest))).ok_or_else(|| {
                    ApiError::new(Code::PreconditionFailed, format!("{key} never had this ETag"))
                })
            }
            _ => {
                Err(ApiError::malformed("with a write, If-None-Match can only be `*`, and without If-Match"))
            }
        }
    }
}

/// The tag of an RRset, without quotes.
pub fn rrset_tag(key: &RrKey, rrset: &Rrset) -> String {
    format!("{:032x}", rrset.digest(key))
}
