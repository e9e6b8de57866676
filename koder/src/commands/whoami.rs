//! `koder dns whoami`: whom the token stands for.

use herald_wire::api::Whoami;

use super::{Session, tenant, token};
use crate::failure::Failure;

pub(super) fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let answer = session.client()?.whoami()?;
    session.show(&answer, table)
}

pub(super) fn table(whoami: &Whoami) -> String {
    let who = match &whoami.tenant {
        Some(tenant) => format!("{} {}", whoami.kind, tenant.name),
        None => whoami.kind.clone(),
    };
    let tenant =
        whoami.tenant.as_ref().map(|tenant| format!("\n{}", tenant::show(tenant))).unwrap_or_default();
    format!("you are  {}\n\n{}{tenant}", crate::table::printable(&who), token::show(&whoami.token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::{Scope, Tenant, TenantUsage, Token};

    #[test]
    fn it_names_the_tenant_and_the_token() {
        let tenant = Tenant {
            id: "t1".into(),
            name: "acme".into(),
            enabled: true,
            zone_count: 3,
            limits: [("zones".into(), 9)].into(),
            source_prefixes: Vec::new(),
            usage: TenantUsage { zones: 3, ..TenantUsage::default() },
            created_at_ms: 0,
        };
        let token = Token {
            id: "k1".into(),
            tenant: Some("t1".into()),
            description: "ci".into(),
            scope: Scope::default(),
            created_at_ms: 0,
            expires_at_ms: None,
            revoked_at_ms: None,
            secret: None,
        };
        let text = table(&Whoami { kind: "tenant".into(), tenant: Some(tenant), token });
        assert!(text.starts_with("you are  tenant acme\n\ntoken        k1\n"), "{text}");
        assert!(text.ends_with("\nlimits\nzones  3 of 9\n"), "{text}");
    }
}
