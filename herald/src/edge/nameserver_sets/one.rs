//! `GET`, `PUT`, `DELETE /nameserver-sets/{set}`

use herald_core::Name;
use herald_core::account::Verb;
use herald_core::command::{Action, NsSetInput};
use herald_core::decide::Subject;
use herald_core::name::NameError;
use herald_core::zone::SoaFields;
use herald_wire::api::{NameserverSet, NameserverSetInput, Problem, Written};

use crate::edge::gate::{Answer, Done, Json, NoBody, Reading, WriteQuery, Writer, Writing};
use crate::edge::names::Faults;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{lookup, present, respond};

/// One set of name servers.
#[utoipa::path(get, path = "/nameserver-sets/{set}", tag = "nameserver-sets", operation_id = "get_nameserver_set",
    params(("set" = String, Path, description = "Id or name.")),
    responses(
        (status = 200, body = NameserverSet),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String>) -> Result<respond::Ok<NameserverSet>, ApiError> {
    let Reading { caller, path, .. } = request;
    caller.access().need_verb(Verb::Read)?;
    Ok(respond::Ok(present::nameserver_set(lookup::nameserver_set(caller.state(), &path)?)))
}

/// The set becomes this, and its zones move along.
#[utoipa::path(put, path = "/nameserver-sets/{set}", tag = "nameserver-sets", operation_id = "put_nameserver_set",
    params(("set" = String, Path, description = "Id or name."), WriteQuery),
    request_body = NameserverSetInput,
    responses(
        (status = 200, body = Written<NameserverSet>),
        (status = 202, body = Written<NameserverSet>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<String, Json<NameserverSetInput>>,
) -> Result<Answer<NameserverSet>, ApiError> {
    let Writing { writer, path, body: Json(mut body), .. } = request;
    writer.access().need_operator()?;
    let message = body.message.take();
    let set = lookup::nameserver_set(writer.state(), &path)?.id;
    let action = Action::UpdateNsSet { set, input: parse_input(body)? };
    let done = writer.submit(action, message, Pointers::None).await?;
    answer_set(&writer, done, false).await
}

/// Delete a set that no zone uses.
#[utoipa::path(delete, path = "/nameserver-sets/{set}", tag = "nameserver-sets",
    operation_id = "delete_nameserver_set",
    params(("set" = String, Path, description = "Id or name."), WriteQuery),
    responses(
        (status = 200, body = Written<NameserverSet>),
        (status = 202, body = Written<NameserverSet>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<NameserverSet>, ApiError> {
    let Writing { writer, path, .. } = request;
    writer.access().need_operator()?;
    let set = lookup::nameserver_set(writer.state(), &path)?.id;
    let done = writer.submit(Action::DeleteNsSet { set }, None, Pointers::None).await?;
    writer.answer(done, None).await
}

pub(super) async fn answer_set(
    writer: &Writer,
    done: Done,
    is_created: bool,
) -> Result<Answer<NameserverSet>, ApiError> {
    let set = match done.subject {
        Some(Subject::NsSet(id)) => done.state.ns_set(id),
        _ => None,
    };
    let item = set.map(|set| present::nameserver_set(set));
    let path = item.as_ref().map(|item| format!("/nameserver-sets/{}", item.id)).filter(|_| is_created);
    Ok(writer.answer(done, item).await?.created_at(path))
}

/// Reads what a set is to be.
///
/// # Errors
/// Invalid, with an item for each name that is none.
pub(super) fn parse_input(input: NameserverSetInput) -> Result<NsSetInput, ApiError> {
    let mut faults = Faults::default();
    let mut nameservers = Vec::with_capacity(input.nameservers.len());
    for (place, text) in input.nameservers.iter().enumerate() {
        match Name::parse(text) {
            Ok(name) => nameservers.push(name),
            Err(e) => faults.add(format!("/nameservers/{place}"), e.to_string(), Some(text), None),
        }
    }
    if input.nameservers.is_empty() {
        faults.add("/nameservers".into(), "a set has at least one name server", None, None);
    }
    let rname = parse_mailbox(&input.rname)
        .map_err(|e| faults.add("/rname".into(), e.to_string(), Some(&input.rname), None))
        .ok();
    faults.check()?;
    let (Some(mname), Some(rname)) = (nameservers.first().cloned(), rname) else {
        unreachable!("what is missing is a fault")
    };
    Ok(NsSetInput {
        name: input.name,
        nameservers,
        soa: SoaFields {
            mname,
            rname,
            refresh_s: input.soa.refresh,
            retry_s: input.soa.retry,
            expire_s: input.soa.expire,
            minimum_s: input.soa.minimum,
            ttl: input.ttl,
        },
        is_default: input.default,
    })
}

/// A mailbox as a name, or as a mail address, whose local part is then one label (RFC 1035 §8).
fn parse_mailbox(text: &str) -> Result<Name, NameError> {
    match text.rsplit_once('@') {
        Some((local, domain)) => Name::parse(domain)?.child(local),
        None => Name::parse(text),
    }
}
