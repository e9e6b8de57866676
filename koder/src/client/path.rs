//! Paths: one place where names become segments.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters and two that names have often and paths allow: the
/// wildcard and the apex.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*').remove(b'@');

/// `/` and the segments, each of them encoded so that nothing in it is taken for structure.
pub(super) fn join(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        match *segment {
            // As they are these would walk the tree; the root zone's name is one of them.
            "." => path.push_str("%2E"),
            ".." => path.push_str("%2E%2E"),
            segment => path.extend(utf8_percent_encode(segment, SEGMENT)),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn names_are_kept_whole() {
        for (name, segment) in [
            ("www.example.com.", "www.example.com."),
            ("_acme-challenge", "_acme-challenge"),
            ("*.example.com", "*.example.com"),
            ("@", "@"),
            ("0/25.2.0.192.in-addr.arpa", "0%2F25.2.0.192.in-addr.arpa"),
            (r"a\.b.example", "a%5C.b.example"),
            (r"a\032b", "a%5C032b"),
            ("a b%c?d#e", "a%20b%25c%3Fd%23e"),
            ("bücher.example", "b%C3%BCcher.example"),
            (".", "%2E"),
            ("..", "%2E%2E"),
        ] {
            assert_eq!(join(&["zones", name]), format!("/zones/{segment}"));
        }
    }
}
