//! Names as they are typed: `@`, relative to the zone, or fully qualified with or without the dot.

use herald_core::Name;
use herald_core::name::NameError;

/// The owner name that is meant in a zone.
///
/// What ends in a dot, or in the zone's own name, is fully qualified; everything else is below the zone.
pub fn qualify(text: &str, zone: &Name) -> Result<Name, NameError> {
    if text.is_empty() {
        return Ok(zone.clone());
    }
    match Name::parse(text) {
        Ok(name) if name.is_at_or_below(zone) => Ok(name),
        _ => Name::parse_relative(text, zone),
    }
}

/// What says before a name that the private zone is meant.
pub const PRIVATE: &str = "private:";

/// A zone's id or name as paths take it: U-labels become A-labels.
pub fn zone_for_path(text: &str) -> String {
    if let Some(name) = text.strip_prefix(PRIVATE) {
        return format!("{PRIVATE}{}", zone_for_path(name));
    }
    match Name::parse(text) {
        Ok(name) if !text.is_ascii() => name.to_string(),
        _ => text.to_owned(),
    }
}

/// A name as the API gives it (A-labels), for people's eyes. What is no name stays as it is.
pub fn for_people(text: &str) -> String {
    Name::parse(text).map_or_else(|_| text.to_owned(), |name| name.to_unicode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_once() {
        let zone = Name::parse("example.com").unwrap();
        for (text, name) in [
            ("@", "example.com."),
            ("", "example.com."),
            ("www", "www.example.com."),
            ("a.b", "a.b.example.com."),
            ("www.example.com", "www.example.com."),
            ("WWW.Example.COM.", "www.example.com."),
            ("example.com", "example.com."),
            ("notexample.com", "notexample.com.example.com."),
            ("*", "*.example.com."),
            ("*.dyn", "*.dyn.example.com."),
            ("bücher", "xn--bcher-kva.example.com."),
            ("www.example.org.", "www.example.org."),
        ] {
            assert_eq!(qualify(text, &zone).unwrap().to_string(), name, "{text}");
        }
        assert!(qualify("a..b", &zone).is_err());
    }

    #[test]
    fn classless_reverse_zones() {
        let zone = Name::parse("0/25.2.0.192.in-addr.arpa").unwrap();
        assert_eq!(qualify("1", &zone).unwrap().to_string(), "1.0/25.2.0.192.in-addr.arpa.");
    }

    #[test]
    fn zones_in_paths() {
        assert_eq!(zone_for_path("bücher.example"), "xn--bcher-kva.example.");
        assert_eq!(zone_for_path("example.com"), "example.com");
        assert_eq!(zone_for_path("private:bücher.example"), "private:xn--bcher-kva.example.");
        assert_eq!(zone_for_path("01J9ZQ4T9V"), "01J9ZQ4T9V");
    }

    #[test]
    fn people_read_unicode() {
        assert_eq!(for_people("xn--bcher-kva.example."), "bücher.example.");
        assert_eq!(for_people("a..b"), "a..b");
    }
}
