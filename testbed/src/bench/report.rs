//! What a benchmark found.

use comfy_table::Table;
use serde_json::{Map, Value};

/// One setting of a benchmark.
#[derive(Debug)]
pub struct Line {
    /// Name of the benchmark.
    pub bench: &'static str,
    /// What `ours` and `peer` count.
    pub unit: &'static str,
    /// Whether less is better.
    pub less_is_better: bool,
    /// Our figure, if we ran.
    pub ours: Option<f64>,
    /// The peer's figure, if it ran.
    pub peer: Option<f64>,
    /// The setting.
    pub setting: Vec<(&'static str, Value)>,
    /// What else was measured.
    pub details: Vec<(&'static str, Value)>,
    /// What was aimed for: in words, and whether it is met (if both sides that it needs ran).
    pub goals: Vec<(String, Option<bool>)>,
}

impl Line {
    /// How many times better ours is than the peer.
    pub fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.ours?, self.peer?);
        Some(if self.less_is_better { peer / ours } else { ours / peer })
    }

    /// Sets a goal for our figure.
    pub fn goal(&mut self, bound: f64) {
        let word = if self.less_is_better { "≤" } else { "≥" };
        let met = self.ours.map(|ours| if self.less_is_better { ours <= bound } else { ours >= bound });
        self.goals.push((format!("{word} {bound} {}", self.unit), met));
    }

    /// Sets a goal for how many times better ours is.
    pub fn goal_ratio(&mut self, bound: f64) {
        self.goals.push((format!("≥ {bound}x"), self.ratio().map(|ratio| ratio >= bound)));
    }

    /// Sets a goal for a detail of ours that is to be small.
    pub fn goal_detail(&mut self, name: &str, bound: f64) {
        let value = self.details.iter().find(|(key, _)| *key == name).and_then(|(_, v)| v.as_f64());
        self.goals.push((format!("{name} ≤ {bound}"), value.map(|value| value <= bound)));
    }

    /// The line for programs.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("bench".into(), self.bench.into());
        for (key, value) in &self.setting {
            object.insert((*key).into(), value.clone());
        }
        object.insert("unit".into(), self.unit.into());
        object.insert("ours".into(), figure(self.ours));
        object.insert("peer".into(), figure(self.peer));
        object.insert("ratio".into(), figure(self.ratio()));
        for (key, value) in &self.details {
            object.insert((*key).into(), value.clone());
        }
        let goals = self.goals.iter().map(|(goal, met)| serde_json::json!({ "goal": goal, "met": met }));
        object.insert("goals".into(), goals.collect());
        Value::Object(object)
    }

    /// The lines for people.
    pub fn table(lines: &[Self]) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["benchmark", "setting", "unit", "ours", "peer", "ratio", "goals", "details"]);
        for line in lines {
            let goals: Vec<String> = line
                .goals
                .iter()
                .map(|(goal, met)| {
                    let word = met.map_or("not tried", |met| if met { "met" } else { "MISSED" });
                    format!("{goal}: {word}")
                })
                .collect();
            table.add_row([
                line.bench.to_owned(),
                pairs(&line.setting),
                line.unit.to_owned(),
                line.ours.map(shown).unwrap_or_default(),
                line.peer.map(shown).unwrap_or_default(),
                line.ratio().map(|ratio| format!("{}x", shown(ratio))).unwrap_or_default(),
                goals.join("\n"),
                pairs(&line.details),
            ]);
        }
        table
    }
}

/// A figure as JSON, with as many digits as mean something.
pub fn figure(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| ((value * 1000.0).round() / 1000.0).into())
}

/// The value below which `share` of the sorted values lie, in milliseconds; `None` of nothing.
pub fn percentile_ms(sorted_us: &[u32], share: f64) -> Option<f64> {
    let last = sorted_us.len().checked_sub(1)?;
    let index = (last as f64 * share).round() as usize;
    Some(f64::from(sorted_us[index]) / 1000.0)
}

fn pairs(pairs: &[(&'static str, Value)]) -> String {
    let shown = pairs.iter().filter(|(_, v)| !v.is_null()).map(|(key, value)| format!("{key} {value}"));
    shown.collect::<Vec<_>>().join("\n")
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::{Line, percentile_ms};

    #[test]
    fn ratio_is_how_many_times_better_ours_is() {
        let mut line = Line {
            bench: "x",
            unit: "ms",
            less_is_better: true,
            ours: Some(2.0),
            peer: Some(1000.0),
            setting: vec![],
            details: vec![],
            goals: vec![],
        };
        assert_eq!(line.ratio(), Some(500.0));
        line.less_is_better = false;
        assert_eq!(line.ratio(), Some(0.002));
        line.peer = None;
        assert_eq!(line.ratio(), None);
    }

    #[test]
    fn percentiles() {
        let values: Vec<u32> = (0..=100).map(|v| v * 1000).collect();
        assert_eq!(percentile_ms(&values, 0.5), Some(50.0));
        assert_eq!(percentile_ms(&values, 0.99), Some(99.0));
        assert_eq!(percentile_ms(&[], 0.5), None);
    }
}
