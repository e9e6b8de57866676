//! Cuts zone files, and single RDATA texts, into entries and tokens (RFC 1035 §5.1), without copying.

use crate::name::unescape;

/// A piece of an entry between white space, its escapes still as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'t> {
    /// The text, without the quotation marks around it. A quoted part inside (`alpn="h2,h3"`) keeps its own.
    pub text: &'t [u8],
    /// Whether the text was in quotation marks.
    pub is_quoted: bool,
    /// Where the token starts in the text it was cut from, in octets.
    pub offset: usize,
}

impl Token<'_> {
    /// Whether this is exactly that text, in any case and without quotation marks.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    /// The text if it is UTF-8.
    pub(crate) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.text).ok()
    }
}

/// An entry of a zone file, beside its tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Where the line of the first token starts, in octets.
    pub offset: usize,
    /// The number of that line, from 1.
    pub line: usize,
    /// Whether white space precedes the first token: the owner is the one of the entry before.
    pub starts_blank: bool,
}

/// What can be wrong with a text before anything is understood of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LexError {
    #[error("the quotation mark is not closed on its line")]
    OpenQuote,
    #[error("the parenthesis is never closed")]
    OpenParenthesis,
    #[error("a closing parenthesis without an opening one")]
    ClosingParenthesis,
    #[error("a backslash at the end of the line")]
    LoneBackslash,
    #[error("a line break in the middle of a record")]
    LineBreak,
}

/// Cuts a zone file, or a part of one, into its entries.
pub(crate) struct Lexer<'t> {
    text: &'t [u8],
    /// Whether nothing follows the text.
    is_last: bool,
    position: usize,
    line: usize,
    line_offset: usize,
}

impl<'t> Lexer<'t> {
    /// Of a text that starts at the start of a line. If it isn't the last one of its file, only its whole lines are read.
    pub(crate) fn new(text: &'t [u8], line: usize, is_last: bool) -> Lexer<'t> {
        let whole_lines = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
        let text = if is_last { text } else { &text[..whole_lines] };
        let position = if line == 1 && text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Lexer { text, is_last, position, line, line_offset: position }
    }

    /// Where the first line starts that belongs to no entry that was given, and its number.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.line_offset, self.line)
    }

    /// Fills `tokens` with those of the next entry that has any; `None` at the end, or where the text ends in the midst of
    /// an entry.
    ///
    /// After an error, which comes with its place, the next line is the next to be read.
    pub(crate) fn next_entry(
        &mut self,
        tokens: &mut Vec<Token<'t>>,
    ) -> Result<Option<Entry>, (LexError, Entry, usize)> {
        tokens.clear();
        let mut entry = self.entry();
        let mut open_parentheses = 0_usize;
        let mut first_parenthesis = 0;
        while let Some(&octet) = self.text.get(self.position) {
            let at = self.position;
            match octet {
                b'\n' => {
                    self.position += 1;
                    self.line += 1;
                    self.line_offset = self.position;
                    if open_parentheses == 0 {
                        if !tokens.is_empty() {
                            return Ok(Some(entry));
                        }
                        entry = self.entry();
                    }
                }
                b' ' | b'\t' | b'\r' => self.position += 1,
                b';' => self.skip_line(),
                b'(' => {
                    if open_parentheses == 0 {
                        first_parenthesis = at;
                    }
                    open_parentheses += 1;
                    self.position += 1;
                }
                b')' => {
                    self.position += 1;
                    let Some(fewer) = open_parentheses.checked_sub(1) else {
                        self.skip_line();
                        return Err((LexError::ClosingParenthesis, entry, at));
                    };
                    open_parentheses = fewer;
                }
                _ => match scan_token(self.text, at, is_zone_file_delimiter) {
                    Ok((token, end)) => {
                        tokens.push(token);
                        self.position = end;
                    }
                    Err(error) => {
                        self.skip_line();
                        return Err((error, entry, at));
                    }
                },
            }
        }
        if open_parentheses > 0 {
            if self.is_last {
                return Err((LexError::OpenParenthesis, entry, first_parenthesis));
            }
            (self.line_offset, self.line) = (entry.offset, entry.line);
            return Ok(None);
        }
        Ok((!tokens.is_empty()).then_some(entry))
    }

    /// The entry that starts here, at the start of a line.
    fn entry(&self) -> Entry {
        let starts_blank = matches!(self.text.get(self.position), Some(b' ' | b'\t'));
        Entry { offset: self.line_offset, line: self.line, starts_blank }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.position..];
        self.position += rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
    }
}

/// Cuts the text of one record's RDATA into tokens.
///
/// Semicolons and parentheses mean nothing here, and are ordinary characters: whoever sends
/// `v=DKIM1; k=rsa` through an API would else lose half of it in silence.
pub(crate) fn tokens_of_rdata(text: &str) -> Result<Vec<Token<'_>>, (LexError, usize)> {
    let text = text.trim_matches(['\r', '\n']).as_bytes();
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(&octet) = text.get(position) {
        match octet {
            b' ' | b'\t' => position += 1,
            b'\n' | b'\r' => return Err((LexError::LineBreak, position)),
            _ => {
                let (token, end) =
                    scan_token(text, position, is_white_space).map_err(|error| (error, position))?;
                tokens.push(token);
                position = end;
            }
        }
    }
    Ok(tokens)
}

fn is_white_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_zone_file_delimiter(octet: u8) -> bool {
    is_white_space(octet) || matches!(octet, b';' | b'(' | b')')
}

/// The token that starts at `start`, and where it ends.
fn scan_token(
    text: &[u8],
    start: usize,
    is_delimiter: impl Fn(u8) -> bool,
) -> Result<(Token<'_>, usize), LexError> {
    if text[start] == b'"' {
        let end = scan_quoted(text, start + 1)?;
        let token = Token { text: &text[start + 1..end], is_quoted: true, offset: start };
        return Ok((token, end + 1));
    }
    let mut position = start;
    while let Some(&octet) = text.get(position) {
        match octet {
            b'\\' => position = skip_escape(text, position)?,
            b'"' => position = scan_quoted(text, position + 1)? + 1,
            _ if is_delimiter(octet) => break,
            _ => position += 1,
        }
    }
    Ok((Token { text: &text[start..position], is_quoted: false, offset: start }, position))
}

/// Where the closing quotation mark is.
fn scan_quoted(text: &[u8], mut position: usize) -> Result<usize, LexError> {
    loop {
        match text.get(position) {
            None | Some(b'\n') => return Err(LexError::OpenQuote),
            Some(b'"') => return Ok(position),
            Some(b'\\') => position = skip_escape(text, position)?,
            Some(_) => position += 1,
        }
    }
}

/// Steps over a backslash and the character after it; digits that may follow can't be delimiters.
fn skip_escape(text: &[u8], position: usize) -> Result<usize, LexError> {
    match text.get(position + 1) {
        None | Some(b'\n') => Err(LexError::LoneBackslash),
        Some(_) => Ok(position + 2),
    }
}

/// Appends the octets a text with escapes stands for; `None` if an escape is bad.
pub(crate) fn unescape_into(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some(backslash) = rest.iter().position(|&octet| octet == b'\\') {
        out.extend_from_slice(&rest[..backslash]);
        let (octet, after) = unescape(&rest[backslash + 1..])?;
        out.push(octet);
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(())
}
