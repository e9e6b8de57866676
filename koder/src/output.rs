//! Where things are said: results on stdout, as a table or as the API's JSON; everything else on stderr.

use std::io::{self, Write};

use herald_wire::api::Warning;

use crate::failure::Failure;
use crate::table::printable;

/// The two streams, and which form results have.
pub struct Output<'a> {
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    json: bool,
}

impl<'a> Output<'a> {
    /// Results go to `stdout`, as JSON or for people.
    pub fn new(stdout: &'a mut dyn Write, stderr: &'a mut dyn Write, json: bool) -> Output<'a> {
        Output { stdout, stderr, json }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A result: `json` as it came, or what `people` makes of it.
    pub fn result(&mut self, json: &str, people: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            return self.raw(people().as_bytes());
        }
        self.raw(json.as_bytes())?;
        if json.ends_with('\n') { Ok(()) } else { self.raw(b"\n") }
    }

    /// A result for people only: nothing with JSON.
    pub fn people(&mut self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.raw(text.as_bytes()) }
    }

    /// A result that has only one form.
    pub fn raw(&mut self, content: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(content).map_err(Failure::Output)
    }

    /// Where results go that have only one form and are long.
    pub fn stdout(&mut self) -> &mut dyn Write {
        self.stdout
    }

    /// A remark on stderr. If nobody listens there, so be it.
    pub fn note(&mut self, text: &str) {
        // On a terminal the two streams meet: in the order in which things were said.
        let _ = self.stdout.flush();
        let _ = writeln!(self.stderr, "{}", printable(text));
    }

    /// Warnings on stderr.
    pub fn warnings(&mut self, warnings: &[Warning]) {
        for warning in warnings {
            self.note(&warning_line(warning));
        }
    }

    /// A failure on stderr, and with JSON the server's problem document on stdout.
    pub fn failure(&mut self, failure: &Failure) {
        if let (true, Failure::Client(crate::client::ClientError::Problem { text, .. })) =
            (self.json, failure)
        {
            let _ = writeln!(self.stdout, "{}", text.trim_end());
        }
        let _ = self.stdout.flush();
        let _ = self.stderr.write_all(failure.render().as_bytes());
    }
}

fn warning_line(warning: &Warning) -> String {
    match &warning.name {
        Some(name) => format!("warning: {name}: {} [{}]", warning.detail, warning.code),
        None => format!("warning: {} [{}]", warning.detail, warning.code),
    }
}

/// Whether the reader of the output has gone, as `head` does: no reason to complain.
pub fn is_closed_pipe(failure: &Failure) -> bool {
    matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: bool, say: impl FnOnce(&mut Output<'_>)) -> (String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        say(&mut Output::new(&mut stdout, &mut stderr, json));
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn json_is_what_came_and_one_line_end() {
        let say = |output: &mut Output<'_>| {
            output.result("{\"b\":1,\"a\":2.50}", || "a table\n".to_owned()).unwrap();
            output.people("more\n").unwrap();
        };
        assert_eq!(said(true, say).0, "{\"b\":1,\"a\":2.50}\n");
        assert_eq!(said(false, say).0, "a table\nmore\n");
    }

    #[test]
    fn warnings_go_to_stderr() {
        let warnings = [
            Warning { code: "occluded_name".into(), name: Some("a.b.".into()), detail: "hidden".into() },
            Warning { code: "other".into(), name: None, detail: "odd\u{7}".into() },
        ];
        let (stdout, stderr) = said(false, |output| output.warnings(&warnings));
        assert_eq!(stdout, "");
        assert_eq!(stderr, "warning: a.b.: hidden [occluded_name]\nwarning: odd\\u{7} [other]\n");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let failure = |kind: io::ErrorKind| Failure::Output(kind.into());
        assert!(is_closed_pipe(&failure(io::ErrorKind::BrokenPipe)));
        assert!(!is_closed_pipe(&failure(io::ErrorKind::StorageFull)));
    }
}
