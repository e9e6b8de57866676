//! Records as text that needs no knowledge of types: `TYPE15 \# 9 000a036d786102…` (RFC 3597 §5).
//!
//! knotd reads this form for every type, in zone files and over the control socket, and checks known types
//! for their shape.

use herald_core::Name;

/// Writes a name in presentation format with its final dot, every octet but `a-z 0-9 - _` escaped
/// as `\DDD`, so that no scanner can see anything special in it.
pub fn push_name(out: &mut Vec<u8>, name: &Name) {
    if name.is_root() {
        out.push(b'.');
        return;
    }
    for label in name.labels() {
        for &octet in label {
            match octet {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(octet),
                b'*' if label.len() == 1 => out.push(b'*'),
                _ => out.extend_from_slice(&[
                    b'\\',
                    b'0' + octet / 100,
                    b'0' + octet / 10 % 10,
                    b'0' + octet % 10,
                ]),
            }
        }
        out.push(b'.');
    }
}

/// Writes a type by its number: `TYPE1` is A.
pub fn push_type(out: &mut Vec<u8>, rtype: u16) {
    out.extend_from_slice(b"TYPE");
    push_decimal(out, u32::from(rtype));
}

/// Writes RDATA as `\# length hex`.
pub fn push_rdata(out: &mut Vec<u8>, rdata: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\# ");
    push_decimal(out, rdata.len() as u32);
    if !rdata.is_empty() {
        out.push(b' ');
    }
    out.reserve(2 * rdata.len());
    for octet in rdata {
        out.extend_from_slice(&[HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
    }
}

/// Writes a number.
pub fn push_decimal(out: &mut Vec<u8>, number: u32) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A name as text, as [`push_name`] writes it.
pub fn name_text(name: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.as_wire().len() + 8);
    push_name(&mut out, name);
    out
}
