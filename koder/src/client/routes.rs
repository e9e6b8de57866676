//! One method per route of the API, in the order of its reference.

use std::io::{self, Write};

use herald_wire::api::aliases::Alias;
use herald_wire::api::channels::{Channel, ChannelConfirmation, ChannelInput, ChannelTest};
use herald_wire::api::monitors::{Monitor, MonitorEvent, MonitorTest, ProbeRules};
use herald_wire::api::query_log::{QueryLog, QueryLogPut, QueryLogRecord};
use herald_wire::api::stats::Stats;
use herald_wire::api::{
    AccessRecord, Admission, Brakes, BrakesPatch, Change, ChangeItem, Geoip, GeoipKind, ImportReport,
    MultiZoneBatch, NameserverSet, NameserverSetInput, Page, Pop, PopCreate, PopPatch, Release, Rollback,
    RollbackReport, Rrset, RrsetBatch, RrsetPut, Tenant, TenantCreate, TenantPatch, Token, TokenCreate,
    Whoami, Written, Zone, ZoneCheck, ZoneCreate, ZoneDiff, ZoneHistoryItem, ZonePatch,
};
use serde_json::Value;
use ureq::http::{Method, StatusCode};

use super::query::{access_query, at_query, diff_query, filtered, import_query};
use super::{
    Answer, ChangeQuery, Client, ClientError, PageQuery, QueryLogQuery, RrsetQuery, StatsQuery, WaitFor,
    WriteOptions, ZoneQuery,
};
use super::{FileUpload, ImportOptions};

type Result<T> = std::result::Result<Answer<T>, ClientError>;

/// Who is asking.
impl Client {
    /// `GET /whoami`: the caller's token and tenant.
    pub fn whoami(&self) -> Result<Whoami> {
        self.call(Method::GET, &["whoami"]).send()
    }
}

/// Zones.
impl Client {
    /// `GET /zones`: zones in canonical order, a page of them.
    pub fn zones(&self, query: &ZoneQuery) -> Result<Page<Zone>> {
        self.call(Method::GET, &["zones"]).query(query.query()).send()
    }

    /// `POST /zones`: makes a zone.
    pub fn create_zone(&self, zone: &ZoneCreate, options: &WriteOptions) -> Result<Written<Zone>> {
        let call = self.call(Method::POST, &["zones"]).json(zone).write(options);
        if zone.zone_file.is_some() { call.bulk().send() } else { call.send() }
    }

    /// `GET /zones/{zone}`: one zone.
    pub fn zone(&self, zone: &str) -> Result<Zone> {
        self.call(Method::GET, &["zones", zone]).send()
    }

    /// `PATCH /zones/{zone}`: changes its settings.
    pub fn patch_zone(&self, zone: &str, patch: &ZonePatch, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::PATCH, &["zones", zone]).json(patch).write(options).send()
    }

    /// `DELETE /zones/{zone}`: deletes it with all of its records.
    pub fn delete_zone(&self, zone: &str, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::DELETE, &["zones", zone]).write(options).send()
    }

    /// `POST /zones/{zone}/verify`: looks for the proof of a pending zone and lets it in.
    pub fn verify_zone(&self, zone: &str, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::POST, &["zones", zone, "verify"]).empty_body().write(options).send()
    }

    /// `POST /zones/{zone}/admit`: an operator lets a pending zone in.
    pub fn admit_zone(&self, zone: &str, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::POST, &["zones", zone, "admit"]).empty_body().write(options).send()
    }

    /// `POST /admissions`: the holder of a name lets another tenant's pending zone in.
    pub fn create_admission(&self, admission: &Admission, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::POST, &["admissions"]).json(admission).write(options).send()
    }

    /// `GET /zones/{zone}/check`: how the delegation stands in the parent.
    pub fn check_zone(&self, zone: &str) -> Result<ZoneCheck> {
        self.call(Method::GET, &["zones", zone, "check"]).send()
    }

    /// `POST /zones/{zone}/import`: a zone file goes in, read while it is sent.
    pub fn import_zone<'a>(
        &'a self,
        zone: &str,
        zone_file: FileUpload<'a>,
        import: &ImportOptions,
        options: &WriteOptions,
    ) -> Result<Written<ImportReport>> {
        self.call(Method::POST, &["zones", zone, "import"])
            .query(import_query(import))
            .file(zone_file)
            .write(options)
            .send()
    }

    /// `GET /zones/{zone}/export`: a zone file comes out, into `out` while it arrives, and its size in octets is given; as of
    /// a revision or time if one is given. What `out` says is the inner result.
    pub fn export_zone(
        &self,
        zone: &str,
        at: Option<&str>,
        out: &mut dyn Write,
    ) -> std::result::Result<io::Result<u64>, ClientError> {
        self.call(Method::GET, &["zones", zone, "export"])
            .query(at_query(at))
            .bulk()
            .long_answer()
            .send_to(out)
    }

    /// `GET /zones/{zone}/aliases`: its ALIAS records and what they resolve to, a page of them, or the one at a name.
    pub fn aliases(&self, zone: &str, name: Option<&str>, page: &PageQuery) -> Result<Page<Alias>> {
        let name = name.map(|name| ("name", name));
        self.call(Method::GET, &["zones", zone, "aliases"]).query(filtered(name.as_slice(), page)).send()
    }

    /// `GET /zones/{zone}/history`: what was done to it, newest first.
    pub fn zone_history(&self, zone: &str, page: &PageQuery) -> Result<Page<ZoneHistoryItem>> {
        self.call(Method::GET, &["zones", zone, "history"]).query(page.query()).send()
    }

    /// `GET /zones/{zone}/stats`, or `GET /stats` for what is of no zone.
    pub fn stats(&self, zone: Option<&str>, query: &StatsQuery) -> Result<Stats> {
        let call = match zone {
            Some(zone) => self.call(Method::GET, &["zones", zone, "stats"]),
            None => self.call(Method::GET, &["stats"]),
        };
        call.query(query.query()).send()
    }

    /// `GET /zones/{zone}/query-log`: whether queries are logged.
    pub fn query_log(&self, zone: &str) -> Result<QueryLog> {
        self.call(Method::GET, &["zones", zone, "query-log"]).send()
    }

    /// `PUT /zones/{zone}/query-log`: logs queries for some time.
    pub fn put_query_log(
        &self,
        zone: &str,
        put: &QueryLogPut,
        options: &WriteOptions,
    ) -> Result<Written<QueryLog>> {
        self.call(Method::PUT, &["zones", zone, "query-log"]).json(put).write(options).send()
    }

    /// `DELETE /zones/{zone}/query-log`: logs queries no more.
    pub fn delete_query_log(&self, zone: &str, options: &WriteOptions) -> Result<Written<QueryLog>> {
        self.call(Method::DELETE, &["zones", zone, "query-log"]).write(options).send()
    }

    /// `GET /zones/{zone}/query-log/records`: queries that were logged, newest first.
    pub fn query_log_records(&self, zone: &str, query: &QueryLogQuery) -> Result<Page<QueryLogRecord>> {
        self.call(Method::GET, &["zones", zone, "query-log", "records"]).query(query.query()).send()
    }

    /// `GET /zones/{zone}/diff`: what leads from one revision or time to another, or to now.
    pub fn zone_diff(&self, zone: &str, from: &str, to: Option<&str>) -> Result<ZoneDiff> {
        self.call(Method::GET, &["zones", zone, "diff"]).query(diff_query(from, to, false)).bulk().send()
    }

    /// The same as lines of records, in the answer's `text`.
    pub fn zone_diff_text(&self, zone: &str, from: &str, to: Option<&str>) -> Result<()> {
        let call = self.call(Method::GET, &["zones", zone, "diff"]).query(diff_query(from, to, true));
        call.bulk().send_for_text()
    }

    /// `POST /zones/{zone}/rollback`: it gets the records again that it had.
    pub fn rollback_zone(
        &self,
        zone: &str,
        rollback: &Rollback,
        options: &WriteOptions,
    ) -> Result<Written<RollbackReport>> {
        self.call(Method::POST, &["zones", zone, "rollback"]).json(rollback).write(options).bulk().send()
    }

    /// `POST /zones/{zone}/restore`: a deleted zone is made again.
    pub fn restore_zone(&self, id: &str, options: &WriteOptions) -> Result<Written<Zone>> {
        self.call(Method::POST, &["zones", id, "restore"]).empty_body().write(options).bulk().send()
    }
}

/// RRsets. Names are fully qualified, relative to the zone, or `@`.
impl Client {
    /// `GET /zones/{zone}/rrsets`: RRsets in canonical order, a page of them.
    pub fn rrsets(&self, zone: &str, query: &RrsetQuery) -> Result<Page<Rrset>> {
        self.call(Method::GET, &["zones", zone, "rrsets"]).query(query.query()).send()
    }

    /// `PATCH /zones/{zone}/rrsets`: a batch, whole or not at all.
    pub fn patch_rrsets(
        &self,
        zone: &str,
        batch: &RrsetBatch,
        options: &WriteOptions,
    ) -> Result<Written<Zone>> {
        self.call(Method::PATCH, &["zones", zone, "rrsets"]).json(batch).write(options).send()
    }

    /// `GET /zones/{zone}/rrsets/{name}/{type}`: one RRset.
    pub fn rrset(&self, zone: &str, name: &str, rtype: &str) -> Result<Rrset> {
        self.call(Method::GET, &["zones", zone, "rrsets", name, rtype]).send()
    }

    /// `PUT /zones/{zone}/rrsets/{name}/{type}`: the RRset becomes this.
    pub fn put_rrset(
        &self,
        zone: &str,
        name: &str,
        rtype: &str,
        rrset: &RrsetPut,
        options: &WriteOptions,
    ) -> Result<Written<Rrset>> {
        self.call(Method::PUT, &["zones", zone, "rrsets", name, rtype]).json(rrset).write(options).send()
    }

    /// `DELETE /zones/{zone}/rrsets/{name}/{type}`: the RRset is removed.
    pub fn delete_rrset(
        &self,
        zone: &str,
        name: &str,
        rtype: &str,
        options: &WriteOptions,
    ) -> Result<Written<Rrset>> {
        self.call(Method::DELETE, &["zones", zone, "rrsets", name, rtype]).write(options).send()
    }

    /// `POST /batches`: changes of several zones, atomic.
    pub fn create_batch(&self, batch: &MultiZoneBatch, options: &WriteOptions) -> Result<Written<Vec<Zone>>> {
        self.call(Method::POST, &["batches"]).json(batch).write(options).send()
    }
}

/// Changes.
impl Client {
    /// `GET /changes`: who changed what and why, newest first.
    pub fn changes(&self, query: &ChangeQuery) -> Result<Page<ChangeItem>> {
        self.call(Method::GET, &["changes"]).query(query.query()).send()
    }

    /// `GET /access-log`: denials, uses of tokens, secrets shown, newest first; of one kind or all.
    pub fn access_log(&self, kind: Option<&str>, page: &PageQuery) -> Result<Page<AccessRecord>> {
        self.call(Method::GET, &["access-log"]).query(access_query(kind, page)).send()
    }

    /// `GET /changes/{id}`: a receipt, once it says what is waited for or the deadline passed.
    pub fn change(&self, id: &str, wait: Option<&WaitFor>) -> Result<Change> {
        self.call(Method::GET, &["changes", id]).wait(wait).send()
    }
}

/// Tenants.
impl Client {
    /// `GET /tenants`: a page of them.
    pub fn tenants(&self, page: &PageQuery) -> Result<Page<Tenant>> {
        self.call(Method::GET, &["tenants"]).query(page.query()).send()
    }

    /// `POST /tenants`: makes one.
    pub fn create_tenant(&self, tenant: &TenantCreate, options: &WriteOptions) -> Result<Written<Tenant>> {
        self.call(Method::POST, &["tenants"]).json(tenant).write(options).send()
    }

    /// `GET /tenants/{tenant}`: one of them.
    pub fn tenant(&self, tenant: &str) -> Result<Tenant> {
        self.call(Method::GET, &["tenants", tenant]).send()
    }

    /// `PATCH /tenants/{tenant}`: changes it.
    pub fn patch_tenant(
        &self,
        tenant: &str,
        patch: &TenantPatch,
        options: &WriteOptions,
    ) -> Result<Written<Tenant>> {
        self.call(Method::PATCH, &["tenants", tenant]).json(patch).write(options).send()
    }

    /// `DELETE /tenants/{tenant}`: deletes one that holds no zones.
    pub fn delete_tenant(&self, tenant: &str, options: &WriteOptions) -> Result<Written<Tenant>> {
        self.call(Method::DELETE, &["tenants", tenant]).write(options).send()
    }
}

/// Tokens.
impl Client {
    /// `GET /tokens`: a page of them, without their secrets.
    pub fn tokens(&self, page: &PageQuery) -> Result<Page<Token>> {
        self.call(Method::GET, &["tokens"]).query(page.query()).send()
    }

    /// `POST /tokens`: makes one; the answer has its secret.
    pub fn create_token(&self, token: &TokenCreate, options: &WriteOptions) -> Result<Written<Token>> {
        self.call(Method::POST, &["tokens"]).json(token).write(options).send()
    }

    /// `GET /tokens/{id}`: one of them.
    pub fn token(&self, id: &str) -> Result<Token> {
        self.call(Method::GET, &["tokens", id]).send()
    }

    /// `DELETE /tokens/{id}`: revokes it.
    pub fn revoke_token(&self, id: &str, options: &WriteOptions) -> Result<Written<Token>> {
        self.call(Method::DELETE, &["tokens", id]).write(options).send()
    }
}

/// PoPs.
impl Client {
    /// `GET /pops`: a page of them.
    pub fn pops(&self, page: &PageQuery) -> Result<Page<Pop>> {
        self.call(Method::GET, &["pops"]).query(page.query()).send()
    }

    /// `POST /pops`: makes one; the answer has its credential.
    pub fn create_pop(&self, pop: &PopCreate, options: &WriteOptions) -> Result<Written<Pop>> {
        self.call(Method::POST, &["pops"]).json(pop).write(options).send()
    }

    /// `GET /pops/{pop}`: one of them.
    pub fn pop(&self, pop: &str) -> Result<Pop> {
        self.call(Method::GET, &["pops", pop]).send()
    }

    /// `PATCH /pops/{pop}`: changes it.
    pub fn patch_pop(&self, pop: &str, patch: &PopPatch, options: &WriteOptions) -> Result<Written<Pop>> {
        self.call(Method::PATCH, &["pops", pop]).json(patch).write(options).send()
    }

    /// `POST /pops/{pop}/release`: lets go what the emptiness brake holds back from it.
    pub fn release_pop(&self, pop: &str, release: &Release, options: &WriteOptions) -> Result<Written<Pop>> {
        self.call(Method::POST, &["pops", pop, "release"]).json(release).write(options).send()
    }

    /// `POST /brakes/release`: the same for all.
    pub fn release_pops(&self, release: &Release, options: &WriteOptions) -> Result<Written<Brakes>> {
        self.call(Method::POST, &["brakes", "release"]).json(release).write(options).send()
    }

    /// `GET /monitors`: those that a filter lets through, a page of them.
    pub fn monitors(&self, filter: &[(&'static str, &str)], page: &PageQuery) -> Result<Page<Monitor>> {
        self.call(Method::GET, &["monitors"]).query(filtered(filter, page)).send()
    }

    /// `POST /monitors`: makes one.
    pub fn create_monitor(&self, body: &Value, options: &WriteOptions) -> Result<Written<Monitor>> {
        self.call(Method::POST, &["monitors"]).json(body).write(options).send()
    }

    /// `GET /monitors/{monitor}`: one of them, and what PoPs see of it.
    pub fn monitor(&self, monitor: &str) -> Result<Monitor> {
        self.call(Method::GET, &["monitors", monitor]).send()
    }

    /// `PUT /monitors/{monitor}`: it becomes this.
    pub fn put_monitor(
        &self,
        monitor: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Written<Monitor>> {
        self.call(Method::PUT, &["monitors", monitor]).json(body).write(options).send()
    }

    /// `DELETE /monitors/{monitor}`: deletes one.
    pub fn delete_monitor(&self, monitor: &str, options: &WriteOptions) -> Result<Written<Monitor>> {
        self.call(Method::DELETE, &["monitors", monitor]).write(options).send()
    }

    /// `POST /monitors/{monitor}/test`: has the chosen PoPs probe it now.
    pub fn test_monitor(&self, monitor: &str) -> Result<MonitorTest> {
        self.call(Method::POST, &["monitors", monitor, "test"]).send()
    }

    /// `GET /monitors/{monitor}/history`: what happened to it, newest first.
    pub fn monitor_history(&self, monitor: &str, page: &PageQuery) -> Result<Page<MonitorEvent>> {
        self.call(Method::GET, &["monitors", monitor, "history"]).query(page.query()).send()
    }

    /// `GET /channels`: notification channels, a page of them.
    pub fn channels(&self, filter: &[(&'static str, &str)], page: &PageQuery) -> Result<Page<Channel>> {
        self.call(Method::GET, &["channels"]).query(filtered(filter, page)).send()
    }

    /// `POST /channels`: makes one.
    pub fn create_channel(&self, body: &ChannelInput, options: &WriteOptions) -> Result<Written<Channel>> {
        self.call(Method::POST, &["channels"]).json(body).write(options).send()
    }

    /// `GET /channels/{channel}`: one of them, and how deliveries go.
    pub fn channel(&self, channel: &str) -> Result<Channel> {
        self.call(Method::GET, &["channels", channel]).send()
    }

    /// `PUT /channels/{channel}`: it becomes this.
    pub fn put_channel(
        &self,
        channel: &str,
        body: &ChannelInput,
        options: &WriteOptions,
    ) -> Result<Written<Channel>> {
        self.call(Method::PUT, &["channels", channel]).json(body).write(options).send()
    }

    /// `DELETE /channels/{channel}`: deletes one.
    pub fn delete_channel(&self, channel: &str, options: &WriteOptions) -> Result<Written<Channel>> {
        self.call(Method::DELETE, &["channels", channel]).write(options).send()
    }

    /// `POST /channels/{channel}/confirm`: confirms its address with the code that was sent there.
    pub fn confirm_channel(
        &self,
        channel: &str,
        code: &str,
        options: &WriteOptions,
    ) -> Result<Written<Channel>> {
        let body = ChannelConfirmation { code: code.into() };
        self.call(Method::POST, &["channels", channel, "confirm"]).json(&body).write(options).send()
    }

    /// `POST /channels/{channel}/test`: sends a test message by it.
    pub fn test_channel(&self, channel: &str) -> Result<ChannelTest> {
        self.call(Method::POST, &["channels", channel, "test"]).send()
    }

    /// `GET /probe-rules`: which addresses may be monitored.
    pub fn probe_rules(&self) -> Result<ProbeRules> {
        self.call(Method::GET, &["probe-rules"]).send()
    }

    /// `PUT /probe-rules`: sets them.
    pub fn put_probe_rules(&self, rules: &ProbeRules, options: &WriteOptions) -> Result<Written<ProbeRules>> {
        self.call(Method::PUT, &["probe-rules"]).json(rules).write(options).send()
    }

    /// `GET /geoip`: the GeoIP databases.
    pub fn geoip(&self) -> Result<Geoip> {
        self.call(Method::GET, &["geoip"]).send()
    }

    /// `PUT /geoip/{kind}`: puts one.
    pub fn put_geoip<'a>(
        &'a self,
        kind: GeoipKind,
        file: FileUpload<'a>,
        options: &WriteOptions,
    ) -> Result<Written<Geoip>> {
        self.call(Method::PUT, &["geoip", geoip_kind(kind)]).file(file).write(options).send()
    }

    /// `DELETE /geoip/{kind}`: has none of a kind.
    pub fn delete_geoip(&self, kind: GeoipKind, options: &WriteOptions) -> Result<Written<Geoip>> {
        self.call(Method::DELETE, &["geoip", geoip_kind(kind)]).write(options).send()
    }

    /// `GET /brakes`: how much may go before somebody is asked.
    pub fn brakes(&self) -> Result<Brakes> {
        self.call(Method::GET, &["brakes"]).send()
    }

    /// `PATCH /brakes`: sets it.
    pub fn patch_brakes(&self, patch: &BrakesPatch, options: &WriteOptions) -> Result<Written<Brakes>> {
        self.call(Method::PATCH, &["brakes"]).json(patch).write(options).send()
    }

    /// `DELETE /pops/{pop}`: deletes it.
    pub fn delete_pop(&self, pop: &str, options: &WriteOptions) -> Result<Written<Pop>> {
        self.call(Method::DELETE, &["pops", pop]).write(options).send()
    }
}

/// Sets of name servers.
impl Client {
    /// `GET /nameserver-sets`: a page of them.
    pub fn nameserver_sets(&self, page: &PageQuery) -> Result<Page<NameserverSet>> {
        self.call(Method::GET, &["nameserver-sets"]).query(page.query()).send()
    }

    /// `POST /nameserver-sets`: makes one.
    pub fn create_nameserver_set(
        &self,
        set: &NameserverSetInput,
        options: &WriteOptions,
    ) -> Result<Written<NameserverSet>> {
        self.call(Method::POST, &["nameserver-sets"]).json(set).write(options).send()
    }

    /// `GET /nameserver-sets/{set}`: one of them.
    pub fn nameserver_set(&self, set: &str) -> Result<NameserverSet> {
        self.call(Method::GET, &["nameserver-sets", set]).send()
    }

    /// `PUT /nameserver-sets/{set}`: it becomes this, and its zones move along.
    pub fn put_nameserver_set(
        &self,
        set: &str,
        input: &NameserverSetInput,
        options: &WriteOptions,
    ) -> Result<Written<NameserverSet>> {
        self.call(Method::PUT, &["nameserver-sets", set]).json(input).write(options).send()
    }

    /// `DELETE /nameserver-sets/{set}`: deletes it.
    pub fn delete_nameserver_set(&self, set: &str, options: &WriteOptions) -> Result<Written<NameserverSet>> {
        self.call(Method::DELETE, &["nameserver-sets", set]).write(options).send()
    }
}

/// About the server itself.
impl Client {
    /// `GET /openapi.json`: the API as an OpenAPI document.
    pub fn openapi(&self) -> Result<serde_json::Value> {
        self.call(Method::GET, &["openapi.json"]).send()
    }

    /// `GET /healthz`: the process lives, or there is an error.
    pub fn healthz(&self) -> Result<()> {
        self.call_outside(Method::GET, "/healthz".to_owned()).send_for_text()
    }

    /// `GET /readyz`: whether it accepts writes.
    pub fn readyz(&self) -> std::result::Result<bool, ClientError> {
        let (response, _) = self.call_outside(Method::GET, "/readyz".to_owned()).exchange()?;
        let status = response.status();
        match status {
            status if status.is_success() => Ok(true),
            StatusCode::SERVICE_UNAVAILABLE => Ok(false),
            status => Err(ClientError::Malformed {
                status: status.as_u16(),
                detail: "neither 200 nor 503".to_owned(),
            }),
        }
    }

    /// `GET /metrics`: the answer's `text` is in Prometheus' format.
    pub fn metrics(&self) -> Result<()> {
        self.call_outside(Method::GET, "/metrics".to_owned()).send_for_text()
    }
}

fn geoip_kind(kind: GeoipKind) -> &'static str {
    match kind {
        GeoipKind::City => "city",
        GeoipKind::Asn => "asn",
    }
}
