//! A control plane in this process, with two zones and a PoP: its sessions and its API are what is fuzzed.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use herald::access_log::AccessLog;
use herald::clock;
use herald::delegation::Resolver;
use herald::edge::secret::NewSecret;
use herald::edge::{AppState, Kept, Limits, router};
use herald::engine::{Engine, Writer};
use herald::history::History;
use herald::notify::Notify;
use herald::publisher::{Publisher, Shared};
use herald::query_log::QueryLogs;
use herald::stats::{Retention, Stats};
use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::decide::Subject;
use herald_store::EmbeddedStore;
use herald_wire::api::query_log::QueryLogAddresses;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) struct ControlPlane {
    pub shared: Arc<Shared>,
    /// The secret of `pop1`.
    pub pop_secret: String,
    pub tenant: String,
    pub operator: String,
    runtime: Runtime,
    router: Router,
    _engine: (Engine, Writer),
    _dir: tempfile::TempDir,
}

/// The one of this process. What is fuzzed changes nothing of it but the PoP's session.
pub(crate) static CONTROL_PLANE: LazyLock<ControlPlane> = LazyLock::new(ControlPlane::new);

impl ControlPlane {
    fn new() -> ControlPlane {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let store = Arc::new(EmbeddedStore::open(&dir.path().join("store")).expect("a store"));
        let shared = Arc::new(Shared::default());
        let (engine, writer) = Engine::start(store, clock::now_ms(), shared.on_commit()).expect("an engine");
        let secret = NewSecret::draw();
        let action = Action::Bootstrap { secret_hash: secret.token_hash() };
        let command = Command { context: clock::context(Principal::System, None), action };
        let made = runtime.block_on(engine.submit(command)).expect("a token").subject;
        let Some(Subject::Token(token)) = made else { panic!("bootstrapping makes a token") };
        let history =
            runtime.block_on(async { History::start(dir.path(), engine.follow()) }).expect("a history");
        let access_log = AccessLog::start(dir.path(), 1).expect("an access log");
        let publisher = Publisher::new(engine.clone(), Arc::clone(&shared));
        // Nobody answers there: the public DNS is not asked.
        let resolver = Resolver::new(vec!["127.0.0.1:1".parse().expect("an address")]);
        let stats = Stats::open(dir.path(), Retention::default()).expect("counts");
        let query_logs =
            QueryLogs::open(dir.path(), QueryLogAddresses::Whole, Default::default()).expect("a query log");
        let notify = Notify::open(dir.path(), engine.follow(), history.clone(), None).expect("notifications");
        let app = AppState::new(
            engine.clone(),
            publisher,
            Kept { history, access_log, stats, query_logs, notify },
            resolver,
            Limits::default(),
            CancellationToken::new(),
        );
        let mut this = ControlPlane {
            shared,
            pop_secret: String::new(),
            tenant: String::new(),
            operator: secret.token_text(token),
            runtime,
            router: router(app),
            _engine: (engine, writer),
            _dir: dir,
        };
        let operator = this.operator.clone();
        let make = |token: &str, path: &str, body: Value| {
            let (status, text) =
                this.call(token, "POST", path, "application/json", body.to_string().into_bytes());
            assert_eq!(status, 201, "{path}: {text}");
            serde_json::from_str::<Value>(&text).expect("JSON")["item"].clone()
        };
        make(
            &operator,
            "/nameserver-sets",
            json!({ "name": "main", "default": true, "nameservers": ["ns1.dns.example."], "rname": "dns.dns.example." }),
        );
        make(&operator, "/tenants", json!({ "name": "alice" }));
        let tenant =
            make(&operator, "/tokens", json!({ "tenant": "alice", "description": "" }))["secret"].clone();
        let pop = make(&operator, "/pops", json!({ "name": "pop1" }))["secret"].clone();
        let secret = |value: Value| value.as_str().expect("shown once").to_owned();
        let (tenant, pop) = (secret(tenant), secret(pop));
        for zone in ["example.com", "other.example"] {
            let www = json!([{ "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.1"] }]);
            make(&tenant, "/zones", json!({ "name": zone, "rrsets": www }));
        }
        (this.tenant, this.pop_secret) = (tenant, pop);
        this
    }

    /// Calls the API; status and body.
    pub(crate) fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .expect("a request");
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("the router answers");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
        })
    }
}
