//! The routes of the firewall.

use herald_wire::api::firewall::{
    Firewall, FirewallEvent, FirewallRule, FirewallRules, FirewallVerdict, PolicyZone,
};
use herald_wire::api::{Page, Rollback, Written};
use serde_json::Value;
use ureq::http::Method;

use super::query::{at_query, filtered};
use super::{Answer, Client, ClientError, FileUpload, PageQuery, WriteOptions};

type Result<T> = std::result::Result<Answer<T>, ClientError>;

/// What is said of a policy zone beside its file.
#[derive(Clone, Debug, Default)]
pub struct PolicyZoneOptions {
    /// Policy zones are asked by ascending order.
    pub order: Option<u32>,
    /// The zone's own domain name.
    pub origin: Option<String>,
}

impl Client {
    /// `GET /firewall`: the fleet's rules, the policy zones, and how they do.
    pub fn firewall(&self) -> Result<Firewall> {
        self.call(Method::GET, &["firewall"]).send()
    }

    /// `PUT /firewall/rules` or `PUT /tenants/{tenant}/firewall`: exactly these rules; the document is read by the server.
    pub fn set_firewall_rules(
        &self,
        tenant: Option<&str>,
        rules: &Value,
        options: &WriteOptions,
    ) -> Result<Written<FirewallRules>> {
        self.call(Method::PUT, &rules_path(tenant)).json(rules).write(options).bulk().send()
    }

    /// `PUT /firewall/rules/{rule}` or `PUT /tenants/{tenant}/firewall/{rule}`: makes or replaces one.
    pub fn put_firewall_rule(
        &self,
        tenant: Option<&str>,
        rule: &FirewallRule,
        options: &WriteOptions,
    ) -> Result<Written<FirewallRule>> {
        self.call(Method::PUT, &rule_path(tenant, &rule.name)).json(rule).write(options).send()
    }

    /// `DELETE /firewall/rules/{rule}` or `DELETE /tenants/{tenant}/firewall/{rule}`.
    pub fn delete_firewall_rule(
        &self,
        tenant: Option<&str>,
        name: &str,
        options: &WriteOptions,
    ) -> Result<Written<FirewallRule>> {
        self.call(Method::DELETE, &rule_path(tenant, name)).write(options).send()
    }

    /// `GET /firewall/rules` or `GET /tenants/{tenant}/firewall`: rules as of a revision or time.
    pub fn firewall_rules(&self, tenant: Option<&str>, at: Option<&str>) -> Result<FirewallRules> {
        self.call(Method::GET, &rules_path(tenant)).query(at_query(at)).send()
    }

    /// `GET /firewall/history` or `GET /tenants/{tenant}/firewall/history`: what was done, newest first.
    pub fn firewall_history(&self, tenant: Option<&str>, page: &PageQuery) -> Result<Page<FirewallEvent>> {
        self.call(Method::GET, &beneath(tenant, "history")).query(page.query()).send()
    }

    /// `POST /firewall/rollback` or `POST /tenants/{tenant}/firewall/rollback`: it is again what it was.
    pub fn rollback_firewall(
        &self,
        tenant: Option<&str>,
        rollback: &Rollback,
        options: &WriteOptions,
    ) -> Result<Written<FirewallRules>> {
        self.call(Method::POST, &beneath(tenant, "rollback")).json(rollback).write(options).bulk().send()
    }

    /// `GET /firewall/test`: what would be done with a query.
    pub fn test_firewall(&self, name: &str, rtype: &str, client: &str, tcp: bool) -> Result<FirewallVerdict> {
        let tcp = if tcp { "true" } else { "false" };
        let filter = [("name", name), ("type", rtype), ("client", client), ("tcp", tcp)];
        let query = filtered(&filter, &PageQuery::default());
        self.call(Method::GET, &["firewall", "test"]).query(query).send()
    }

    /// `PUT /firewall/rpz/{zone}`: puts a policy zone.
    pub fn put_policy_zone<'a>(
        &'a self,
        name: &str,
        zone: &PolicyZoneOptions,
        file: FileUpload<'a>,
        options: &WriteOptions,
    ) -> Result<Written<PolicyZone>> {
        let order = zone.order.map(|order| order.to_string());
        let filter = [("order", order.as_deref()), ("origin", zone.origin.as_deref())];
        let filter: Vec<_> = filter.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let query = filtered(&filter, &PageQuery::default());
        self.call(Method::PUT, &["firewall", "rpz", name]).query(query).file(file).write(options).send()
    }

    /// `DELETE /firewall/rpz/{zone}`: deletes one.
    pub fn delete_policy_zone(&self, name: &str, options: &WriteOptions) -> Result<Written<PolicyZone>> {
        self.call(Method::DELETE, &["firewall", "rpz", name]).write(options).send()
    }
}

fn rules_path(tenant: Option<&str>) -> Vec<&str> {
    tenant.map_or_else(|| vec!["firewall", "rules"], |tenant| vec!["tenants", tenant, "firewall"])
}

fn beneath<'a>(tenant: Option<&'a str>, what: &'a str) -> Vec<&'a str> {
    tenant.map_or_else(|| vec!["firewall", what], |tenant| vec!["tenants", tenant, "firewall", what])
}

fn rule_path<'a>(tenant: Option<&'a str>, rule: &'a str) -> Vec<&'a str> {
    [rules_path(tenant), vec![rule]].concat()
}
