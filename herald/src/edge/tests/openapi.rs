//! The OpenAPI document: served, complete, and kept in the repository.

use serde_json::Value;

use super::World;

/// Set to write the document anew.
const REGENERATE: &str = "HERALD_REGENERATE_OPENAPI";

#[tokio::test]
async fn the_document_is_the_one_that_is_kept() {
    let world = World::new().await;
    let served = world.call("GET", "/openapi.json").send().await.ok(200);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, &served.text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served.text,
        "docs/openapi.json is not what is served: look at the difference, and write it anew with {REGENERATE}=1"
    );
    assert_eq!(served.text, crate::edge::openapi_document());
}

#[tokio::test]
async fn the_document_has_every_route_of_the_reference() {
    let document: Value = serde_json::from_str(&crate::edge::openapi_document()).unwrap();
    let reference = include_str!("../../../../docs/api.md");
    let mut routes = 0;
    for row in reference.lines().filter(|line| line.starts_with("| `")) {
        // `GET, POST /tenants`, `GET /zones?…`
        let first_cell = row.split(" | ").next().unwrap_or_default();
        for route in first_cell.split('`').skip(1).step_by(2) {
            let Some((methods, path)) = route.split_once(" /") else { continue };
            let path = format!("/{}", path.split('?').next().unwrap_or_default());
            if path == "/openapi.json" {
                continue;
            }
            for method in methods.split(", ") {
                let operation = &document["paths"][&path][method.to_lowercase()];
                assert!(operation.is_object(), "{method} {path}");
                routes += 1;
            }
        }
    }
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| {
            ["get", "put", "post", "patch", "delete"]
                .iter()
                .filter(|method| path[**method].is_object())
                .count()
        })
        .sum();
    assert_eq!(routes, described, "the reference and the document have the same routes");
    assert!(routes >= 43, "{routes}");
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document: Value = serde_json::from_str(&crate::edge::openapi_document()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for path in document["paths"].as_object().unwrap().values() {
        for operation in path.as_object().unwrap().values().filter(|operation| operation.is_object()) {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(operation["summary"].as_str().unwrap().len() < 130, "{name}");
        }
    }
}
