//! What a dry run shows: a line for each record that comes (`+`) or goes (`-`).

use herald_wire::api::{Rrset, RrsetChange, RrsetOp};

use crate::table::printable;

/// The records that differ between an RRset before and after.
pub fn between(before: Option<&Rrset>, after: Option<&Rrset>) -> String {
    let gone = lines('-', before, after);
    let come = lines('+', after, before);
    if gone.is_empty() && come.is_empty() { "no record differs\n".to_owned() } else { gone + &come }
}

fn lines(sign: char, rrset: Option<&Rrset>, other: Option<&Rrset>) -> String {
    let Some(rrset) = rrset else { return String::new() };
    let is_in_both =
        |record: &String| other.is_some_and(|other| other.ttl == rrset.ttl && other.records.contains(record));
    rrset
        .records
        .iter()
        .filter(|record| !is_in_both(record))
        .map(|record| line(sign, &rrset.name, Some(rrset.ttl), &rrset.rtype, record))
        .collect()
}

/// The records that a batch's item names.
///
/// What the RRset was before isn't looked up: a put says `=`, since the RRset becomes exactly this.
pub fn of_change(change: &RrsetChange) -> String {
    let sign = match change.op {
        RrsetOp::Put => '=',
        RrsetOp::Add => '+',
        RrsetOp::Remove | RrsetOp::Delete => '-',
    };
    if change.op == RrsetOp::Delete {
        return line(sign, &change.name, None, &change.rtype, "(the whole RRset)");
    }
    change.records.iter().map(|record| line(sign, &change.name, change.ttl, &change.rtype, record)).collect()
}

fn line(sign: char, name: &str, ttl: Option<u32>, rtype: &str, record: &str) -> String {
    let ttl = ttl.map(|ttl| format!("{ttl} ")).unwrap_or_default();
    format!("{sign} {}\n", printable(&format!("{name} {ttl}{rtype} {record}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rrset(ttl: u32, records: &[&str]) -> Rrset {
        Rrset {
            name: "www.example.com.".into(),
            name_unicode: "www.example.com.".into(),
            rtype: "A".into(),
            ttl,
            records: records.iter().map(|record| (*record).to_owned()).collect(),
            etag: "e".into(),
        }
    }

    #[test]
    fn only_what_differs_is_shown() {
        let before = rrset(300, &["192.0.2.1", "192.0.2.2"]);
        let after = rrset(300, &["192.0.2.2", "192.0.2.3"]);
        assert_eq!(
            between(Some(&before), Some(&after)),
            "- www.example.com. 300 A 192.0.2.1\n+ www.example.com. 300 A 192.0.2.3\n"
        );
        assert_eq!(between(Some(&before), Some(&before)), "no record differs\n");
        assert_eq!(between(None, Some(&rrset(60, &["192.0.2.1"]))), "+ www.example.com. 60 A 192.0.2.1\n");
    }

    #[test]
    fn another_ttl_is_another_record() {
        assert_eq!(
            between(Some(&rrset(300, &["192.0.2.1"])), Some(&rrset(60, &["192.0.2.1"]))),
            "- www.example.com. 300 A 192.0.2.1\n+ www.example.com. 60 A 192.0.2.1\n"
        );
    }

    #[test]
    fn items_of_a_batch() {
        let change = |op, ttl, records: &[&str]| RrsetChange {
            op,
            name: "www.example.com.".into(),
            rtype: "A".into(),
            ttl,
            records: records.iter().map(|record| (*record).to_owned()).collect(),
        };
        for (op, ttl, records, text) in [
            (RrsetOp::Put, Some(60), &["192.0.2.1"][..], "= www.example.com. 60 A 192.0.2.1\n"),
            (RrsetOp::Add, None, &["192.0.2.1"], "+ www.example.com. A 192.0.2.1\n"),
            (RrsetOp::Remove, None, &["192.0.2.1"], "- www.example.com. A 192.0.2.1\n"),
            (RrsetOp::Delete, None, &[], "- www.example.com. A (the whole RRset)\n"),
        ] {
            assert_eq!(of_change(&change(op, ttl, records)), text);
        }
    }
}
