//! `/probe-rules`: which addresses monitors may be aimed at. For operators.

use std::iter;
use std::net::IpAddr;

use herald_core::command::Action;
use herald_core::monitor;
use herald_core::state::State;
use herald_core::steering::Prefix;
use herald_wire::api::monitors::{OwnAddresses, ProbeRules};
use herald_wire::api::{Problem, Written};

use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing};
use crate::edge::names::Faults;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::respond;

/// Which addresses monitors may be aimed at.
#[utoipa::path(get, path = "/probe-rules", tag = "monitors", operation_id = "get_probe_rules", responses(
    (status = 200, body = ProbeRules),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading) -> Result<respond::Ok<ProbeRules>, ApiError> {
    request.caller.access().need_operator()?;
    Ok(respond::Ok(show(request.caller.state())))
}

/// Set which addresses monitors may be aimed at.
///
/// PoPs judge every address by this that a target turns out to have, at each probe.
#[utoipa::path(put, path = "/probe-rules", tag = "monitors", operation_id = "put_probe_rules",
    params(WriteQuery), request_body = ProbeRules, responses(
    (status = 200, body = Written<ProbeRules>),
    (status = 202, body = Written<ProbeRules>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<(), Json<ProbeRules>>) -> Result<Answer<ProbeRules>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    writer.access().need_operator()?;
    let mut faults = Faults::default();
    let mut read = |field: &str, texts: &[String]| -> Vec<Prefix> {
        let mut prefixes = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(prefix) => prefixes.push(prefix),
                Err(e) => faults.add(format!("/{field}/{place}"), format!("{e}"), None, None),
            }
        }
        prefixes
    };
    let rules = monitor::ProbeRules {
        allowed: read("allowed", &body.allowed),
        refused: read("refused", &body.refused),
    };
    faults.check()?;
    let done = writer.submit(Action::SetProbeRules(rules), None, Pointers::None).await?;
    let item = show(&done.state);
    writer.answer(done, Some(item)).await
}

fn show(state: &State) -> ProbeRules {
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect();
    let monitors = state.monitors();
    let pops = state.pops().map(|pop| (Some(pop.name.clone()), monitors.own(Some(pop.id))));
    let hosts = iter::once((None, monitors.own(None))).chain(pops);
    let own = hosts.filter(|(_, addresses)| !addresses.is_empty()).map(|(pop, addresses)| OwnAddresses {
        pop,
        addresses: addresses.iter().map(IpAddr::to_string).collect(),
    });
    ProbeRules {
        allowed: texts(&monitors.rules().allowed),
        refused: texts(&monitors.rules().refused),
        own: own.collect(),
    }
}
