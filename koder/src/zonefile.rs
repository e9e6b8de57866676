//! Which zone a zone file is of. The file itself is read by the server.

use std::fmt;
use std::path::Path;

use herald_core::Name;

/// What the name of a zone was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApexSource {
    /// The owner of the SOA record.
    Soa,
    /// The first `$ORIGIN`.
    Origin,
    /// The file's name.
    FileName,
}

impl fmt::Display for ApexSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ApexSource::Soa => "the SOA record",
            ApexSource::Origin => "$ORIGIN",
            ApexSource::FileName => "the file's name",
        })
    }
}

/// The apex that a zone file is of, if it says so itself or is named so.
pub fn apex(text: &str, file: Option<&Path>) -> Option<(Name, ApexSource)> {
    apex_of_text(text).or_else(|| Some((apex_of_file_name(file?)?, ApexSource::FileName)))
}

fn apex_of_text(text: &str) -> Option<(Name, ApexSource)> {
    let mut origin: Option<Name> = None;
    let mut first_origin: Option<Name> = None;
    let mut owner: Option<String> = None;
    for entry in (Entries { rest: text }) {
        let mut tokens = entry.tokens.iter().map(String::as_str);
        let first = tokens.next()?;
        if first.eq_ignore_ascii_case("$ORIGIN") {
            origin = tokens.next().and_then(|name| absolute(name, origin.as_ref()));
            first_origin = first_origin.or_else(|| origin.clone());
        } else if !first.starts_with('$') {
            let mut fields: Vec<&str> = entry.tokens.iter().map(String::as_str).collect();
            if !entry.is_indented {
                owner = Some(fields.remove(0).to_owned());
            }
            if rtype(&fields).is_some_and(|rtype| rtype.eq_ignore_ascii_case("SOA")) {
                if let Some(name) = owner.as_deref().and_then(|owner| absolute(owner, origin.as_ref())) {
                    return Some((name, ApexSource::Soa));
                }
                break;
            }
        }
    }
    Some((first_origin?, ApexSource::Origin))
}

/// The name, if it can be known without more than the file has said.
fn absolute(text: &str, origin: Option<&Name>) -> Option<Name> {
    match origin {
        Some(origin) => Name::parse_relative(text, origin).ok(),
        None if text.ends_with('.') => Name::parse(text).ok(),
        None => None,
    }
}

/// The first field that is neither a TTL nor a class.
fn rtype<'a>(fields: &[&'a str]) -> Option<&'a str> {
    let is_class =
        |field: &str| ["IN", "CH", "HS", "CS"].iter().any(|class| field.eq_ignore_ascii_case(class));
    let is_ttl = |field: &str| field.starts_with(|first: char| first.is_ascii_digit());
    fields.iter().take(3).copied().find(|field| !is_class(field) && !is_ttl(field))
}

fn apex_of_file_name(path: &Path) -> Option<Name> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_prefix("db.").unwrap_or(name);
    let name = [".zone", ".db", ".txt", ".dns", ".hosts"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    // A single label is far more often no zone at all.
    Name::parse(name).ok().filter(|name| name.label_count() >= 2)
}

/// One entry of a zone file: a line, or several in parentheses.
struct Entry {
    is_indented: bool,
    tokens: Vec<String>,
}

/// The entries of a zone file (RFC 1035 §5.1), those without a token left out.
struct Entries<'a> {
    rest: &'a str,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        while !self.rest.is_empty() {
            let entry = self.entry();
            if !entry.tokens.is_empty() {
                return Some(entry);
            }
        }
        None
    }
}

impl Entries<'_> {
    fn entry(&mut self) -> Entry {
        let mut entry = Entry { is_indented: self.rest.starts_with([' ', '\t']), tokens: Vec::new() };
        let mut token = String::new();
        let mut depth = 0_usize;
        let (mut is_quoted, mut is_comment) = (false, false);
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\n' if depth == 0 && !is_quoted => {
                    end = offset + 1;
                    break;
                }
                '\n' => is_comment = false,
                _ if is_comment => continue,
                '"' => is_quoted = !is_quoted,
                '\\' => {
                    token.push('\\');
                    token.extend(characters.next().map(|(_, escaped)| escaped));
                    continue;
                }
                _ if is_quoted => {
                    token.push(character);
                    continue;
                }
                ';' => is_comment = true,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ' ' | '\t' | '\r' => {}
                _ => {
                    token.push(character);
                    continue;
                }
            }
            if !is_quoted && !token.is_empty() {
                entry.tokens.push(std::mem::take(&mut token));
            }
        }
        if !token.is_empty() {
            entry.tokens.push(token);
        }
        self.rest = &self.rest[end..];
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, file: Option<&str>) -> Option<(String, ApexSource)> {
        apex(text, file.map(Path::new)).map(|(name, source)| (name.to_string(), source))
    }

    fn found(name: &str, source: ApexSource) -> Option<(String, ApexSource)> {
        Some((name.to_owned(), source))
    }

    #[test]
    fn the_soa_says_it() {
        let soa = "ns1.example.net. admin.example.net. ( 1 ; serial\n 2 3 4 5 )\n";
        for text in [
            format!("example.com. 3600 IN SOA {soa}"),
            format!("; a comment (\n$TTL 1h\nexample.com. IN 1h SOA {soa}"),
            format!("$ORIGIN example.com.\n@ SOA {soa}"),
            format!("$ORIGIN com.\nexample\tIN\tSOA {soa}"),
            format!("$ORIGIN com.\n$ORIGIN example\n@ soa {soa}"),
            format!("example.com. TXT \"a ; (\" \"b\"\n  SOA {soa}"),
        ] {
            assert_eq!(
                of(&text, Some("other.example.zone")),
                found("example.com.", ApexSource::Soa),
                "{text}"
            );
        }
    }

    #[test]
    fn then_the_first_origin() {
        let text = "$ORIGIN example.com.\n@ NS ns1.example.net.\n$ORIGIN sub.example.com.\n@ A 192.0.2.1\n";
        assert_eq!(of(text, None), found("example.com.", ApexSource::Origin));
    }

    #[test]
    fn then_the_name_of_the_file() {
        let text = "@ SOA ns1 admin 1 2 3 4 5\nwww A 192.0.2.1\n";
        for file in ["example.com", "example.com.zone", "zones/db.example.com", "example.com.txt"] {
            assert_eq!(of(text, Some(file)), found("example.com.", ApexSource::FileName), "{file}");
        }
        assert_eq!(of(text, Some("zonefile")), None);
        assert_eq!(of(text, None), None);
        assert_eq!(of("", None), None);
    }

    #[test]
    fn broken_files_do_no_harm() {
        for text in ["(", "\"", "\\", ")))\n", "$ORIGIN", "$ORIGIN a..b.\n@ A 1", "\n\n;\n"] {
            assert_eq!(of(text, None), None, "{text}");
        }
    }
}
