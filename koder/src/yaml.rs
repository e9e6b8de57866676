//! Documents as people write them: YAML, of which JSON is a part.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// What a document says. Its own reader tells what of it is wrong.
///
/// # Errors
/// If it is neither YAML nor JSON.
pub fn read(text: &str, path: &Path) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    // Only `true` and `false`: NO is Norway.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Failure::FileContent { path: path.to_owned(), reason: error.to_string() })
}

/// A document as YAML.
///
/// # Errors
/// None for what the API has.
pub fn write(document: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(document)
        .map_err(|error| Failure::Output(std::io::Error::other(error.to_string())))
}

#[cfg(test)]
mod tests {
    use herald_wire::api::steering::SteeringDocument;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_the_same_in_both_forms() {
        let json = json!({
            "settings": { "ecs": true, "alias_by_region": true },
            "views": { "office": { "prefixes": ["192.0.2.0/24", "2001:db8::/32"], "pops": ["on", "123"] } },
            "pools": {
                "no": {
                    "ttl": 30, "answer": { "up_to": 2 }, "sticky": { "ipv4_prefix": 24, "ipv6_prefix": 56 }, "min_healthy": 1,
                    "endpoints": [{
                        "name": "1e3", "records": { "AAAA": ["2001:db8::1"], "TXT": ["\"a: b # c\" \"'\""] },
                        "weight": 10, "state": "enabled", "location": { "latitude": 50.1, "longitude": -8.25 }, "bias": -5,
                    }],
                },
            },
            "policies": [{ "name": "*.www", "type": "A", "rules": [{
                "name": "yes",
                "when": {
                    "countries": ["NO", "DE"],
                    "subdivisions": ["US-CA"], "cities": [2_950_159, { "name": "Sao Paulo", "country": "BR" }],
                },
                "pools": ["no"], "nearest": true,
            }] }],
            "overlays": [{ "view": "office", "name": "@", "type": "ANY", "hidden": true }],
        });
        let document: SteeringDocument = serde_json::from_value(json.clone()).unwrap();
        let yaml = write(&document).unwrap();
        let again: SteeringDocument = serde_json::from_value(read(&yaml, Path::new("-")).unwrap()).unwrap();
        assert_eq!(again, document, "{yaml}");
        assert!(yaml.contains("latitude: 50.1\n") && yaml.contains("up_to: 2\n"), "{yaml}");
        assert_eq!(read(&json.to_string(), Path::new("-")).unwrap(), json);
    }

    #[test]
    fn norway_is_a_country_and_nonsense_an_error() {
        assert_eq!(
            read("countries: [NO, SE]", Path::new("-")).unwrap(),
            json!({ "countries": ["NO", "SE"] })
        );
        assert!(read("a: [", Path::new("x.yaml")).unwrap_err().to_string().starts_with("x.yaml: "));
    }
}
