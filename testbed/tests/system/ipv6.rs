//! Everything over IPv6: the API, a PoP's session, and the answers.

use serde_json::json;
use testbed::herald::{Herald, Pop};
use testbed::loopback;
use testbed::platform::wait_for_answer;
use testbed::scratch::Scratch;

#[test]
fn all_of_it_over_ipv6() {
    let scratch = Scratch::new("ipv6");
    let endpoint = loopback::free_endpoint_v6;
    let herald = Herald::start_at(&scratch.folder("herald"), &[], endpoint(), endpoint());
    herald.define_nameservers();
    let tenant = herald.tenant("tenant");
    let secret = herald.register_pop("pop1");
    let mut pop = Pop::set_up(scratch.path(), "pop1", &secret, herald.pops, endpoint());
    pop.start();
    let record = json!({ "name": "www", "type": "AAAA", "ttl": 60, "records": ["2001:db8::1"] });
    tenant.post("/zones?wait=all", &json!({ "name": "example.com", "rrsets": [record] })).expect(201);
    wait_for_answer(&pop, "www.example.com.", "AAAA", &["2001:db8::1"]);

    // Who logged in, from where; and who would have.
    let operator = herald.operator();
    let id = operator.get("/pops/pop1").expect(200)["id"].clone();
    let logins = operator.get("/access-log?kind=pop_login").expect(200);
    assert_eq!(logins["items"][0]["pop"], id, "{logins}");
    assert_eq!(logins["items"][0]["address"], "::1", "{logins}");
    assert!(operator.get("/access-log?kind=pop_denied").expect(200)["items"].as_array().unwrap().is_empty());
    let mut other = Pop::set_up(&scratch.folder("other"), "pop1", "not-the-secret", herald.pops, endpoint());
    other.launch();
    testbed::wait::wait_until(std::time::Duration::from_secs(30), "the refusal to be noted", || {
        let denied = operator.get("/access-log?kind=pop_denied").expect(200);
        denied["items"][0]["pop"] == id
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", other.tail(), herald.tail()));
}
