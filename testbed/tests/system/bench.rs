//! The benchmarks that need no long run, on a toy's scale: they check answers and receipts as they go.

use testbed::bench::{Name, Settings, Side, measure};

#[test]
fn benchmarks_of_many_zones_run() {
    let settings = Settings { side: Side::Ours, zones: Some(40) };
    for (name, lines) in [(Name::Burst, 1), (Name::Create, 1), (Name::Fleet, 4)] {
        let measured = measure(name, &settings);
        assert_eq!(measured.len(), lines, "{name:?}");
        for line in measured {
            let line = line.to_json();
            assert!(line["ours"].as_f64().is_some_and(|ours| ours > 0.0), "{line}");
            assert!(line["peer"].is_null() && line["ratio"].is_null(), "{line}");
            assert_ne!(line["goals"][0]["met"], serde_json::Value::Null, "{line}");
        }
    }
}
