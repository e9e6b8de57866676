//! `$GENERATE`: BIND's way to write many records in one line.

use std::fmt::Display;
use std::io::Write;

/// The most records one line makes.
pub(super) const MAX_RECORDS_OF_LINE: u64 = 65_536;

/// The most records all lines of a file make together: a small file must not fill the memory.
const MAX_RECORDS_OF_FILE: u64 = 1 << 20;

/// The most octets of text all lines of a file make together.
const MAX_BYTES_OF_FILE: usize = 64 << 20;

/// The widest number that can be asked for.
const MAX_WIDTH: usize = 255;

/// What the `$GENERATE` lines of one file have made so far.
#[derive(Default)]
pub(super) struct Budget {
    records: u64,
    bytes: usize,
}

impl Budget {
    /// Counts one more record.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), impl Display + use<>> {
        self.records += 1;
        self.bytes += bytes;
        if self.records > MAX_RECORDS_OF_FILE || self.bytes > MAX_BYTES_OF_FILE {
            return Err("the $GENERATE lines of the file make too many records");
        }
        Ok(())
    }
}

/// The numbers of `start-stop` or `start-stop/step`.
pub(super) fn parse_range(text: &[u8]) -> Result<impl Iterator<Item = u32> + use<>, &'static str> {
    let expected = "expected a range like 1-10 or 1-10/2";
    let text = std::str::from_utf8(text).map_err(|_| expected)?;
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, stop) = range.split_once('-').ok_or(expected)?;
    let number = |text: &str| -> Result<u32, &'static str> {
        let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse().ok().filter(|number| is_number && *number <= i32::MAX as u32).ok_or(expected)
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    if start > stop || step == 0 {
        return Err(expected);
    }
    if u64::from((stop - start) / step) >= MAX_RECORDS_OF_LINE {
        return Err("the range makes more than 65536 records");
    }
    Ok((start..=stop).step_by(step as usize))
}

/// Appends the text with every `$` and `${offset,width,base}` replaced; `$$` and `\$` are a dollar sign.
pub(super) fn substitute(text: &[u8], number: u32, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match (octet, after) {
            (b'\\' | b'$', [b'$', after @ ..]) => {
                out.push(b'$');
                rest = after;
            }
            (b'\\', [escaped, after @ ..]) => {
                out.extend([b'\\', *escaped]);
                rest = after;
            }
            (b'$', [b'{', after @ ..]) => {
                let end = after.iter().position(|octet| *octet == b'}').ok_or("`${` without `}`")?;
                let (modifier, after) = after.split_at(end);
                write_modified(modifier, number, out)?;
                rest = &after[1..];
            }
            (b'$', _) => write!(out, "{number}").expect("a Vec takes everything"),
            _ => out.push(octet),
        }
    }
    Ok(())
}

/// The text that stands in quotation marks: of its escapes, those of quotation marks are taken away.
pub(super) fn unquote(text: &[u8]) -> Result<String, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = match (octet, after) {
            (b'\\', [b'"', after @ ..]) => {
                out.push(b'"');
                after
            }
            (b'\\', [escaped, after @ ..]) => {
                out.extend([octet, *escaped]);
                after
            }
            _ => {
                out.push(octet);
                after
            }
        };
    }
    String::from_utf8(out).map_err(|_| "the RDATA is not UTF-8")
}

/// `offset[,width[,base]]`, the base being d, o, x, X, or n, N for nibbles as in `ip6.arpa`.
fn write_modified(modifier: &[u8], number: u32, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let expected = "expected ${offset,width,base} with the base d, o, x, X, n or N";
    let modifier = std::str::from_utf8(modifier).map_err(|_| expected)?;
    let mut parts = modifier.split(',');
    let offset: i64 = parts.next().unwrap_or("").trim().parse().map_err(|_| expected)?;
    let width: usize = parts.next().unwrap_or("0").trim().parse().map_err(|_| expected)?;
    let base = parts.next().unwrap_or("d").trim();
    if parts.next().is_some() || width > MAX_WIDTH {
        return Err(expected);
    }
    let value = i64::from(number).checked_add(offset).filter(|value| *value >= 0);
    let value = value.ok_or("the number with its offset is less than 0")?;
    match base {
        "d" => write!(out, "{value:0width$}"),
        "o" => write!(out, "{value:0width$o}"),
        "x" => write!(out, "{value:0width$x}"),
        "X" => write!(out, "{value:0width$X}"),
        "n" | "N" => {
            write_nibbles(value, width, base == "N", out);
            Ok(())
        }
        _ => return Err(expected),
    }
    .expect("a Vec takes everything");
    Ok(())
}

/// Hexadecimal digits in reverse with dots between; the width counts the dots.
fn write_nibbles(value: i64, width: usize, is_upper_case: bool, out: &mut Vec<u8>) {
    let digits: &[u8; 16] = if is_upper_case { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let (mut value, mut written) = (value, 0);
    loop {
        out.push(digits[(value & 15) as usize]);
        written += 1;
        value >>= 4;
        if value == 0 && written >= width {
            return;
        }
        out.push(b'.');
        written += 1;
        // A width that ends on a dot ends with a dot, as in BIND: `${0,2,n}` is followed by more labels.
        if value == 0 && written >= width {
            return;
        }
    }
}
