//! The RDATA of LOC: a place on earth (RFC 1876).

use std::fmt::{self, Write};

use super::RdataError;
use super::lexer::Token;
use super::read::{Reader, parse_digits};

/// Version, size, two precisions, latitude, longitude and altitude (RFC 1876 §2).
pub(super) const LOCATION_BYTES: usize = 16;

/// What the equator and the prime meridian are counted as, in thousandths of an arc second.
const MIDDLE: u32 = 1 << 31;

/// A degree in thousandths of an arc second.
const DEGREE: u32 = 3_600_000;

/// What an altitude of 0 is counted as, in centimetres.
const ALTITUDE_BASE_CM: i64 = 10_000_000;

/// Size, horizontal and vertical precision when they are not given: 1 m, 10 km, 10 m (RFC 1876 §3).
const DEFAULT_SIZES: [(&str, u8); 3] =
    [("size", 0x12), ("horizontal precision", 0x16), ("vertical precision", 0x13)];

/// Reads `d1 [m1 [s1]] N|S d2 [m2 [s2]] E|W alt[m] [size[m] [hp[m] [vp[m]]]]` (RFC 1876 §3).
pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<(), RdataError> {
    let latitude = read_angle(reader, "latitude", 90, ["N", "S"])?;
    let longitude = read_angle(reader, "longitude", 180, ["E", "W"])?;
    let altitude =
        reader.take_as("altitude", "metres from -100000.00 to 42849672.95", |token| parse_altitude(token))?;
    let mut sizes = [0; 3];
    for (size, (name, default)) in sizes.iter_mut().zip(DEFAULT_SIZES) {
        *size = match reader.peek() {
            None => default,
            Some(_) => reader.take_as(name, "metres from 0 to 90000000.00", |token| parse_size(token))?,
        };
    }
    reader.out.push(0);
    reader.out.extend(sizes);
    for number in [latitude, longitude, altitude] {
        reader.out.extend(number.to_be_bytes());
    }
    Ok(())
}

/// Checks the sixteen octets.
pub(super) fn check(octets: &[u8]) -> Result<(), String> {
    if octets[0] != 0 {
        return Err("only version 0 is defined".to_owned());
    }
    for (size, (name, _)) in octets[1..4].iter().zip(DEFAULT_SIZES) {
        let (base, exponent) = (size >> 4, size & 15);
        if base > 9 || exponent > 9 || (base == 0 && exponent > 0) {
            return Err(format!("the {name} is not defined (RFC 1876 §2)"));
        }
    }
    for (start, name, most_degrees) in [(4, "latitude", 90), (8, "longitude", 180)] {
        if number_at(octets, start).abs_diff(MIDDLE) > most_degrees * DEGREE {
            return Err(format!("the {name} is over {most_degrees} degrees"));
        }
    }
    Ok(())
}

/// Writes sixteen octets that are in order, as other servers do.
pub(super) fn write(octets: &[u8], out: &mut String) -> fmt::Result {
    write_angle(number_at(octets, 4), ["N", "S"], out)?;
    out.push(' ');
    write_angle(number_at(octets, 8), ["E", "W"], out)?;
    let altitude_cm = i64::from(number_at(octets, 12)) - ALTITUDE_BASE_CM;
    let sign = if altitude_cm < 0 { "-" } else { "" };
    let altitude_cm = altitude_cm.unsigned_abs();
    write!(out, " {sign}{}.{:02}m", altitude_cm / 100, altitude_cm % 100)?;
    for size in &octets[1..4] {
        let size_cm = u64::from(size >> 4) * 10_u64.pow(u32::from(size & 15));
        match size_cm % 100 {
            0 => write!(out, " {}m", size_cm / 100)?,
            rest_cm => write!(out, " {}.{rest_cm:02}m", size_cm / 100)?,
        }
    }
    Ok(())
}

fn number_at(octets: &[u8], start: usize) -> u32 {
    let bytes = octets[start..start + 4].try_into().expect("four octets");
    u32::from_be_bytes(bytes)
}

/// Degrees, minutes if any, seconds if any, and the hemisphere.
fn read_angle(
    reader: &mut Reader<'_, '_>,
    name: &str,
    most_degrees: u32,
    hemispheres: [&str; 2],
) -> Result<u32, RdataError> {
    let mut angle = reader.take_as(name, format_args!("degrees from 0 to {most_degrees}"), |token| {
        parse_digits::<u32>(token.text).filter(|degrees| *degrees <= most_degrees)
    })? * DEGREE;
    let is_hemisphere = |token: Token<'_>| hemispheres.iter().any(|letter| token.is_word(letter));
    if !reader.peek().is_some_and(is_hemisphere) {
        angle += reader.take_as(name, "minutes from 0 to 59", |token| {
            parse_digits::<u32>(token.text).filter(|minutes| *minutes < 60)
        })? * (DEGREE / 60);
    }
    if !reader.peek().is_some_and(is_hemisphere) {
        angle += reader.take_as(name, "seconds from 0 to 59.999", |token| {
            parse_decimal(token.text, 3).filter(|thousandths| *thousandths < 60_000)
        })? as u32;
    }
    if angle > most_degrees * DEGREE {
        return Err(reader.error(name, format_args!("over {most_degrees} degrees")));
    }
    let [positive, negative] = hemispheres;
    reader.take_as(name, format_args!("{positive} or {negative}"), |token| {
        let is_positive = token.is_word(positive);
        (is_positive || token.is_word(negative))
            .then(|| if is_positive { MIDDLE + angle } else { MIDDLE - angle })
    })
}

fn write_angle(angle: u32, [positive, negative]: [&str; 2], out: &mut String) -> fmt::Result {
    let hemisphere = if angle >= MIDDLE { positive } else { negative };
    let angle = angle.abs_diff(MIDDLE);
    let (degrees, minutes) = (angle / DEGREE, angle / (DEGREE / 60) % 60);
    let (seconds, thousandths) = (angle / 1_000 % 60, angle % 1_000);
    write!(out, "{degrees} {minutes} {seconds}.{thousandths:03} {hemisphere}")
}

fn parse_altitude(token: Token<'_>) -> Option<u32> {
    let metres = without_unit(token.text);
    let altitude_cm = match metres.strip_prefix(b"-") {
        Some(metres) => -i64::try_from(parse_decimal(metres, 2)?).ok()?,
        None => i64::try_from(parse_decimal(metres.strip_prefix(b"+").unwrap_or(metres), 2)?).ok()?,
    };
    u32::try_from(altitude_cm + ALTITUDE_BASE_CM).ok()
}

/// A length as one digit and a power of ten, in centimetres; further digits are lost.
fn parse_size(token: Token<'_>) -> Option<u8> {
    let mut base = parse_decimal(without_unit(token.text), 2)?;
    let mut exponent = 0;
    while base > 9 {
        base /= 10;
        exponent += 1;
    }
    (exponent <= 9).then_some((base as u8) << 4 | exponent)
}

fn without_unit(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"m").or_else(|| text.strip_suffix(b"M")).unwrap_or(text)
}

/// A decimal number with up to so many places, as a whole number of the smallest unit.
fn parse_decimal(text: &[u8], places: usize) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Ten digits are more than any field holds, and can't overflow.
    if fraction.len() > places || whole.len() > 10 {
        return None;
    }
    let scale = 10_u64.pow((places - fraction.len()) as u32);
    let fraction = if fraction.is_empty() { 0 } else { parse_digits::<u64>(fraction.as_bytes())? * scale };
    Some(parse_digits::<u64>(whole.as_bytes())? * 10_u64.pow(places as u32) + fraction)
}
