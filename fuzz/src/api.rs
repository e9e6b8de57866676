//! The API: any body on any route that takes one, as a dry run, so that all is judged and nothing is done. An answer is a
//! success or a problem of the caller, never of the server.

use serde_json::Value;

use crate::control_plane::CONTROL_PLANE;

/// Method, path, content type, and whether an operator calls.
const ROUTES: [(&str, &str, &str, bool); 14] = [
    ("POST", "/zones?dry_run=true", JSON, false),
    ("PATCH", "/zones/example.com?dry_run=true", JSON, false),
    ("PATCH", "/zones/example.com/rrsets?dry_run=true", JSON, false),
    ("PUT", "/zones/example.com/rrsets/www/A?dry_run=true", JSON, false),
    ("PUT", "/zones/example.com/rrsets/txt/TXT?dry_run=true", JSON, false),
    ("POST", "/zones/example.com/import?dry_run=true", ZONE_FILE, false),
    ("POST", "/zones/example.com/import?dry_run=true&mode=merge", ZONE_FILE, false),
    ("POST", "/batches?dry_run=true", JSON, false),
    ("POST", "/tenants?dry_run=true", JSON, true),
    ("PATCH", "/tenants/alice?dry_run=true", JSON, true),
    ("POST", "/tokens?dry_run=true", JSON, true),
    ("POST", "/pops?dry_run=true", JSON, true),
    ("POST", "/nameserver-sets?dry_run=true", JSON, true),
    ("POST", "/admissions?dry_run=true", JSON, false),
];

const JSON: &str = "application/json";
const ZONE_FILE: &str = "text/dns";

/// The first octet chooses the route; the rest is the body.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let (method, path, content_type, is_operator) = ROUTES[usize::from(choice) % ROUTES.len()];
    let control_plane = &*CONTROL_PLANE;
    let token = if is_operator { &control_plane.operator } else { &control_plane.tenant };
    let (status, text) = control_plane.call(token, method, path, content_type, body.to_vec());
    // A request rate has a limit, too; and what is over it is told so.
    assert!((200..500).contains(&status), "{method} {path}: {status} {text}");
    let said: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path}: {status} {e}: {text}"));
    if status >= 400 {
        assert_eq!(said["status"], status, "{method} {path}: {text}");
        assert!(said["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{method} {path}: {text}");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let change = r#"{"op":"put","name":"new","type":"A","ttl":300,"records":["192.0.2.7"]}"#;
    let bodies: [(u8, String); 16] = [
        (0, r#"{"name":"new.example","labels":{"a":"b"},"rrsets":[{"name":"www","type":"AAAA","ttl":60,"records":["2001:db8::1"]}]}"#.into()),
        (0, r#"{"name":"münchen.example","zone_file":"@ 300 IN A 192.0.2.1\n","message":"why"}"#.into()),
        (1, r#"{"labels":{"plan":"gold"},"nameserver_set":"main"}"#.into()),
        (2, format!(r#"{{"changes":[{change},{{"op":"delete","name":"www","type":"A"}}],"message":"why"}}"#)),
        (2, r#"{"changes":[{"op":"add","name":"www","type":"A","records":["192.0.2.8"]},{"op":"remove","name":"www","type":"A","records":["192.0.2.1"]}]}"#.into()),
        (3, r#"{"ttl":60,"records":["192.0.2.1","192.0.2.2"]}"#.into()),
        (4, r#"{"ttl":60,"records":["\"a b\" c\\032d","\"\\255\""]}"#.into()),
        (5, "$ORIGIN example.com.\n@ 3600 IN MX 10 mail\nmail A 192.0.2.25\n".into()),
        (6, "www 300 IN A 192.0.2.99\nbad 300 IN A 1.2.3\n".into()),
        (7, format!(r#"{{"zones":[{{"zone":"example.com","changes":[{change}]}},{{"zone":"other.example","changes":[{change}]}}]}}"#)),
        (8, r#"{"name":"bob"}"#.into()),
        (9, r#"{"enabled":false}"#.into()),
        (10, r#"{"tenant":"alice","description":"x","scope":{"verbs":["read","write"],"zones":["example.com"],"names":["www"],"types":["A"]},"expires_at_ms":99999999999999}"#.into()),
        (11, r#"{"name":"pop2"}"#.into()),
        (12, r#"{"name":"second","default":false,"nameservers":["ns1.x.example.","ns2.x.example."],"rname":"a.b.example."}"#.into()),
        (13, r#"{"code":"abc"}"#.into()),
    ];
    bodies.into_iter().map(|(route, body)| [&[route], body.as_bytes()].concat()).collect()
}

pub(crate) const WORDS: &[&str] = &[
    "\"name\":",
    "\"type\":",
    "\"ttl\":",
    "\"records\":",
    "\"changes\":",
    "\"op\":",
    "\"put\"",
    "\"add\"",
    "\"remove\"",
    "\"delete\"",
    "\"zones\":",
    "\"zone\":",
    "\"labels\":",
    "\"rrsets\":",
    "\"zone_file\":",
    "\"message\":",
    "\"if_match\":",
    "\"scope\":",
    "\"verbs\":",
    "null",
    "true",
    "-1",
    "1e400",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"\"",
    "\"@\"",
    "\"*\"",
    "\".\"",
    "xn--",
    "\"SOA\"",
    "\"NS\"",
    "\"CNAME\"",
    "\"TYPE65280\"",
    "\"\\\\# 0\"",
    "münchen",
];
