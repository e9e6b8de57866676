//! The routes of steering.

use herald_wire::api::explain::Explanation;
use herald_wire::api::steering::{
    Named, Overlay, OverlayPut, Policy, Pool, SteeringDocument, SteeringPatch, Tagged, View,
};
use herald_wire::api::{Page, Warning, Written, Zone};
use serde_json::Value;
use ureq::http::Method;

use super::query::{ExplainQuery, at_query};
use super::{Answer, Client, ClientError, PageQuery, WriteOptions};

type Result<T> = std::result::Result<Answer<T>, ClientError>;

/// All steering of a zone.
impl Client {
    /// `GET /zones/{zone}/steering`: all of it, as of a revision or time if one is given.
    pub fn steering(&self, zone: &str, at: Option<&str>) -> Result<SteeringDocument> {
        self.call(Method::GET, &["zones", zone, "steering"]).query(at_query(at)).bulk().long_answer().send()
    }

    /// `PUT /zones/{zone}/steering`: all of it becomes what the document says, which is read by the server.
    pub fn put_steering(
        &self,
        zone: &str,
        document: &Value,
        options: &WriteOptions,
    ) -> Result<Written<Zone>> {
        self.call(Method::PUT, &["zones", zone, "steering"]).json(document).write(options).bulk().send()
    }

    /// `PATCH /zones/{zone}/steering`: some of it, and records.
    pub fn patch_steering(
        &self,
        zone: &str,
        patch: &SteeringPatch,
        options: &WriteOptions,
    ) -> Result<Written<Zone>> {
        self.call(Method::PATCH, &["zones", zone, "steering"]).json(patch).write(options).send()
    }

    /// `GET /zones/{zone}/steering/lint`: what is odd about its policies.
    pub fn lint_steering(&self, zone: &str, page: &PageQuery) -> Result<Page<Warning>> {
        self.call(Method::GET, &["zones", zone, "steering", "lint"]).query(page.query()).send()
    }

    /// `GET /explain`: which answer a client gets, and why.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explanation> {
        self.call(Method::GET, &["explain"]).query(query.query()).send()
    }
}

/// Pools.
impl Client {
    /// `GET /zones/{zone}/pools`: a page of them.
    pub fn pools(&self, zone: &str, page: &PageQuery) -> Result<Page<Named<Pool>>> {
        self.call(Method::GET, &["zones", zone, "pools"]).query(page.query()).send()
    }

    /// `GET /zones/{zone}/pools/{pool}`: one of them.
    pub fn pool(&self, zone: &str, pool: &str) -> Result<Named<Pool>> {
        self.call(Method::GET, &["zones", zone, "pools", pool]).send()
    }

    /// `PUT /zones/{zone}/pools/{pool}`: it becomes this, which is read by the server.
    pub fn put_pool(
        &self,
        zone: &str,
        pool: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Written<Named<Pool>>> {
        self.call(Method::PUT, &["zones", zone, "pools", pool]).json(body).write(options).send()
    }

    /// `DELETE /zones/{zone}/pools/{pool}`: deletes it.
    pub fn delete_pool(
        &self,
        zone: &str,
        pool: &str,
        options: &WriteOptions,
    ) -> Result<Written<Named<Pool>>> {
        self.call(Method::DELETE, &["zones", zone, "pools", pool]).write(options).send()
    }
}

/// Policies.
impl Client {
    /// `GET /zones/{zone}/policies`: a page of them.
    pub fn policies(&self, zone: &str, page: &PageQuery) -> Result<Page<Tagged<Policy>>> {
        self.call(Method::GET, &["zones", zone, "policies"]).query(page.query()).send()
    }

    /// `GET /zones/{zone}/policies/{name}/{type}`: one of them.
    pub fn policy(&self, zone: &str, name: &str, rtype: &str) -> Result<Tagged<Policy>> {
        self.call(Method::GET, &["zones", zone, "policies", name, rtype]).send()
    }

    /// `PUT /zones/{zone}/policies/{name}/{type}`: it becomes this, which is read by the server.
    pub fn put_policy(
        &self,
        zone: &str,
        name: &str,
        rtype: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Written<Tagged<Policy>>> {
        self.call(Method::PUT, &["zones", zone, "policies", name, rtype]).json(body).write(options).send()
    }

    /// `DELETE /zones/{zone}/policies/{name}/{type}`: deletes it.
    pub fn delete_policy(
        &self,
        zone: &str,
        name: &str,
        rtype: &str,
        options: &WriteOptions,
    ) -> Result<Written<Tagged<Policy>>> {
        self.call(Method::DELETE, &["zones", zone, "policies", name, rtype]).write(options).send()
    }
}

/// Views.
impl Client {
    /// `GET /zones/{zone}/views`: a page of them.
    pub fn views(&self, zone: &str, page: &PageQuery) -> Result<Page<Named<View>>> {
        self.call(Method::GET, &["zones", zone, "views"]).query(page.query()).send()
    }

    /// `GET /zones/{zone}/views/{view}`: one of them.
    pub fn view(&self, zone: &str, view: &str) -> Result<Named<View>> {
        self.call(Method::GET, &["zones", zone, "views", view]).send()
    }

    /// `PUT /zones/{zone}/views/{view}`: it becomes this.
    pub fn put_view(
        &self,
        zone: &str,
        view: &str,
        body: &View,
        options: &WriteOptions,
    ) -> Result<Written<Named<View>>> {
        self.call(Method::PUT, &["zones", zone, "views", view]).json(body).write(options).send()
    }

    /// `DELETE /zones/{zone}/views/{view}`: deletes it.
    pub fn delete_view(
        &self,
        zone: &str,
        view: &str,
        options: &WriteOptions,
    ) -> Result<Written<Named<View>>> {
        self.call(Method::DELETE, &["zones", zone, "views", view]).write(options).send()
    }

    /// `GET /zones/{zone}/views/{view}/records`: a page of what the view has.
    pub fn overlays(&self, zone: &str, view: &str, page: &PageQuery) -> Result<Page<Tagged<Overlay>>> {
        self.call(Method::GET, &["zones", zone, "views", view, "records"]).query(page.query()).send()
    }

    /// `PUT /zones/{zone}/views/{view}/records/{name}/{type}`: the view has this there.
    pub fn put_overlay(
        &self,
        zone: &str,
        view: &str,
        (name, rtype): (&str, &str),
        body: &OverlayPut,
        options: &WriteOptions,
    ) -> Result<Written<Tagged<Overlay>>> {
        let path = ["zones", zone, "views", view, "records", name, rtype];
        self.call(Method::PUT, &path).json(body).write(options).send()
    }

    /// `DELETE /zones/{zone}/views/{view}/records/{name}/{type}`: the view has nothing of its own there.
    pub fn delete_overlay(
        &self,
        zone: &str,
        view: &str,
        (name, rtype): (&str, &str),
        options: &WriteOptions,
    ) -> Result<Written<Tagged<Overlay>>> {
        let path = ["zones", zone, "views", view, "records", name, rtype];
        self.call(Method::DELETE, &path).write(options).send()
    }
}
