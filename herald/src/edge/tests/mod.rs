//! Through the router, with a real engine on a real store.

mod accounts;
mod aliases;
mod answers;
mod brakes;
mod channels;
mod explain;
mod firewall;
mod geoip;
mod history;
mod hostile;
mod isolation;
mod limits;
mod monitors;
mod openapi;
mod public_dns;
mod query_log;
mod repetitions;
mod rrsets;
mod server;
mod stats;
mod steering;
mod tokens;
mod waits;
mod zone_files;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::content::Content;
use herald_core::decide::Subject;
use herald_core::zone::{SoaFields, Zone, ZoneStatus};
use herald_core::{Generation, Name, NsSetId, TenantId, ZoneId};
use herald_store::EmbeddedStore;
use herald_wire::api::query_log::QueryLogAddresses;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::secret::NewSecret;
use super::{AppState, Kept, Limits, router};
use crate::access_log::AccessLog;
use crate::clock;
use crate::delegation::Resolver;
use crate::engine::Engine;
use crate::history::History;
use crate::notify::Notify;
use crate::publisher::{Publisher, Shared};
use crate::query_log::QueryLogs;
use crate::stats::{Retention, Stats};

/// A control plane with an operator, a set of name servers, and the tenants alice and bob.
struct World {
    router: Router,
    engine: Engine,
    shutdown: CancellationToken,
    operator: String,
    alice: String,
    bob: String,
    _dir: tempfile::TempDir,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
    /// Null if it isn't JSON.
    json: Value,
}

impl Reply {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The id of the item that was written.
    fn id(&self) -> String {
        self.json["item"]["id"].as_str().unwrap_or_else(|| panic!("no id in {}", self.text)).to_owned()
    }

    /// Checks that it is a problem document of this code, and gives the pointers of its items.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Vec<&str> {
        assert_eq!(
            (self.status, self.header(header::CONTENT_TYPE)),
            (status, "application/problem+json"),
            "{}",
            self.text
        );
        assert_eq!(self.json["type"], format!("urn:koder-herald:problem:{code}"), "{}", self.text);
        assert_eq!(self.json["status"], status);
        assert!(!self.json["title"].as_str().unwrap().is_empty());
        assert!(!self.json["detail"].as_str().unwrap().is_empty());
        let items = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| item["pointer"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn ok(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// A request in the making.
struct Call<'w> {
    world: &'w World,
    request: axum::http::request::Builder,
    body: Body,
}

impl Call<'_> {
    fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    fn body(mut self, content_type: &str, body: impl Into<Body>) -> Self {
        self.request = self.request.header(header::CONTENT_TYPE, content_type);
        self.body = body.into();
        self
    }

    async fn send(self) -> Reply {
        let request: Request<Body> = self.request.body(self.body).unwrap();
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, text, json }
    }
}

impl World {
    async fn new() -> World {
        World::with(Limits::default(), Resolver::new(vec!["127.0.0.1:1".parse().unwrap()])).await
    }

    async fn with(limits: Limits, resolver: Resolver) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let shared = Arc::new(Shared::default());
        let (engine, _) = Engine::start(store, clock::now_ms(), shared.on_commit()).unwrap();
        let secret = NewSecret::draw();
        let action = Action::Bootstrap { secret_hash: secret.token_hash() };
        let command = Command { context: clock::context(Principal::System, None), action };
        let Some(Subject::Token(id)) = engine.submit(command).await.unwrap().subject else {
            panic!("bootstrapping makes a token")
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(crate::health::run(engine.clone(), shared.clone(), shutdown.clone()));
        let publisher = Publisher::new(engine.clone(), shared);
        let history = History::start(dir.path(), engine.follow()).unwrap();
        let access_log = AccessLog::start(dir.path(), 400).unwrap();
        let stats = Stats::open(dir.path(), Retention::default()).unwrap();
        let query_logs =
            QueryLogs::open(dir.path(), QueryLogAddresses::Whole, crate::query_log::Limits::default())
                .unwrap();
        let notify = Notify::open(dir.path(), engine.follow(), history.clone(), None).unwrap();
        tokio::spawn(notify.clone().run(shutdown.clone()));
        let app = AppState::new(
            engine.clone(),
            publisher,
            Kept { history, access_log, stats, query_logs, notify },
            resolver,
            limits,
            shutdown.clone(),
        );
        let mut world = World {
            router: router(app),
            engine,
            shutdown,
            operator: secret.token_text(id),
            alice: String::new(),
            bob: String::new(),
            _dir: dir,
        };
        let set = json!({
            "name": "main", "nameservers": ["ns1.herald.test", "ns2.herald.test."], "rname": "dns@herald.test",
        });
        world.operator("POST", "/nameserver-sets").json(&set).send().await.ok(201);
        for name in ["alice", "bob"] {
            world.operator("POST", "/tenants").json(&json!({ "name": name })).send().await.ok(201);
        }
        world.alice = world.token(&json!({ "tenant": "alice" })).await;
        world.bob = world.token(&json!({ "tenant": "bob" })).await;
        world
    }

    /// A call of a route under the API's base, without a token.
    fn call(&self, method: &str, path: &str) -> Call<'_> {
        self.outside(method, &format!("/api/v1{path}"))
    }

    fn outside(&self, method: &str, path: &str) -> Call<'_> {
        Call { world: self, request: Request::builder().method(method).uri(path), body: Body::empty() }
    }

    fn with_token(&self, token: &str, method: &str, path: &str) -> Call<'_> {
        self.call(method, path).header(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    fn operator(&self, method: &str, path: &str) -> Call<'_> {
        self.with_token(&self.operator, method, path)
    }

    fn alice(&self, method: &str, path: &str) -> Call<'_> {
        self.with_token(&self.alice, method, path)
    }

    fn bob(&self, method: &str, path: &str) -> Call<'_> {
        self.with_token(&self.bob, method, path)
    }

    /// Makes a token as the operator, and gives its secret.
    async fn token(&self, body: &Value) -> String {
        let reply = self.operator("POST", "/tokens").json(body).send().await.ok(201);
        reply.json["item"]["secret"].as_str().unwrap().to_owned()
    }

    /// Makes a zone of alice's, and gives its id.
    async fn zone(&self, name: &str) -> String {
        self.alice("POST", "/zones").json(&json!({ "name": name })).send().await.ok(201).id()
    }

    /// The records of an RRset of alice's.
    async fn records(&self, zone: &str, name: &str, rtype: &str) -> Value {
        let reply = self.alice("GET", &format!("/zones/{zone}/rrsets/{name}/{rtype}")).send().await;
        reply.json["records"].clone()
    }
}

/// A zone of this content, for what needs no more than a zone.
pub fn zone_of(apex: &str, content: Content) -> Zone {
    let name = Name::parse(apex).unwrap();
    let soa = SoaFields {
        mname: name.clone(),
        rname: name.clone(),
        refresh_s: 1,
        retry_s: 1,
        expire_s: 1,
        minimum_s: 1,
        ttl: 1,
    };
    Zone {
        id: ZoneId(1),
        name,
        tenant: TenantId(1),
        status: ZoneStatus::Active,
        ns_set: NsSetId(1),
        labels: BTreeMap::new(),
        created_at_ms: 0,
        changed_at_ms: 0,
        revision: 1,
        generation: Generation::default(),
        serial: 1,
        soa,
        challenge: String::new(),
        admitted_by: Vec::new(),
        content,
        shrunk: None,
        resolved: Content::default(),
    }
}

/// For something to come about.
const SOON: Duration = Duration::from_secs(10);
