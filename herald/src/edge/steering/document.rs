//! `GET`, `PUT /zones/{zone}/steering`: all of it.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::RrKey;
use herald_core::command::ZoneRef;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_wire::api::steering::SteeringDocument;
use herald_wire::api::{self, Problem, Written};

use super::draft::Draft;
use super::read::Reader;
use super::{Asked, AtQuery, Edits, change, show, whole_zone};
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing, blocking};
use crate::edge::names::Faults;
use crate::edge::problem::ApiError;
use crate::edge::respond;
use crate::edge::zones::answer_zone_with;

/// All steering of a zone, as it is or was.
#[utoipa::path(get, path = "/zones/{zone}/steering", tag = "steering", operation_id = "get_steering",
    params(("zone" = String, Path, description = "Id or unambiguous name."), AtQuery),
    responses(
        (status = 200, body = SteeringDocument, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<ZoneRef, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, preconditions } = request;
    let zone = whole_zone(&caller, &path, query.at.as_deref()).await?;
    let tag = zone.revision.to_string();
    // There may be a million policies.
    blocking(move || {
        let document = || respond::json(StatusCode::OK, &show::document(&zone));
        respond::tagged_json(&preconditions, &tag, document)
    })
    .await
}

/// The zone's steering becomes this: what isn't in the document goes.
#[utoipa::path(put, path = "/zones/{zone}/steering", tag = "steering", operation_id = "put_steering",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = SteeringDocument,
    responses(
        (status = 200, body = Written<api::Zone>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<ZoneRef, Json<SteeringDocument>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { mut writer, path, body: Json(document), preconditions, .. } = request;
    writer.need_whole_zones()?;
    let is_guarded = preconditions.if_match.is_some();
    let asked = Asked { path: &path, is_guarded, needs_base: true, message: None };
    let (done, warnings) =
        change(&mut writer, asked, Some(&preconditions), |zone| edits(zone, &document)).await?;
    answer_zone_with(&writer, done, warnings).await
}

/// What makes a zone's steering this.
fn edits(zone: &Zone, document: &SteeringDocument) -> Result<Edits, ApiError> {
    let mut faults = Faults::default();
    let mut draft = Draft::of(zone);
    let settings = Reader::settings(document.settings);
    if document.settings != api::steering::SteeringSettings::default() {
        draft.put(steering::settings_key(&zone.name), &settings, "/settings");
    }
    let mut reader = Reader { zone: &zone.name, faults: &mut faults };
    for (name, view) in &document.views {
        let at = format!("/views/{}", escaped(name));
        let item = reader.view(view, &at);
        if let (Some(name), Some(item)) = (reader.label(name, at.clone()), item) {
            put_held(&mut draft, steering::view_key(&zone.name, name), &item, &at, &mut reader);
        }
    }
    for (name, pool) in &document.pools {
        let at = format!("/pools/{}", escaped(name));
        let item = reader.pool(pool, &at);
        if let (Some(name), Some(item)) = (reader.label(name, at.clone()), item) {
            put_held(&mut draft, steering::pool_key(&zone.name, name), &item, &at, &mut reader);
        }
    }
    let mut seen = BTreeSet::new();
    for (place, policy) in document.policies.iter().enumerate() {
        let at = format!("/policies/{place}");
        let Some((owner, answered, item)) = reader.policy(policy, &at) else { continue };
        let Some(key) = steering::policy_key(&owner, answered) else { continue };
        if !seen.insert(key.clone()) {
            reader.faults.add(
                at.clone(),
                "this policy is given twice",
                Some(&policy.name),
                Some(&policy.rtype),
            );
        }
        draft.put(key, &item, &at);
    }
    overlays(&mut draft, document, &mut reader);
    faults.check()?;
    draft.delete_others("");
    Ok(draft.finish())
}

fn overlays(draft: &mut Draft<'_>, document: &SteeringDocument, reader: &mut Reader<'_>) {
    let mut by_owner = std::collections::BTreeMap::<_, (Vec<steering::Overlay>, String)>::new();
    for (place, overlay) in document.overlays.iter().enumerate() {
        let at = format!("/overlays/{place}");
        let Some((owner, read)) = reader.overlay(overlay, &at) else { continue };
        let (all, _) = by_owner.entry(owner).or_insert_with(|| (Vec::new(), at.clone()));
        if all.iter().any(|other| super::draft::is_of(other, &read.view, read.rtype)) {
            reader.faults.add(at, "this overlay is given twice", Some(&overlay.name), Some(&overlay.rtype));
            continue;
        }
        all.push(read);
    }
    for (owner, (overlays, at)) in by_owner {
        let key = RrKey::new(owner, steering::OVERLAY);
        let item = Item::Overlays(overlays);
        if item.write().is_err() {
            reader.faults.add(at, "an overlay is too large", None, None);
            continue;
        }
        draft.put(key, &item, &at);
    }
}

fn put_held(
    draft: &mut Draft<'_>,
    key: Result<RrKey, herald_core::name::NameError>,
    item: &Item,
    at: &str,
    reader: &mut Reader<'_>,
) {
    match key {
        Ok(key) => draft.put(key, item, at),
        Err(e) => reader.faults.add(at.into(), e.to_string(), None, None),
    }
}

/// A key as a part of a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use herald_core::MonitorId;
    use herald_core::command::EditOp;
    use herald_core::content::Content;
    use herald_core::steering::{
        AnswerMode, City, Endpoint, EndpointRecords, EndpointState, Location, Overlay, Policy, Pool, Rule,
        STEERABLE, Sticky, Subdivision, View, When, WhenAllDown, WhenIsolated, placeholder, policy_key,
        policy_type, pool_key, view_key,
    };
    use herald_core::{Name, Rrset, Rtype};
    use proptest::prelude::*;

    use super::*;
    use crate::edge::tests::zone_of;

    const OWNERS: [&str; 6] = [
        "example.com",
        "www.example.com",
        "*.example.com",
        r"a\.b.example.com",
        "example.com.example.com",
        "xn--bcher-kva.example.com",
    ];

    fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(values.to_vec())
    }

    /// Some RDATA of a type.
    fn rrset(rtype: Rtype, ttl: u32) -> Rrset {
        let policy = policy_type(rtype).unwrap();
        Rrset { ttl, rdatas: placeholder(policy).unwrap().1.rdatas }
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        let state = one_of(&[EndpointState::Enabled, EndpointState::Drained, EndpointState::Disabled]);
        let place = prop::option::of((-90.0f32..=90.0, -180.0f32..=180.0));
        let types = prop::sample::subsequence(STEERABLE.to_vec(), 1..4);
        let monitor = prop::option::of((1..9u32).prop_map(MonitorId));
        (types, 0..=1_000_000u32, state, place, -99..=99i8, monitor).prop_map(
            |(mut types, weight, state, place, bias, monitor)| {
                types.sort_by_key(|rtype| rtype.to_int());
                Endpoint {
                    name: String::new(),
                    records: types
                        .into_iter()
                        .map(|rtype| EndpointRecords { rtype, rdatas: rrset(rtype, 0).rdatas })
                        .collect(),
                    weight,
                    state,
                    location: place.map(|(latitude, longitude)| Location { latitude, longitude }),
                    bias,
                    monitor,
                }
            },
        )
    }

    fn pool() -> impl Strategy<Value = Pool> {
        let answer =
            prop_oneof![Just(AnswerMode::All), Just(AnswerMode::One), (1..=64u8).prop_map(AnswerMode::UpTo),];
        let sticky = prop::option::of((0..=32u8, 0..=128u8));
        (0..100_000u32, answer, sticky, 0..9u16, prop::collection::vec(endpoint(), 0..4)).prop_map(
            |(ttl, answer, sticky, min_healthy, mut endpoints)| {
                for (place, endpoint) in endpoints.iter_mut().enumerate() {
                    endpoint.name = format!("e{place}");
                }
                let sticky = sticky.map(|(ipv4_prefix, ipv6_prefix)| Sticky { ipv4_prefix, ipv6_prefix });
                Pool { ttl, answer, sticky, min_healthy, endpoints }
            },
        )
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let cities = one_of(&[
            City::GeoNames(2_950_159),
            City::Named { name: "São Paulo: \"x\"".into(), country: *b"BR" },
        ]);
        let some = |text: &'static str| prop::collection::vec(Just(text.to_owned()), 0..2);
        let when = (
            prop::collection::vec(one_of(&[*b"EU", *b"AF"]), 0..2),
            prop::collection::vec(one_of(&[*b"NO", *b"DE"]), 0..3),
            prop::collection::vec(Just(Subdivision::parse("US-CA").unwrap()), 0..2),
            prop::collection::vec(cities, 0..3),
            prop::collection::vec(any::<u32>(), 0..3),
            prop::collection::vec(one_of(&["192.0.2.0/24".parse().unwrap(), "::/0".parse().unwrap()]), 0..2),
            some("fra1"),
            some("office"),
        );
        let name = prop::option::of(Just("a name".to_owned()));
        (name, when, prop::collection::vec(one_of(&["eu".to_owned(), "no".to_owned()]), 1..3), any::<bool>())
            .prop_map(|(name, when, pools, nearest)| {
                let (continents, countries, subdivisions, cities, asns, prefixes, pops, views) = when;
                let when = When { continents, countries, subdivisions, cities, asns, prefixes, pops, views };
                Rule { name, when, pools, nearest }
            })
    }

    proptest! {
        /// What a document says of a zone's steering makes the same steering again.
        #[test]
        fn what_comes_out_goes_in_again(
            pools in prop::collection::vec(pool(), 0..3),
            policies in prop::collection::vec((0..OWNERS.len(), one_of(&STEERABLE), prop::collection::vec(rule(), 1..4), 0..3usize, any::<bool>()), 0..4),
            overlays in prop::collection::vec((0..OWNERS.len(), one_of(&STEERABLE), prop::option::of(0..1000u32)), 0..4),
            ecs: bool,
            alias_by_region: bool,
        ) {
            let apex = Name::parse("example.com").unwrap();
            let mut content = Content::default();
            let mut put = |key: RrKey, item: Item| {
                assert_eq!(steering::faults(&item), []);
                content.put(key, item.write().unwrap());
            };
            for (place, pool) in pools.into_iter().enumerate() {
                put(pool_key(&apex, &format!("p{place}")).unwrap(), Item::Pool(pool));
            }
            let view = View { prefixes: vec!["10.0.0.0/8".parse().unwrap()], pops: vec!["fra1".into()] };
            put(view_key(&apex, "office").unwrap(), Item::View(view));
            for (owner, answered, rules, all_down, is_local) in policies {
                let key = policy_key(&Name::parse(OWNERS[owner]).unwrap(), answered).unwrap();
                let when_all_down = [WhenAllDown::ServeAll, WhenAllDown::ServeLast, WhenAllDown::NoData][all_down];
                let when_isolated = if is_local { WhenIsolated::Local } else { WhenIsolated::Hold };
                put(key, Item::Policy(answered, Policy { rules, when_all_down, when_isolated }));
            }
            for (owner, rtype, ttl) in overlays {
                let overlay = Overlay { view: "office".into(), rtype, rrset: ttl.map(|ttl| rrset(rtype, ttl)) };
                let key = RrKey::new(Name::parse(OWNERS[owner]).unwrap(), steering::OVERLAY);
                put(key, Item::Overlays(vec![overlay]));
            }
            if ecs || alias_by_region {
                let settings = steering::Settings { ecs, alias_by_region };
                put(steering::settings_key(&apex), Item::Settings(settings));
            }
            let text = serde_json::to_string(&show::document(&zone_of("example.com", content.clone()))).unwrap();
            let document: SteeringDocument = serde_json::from_str(&text).unwrap();
            let (edits, _) = edits(&zone_of("example.com", Content::default()), &document).unwrap();
            let mut again = Content::default();
            for edit in edits {
                let EditOp::Put { ttl, rdatas } = edit.op else { panic!("nothing is there to go") };
                again.put(edit.key, Rrset { ttl, rdatas });
            }
            prop_assert_eq!(again, content, "{}", text);
        }
    }
}
