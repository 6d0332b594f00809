//! Moves over JSON text: where a string, a number or a whole value ends.
//!
//! Each function is given a place and returns another one, so that the place stays in a register: most
//! bytes of a review pass by here and are never looked at again.

use super::json::{MAX_DEPTH, Problem};

/// Where the text does not go on as JSON must, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

type Place = Result<usize, Stop>;

/// What is at that place cannot be there.
#[cold]
pub(super) fn unexpected(text: &[u8], at: usize) -> Stop {
    let ended = at >= text.len();
    let problem = if ended { Problem::End } else { Problem::Syntax };
    Stop { at, problem }
}

/// The next byte that is no blank.
#[inline]
pub(super) fn blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// Behind that byte, which must be next but for blanks.
#[inline]
pub(super) fn expect(text: &[u8], at: usize, wanted: u8) -> Place {
    let at = blanks(text, at);
    if text.get(at) == Some(&wanted) {
        Ok(at + 1)
    } else {
        Err(unexpected(text, at))
    }
}

/// Behind plain text of a string: at the quote, backslash or illegal byte that ends it.
#[inline]
fn plain_text(text: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let ends = ends_plain_text(u64::from_le_bytes(*chunk));
        if ends != 0 {
            return at + (ends.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// Has the highest bit of each byte that ends plain text; above the first of them it may have more.
#[inline]
const fn ends_plain_text(bytes: u64) -> u64 {
    const fn zero(bytes: u64) -> u64 {
        bytes.wrapping_sub(ONES) & !bytes
    }
    let control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    let quote = zero(bytes ^ (ONES * b'"' as u64));
    let backslash = zero(bytes ^ (ONES * b'\\' as u64));
    (control | quote | backslash) & (ONES * 0x80)
}

/// Behind a string whose opening quote is at that place, and whether there are escapes in it.
#[inline]
pub(super) fn string(text: &[u8], quote: usize) -> Result<(usize, bool), Stop> {
    let at = plain_text(text, quote + 1);
    match text.get(at) {
        Some(b'"') => Ok((at + 1, false)),
        Some(b'\\') => Ok((escaped_string(text, at)?, true)),
        _ => Err(unexpected(text, at)),
    }
}

/// The rest of a string, from its first escape on.
fn escaped_string(text: &[u8], mut at: usize) -> Place {
    loop {
        at = match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at + 2,
                Some(b'u') => unit(text, at + 2)?,
                _ => return Err(unexpected(text, at + 1)),
            },
            _ => return Err(unexpected(text, at)),
        };
        at = plain_text(text, at);
    }
}

/// Behind the four digits of an escape.
fn unit(text: &[u8], start: usize) -> Place {
    for at in start..start + 4 {
        if !text.get(at).is_some_and(u8::is_ascii_hexdigit) {
            return Err(unexpected(text, at));
        }
    }
    Ok(start + 4)
}

/// Behind a number.
pub(super) fn number(text: &[u8], mut at: usize) -> Place {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = digits(text, at)?;
    }
    Ok(at)
}

/// Behind one digit or more.
fn digits(text: &[u8], start: usize) -> Place {
    let mut at = start;
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    if at == start {
        return Err(unexpected(text, at));
    }
    Ok(at)
}

/// Behind that word.
pub(super) fn word(text: &[u8], mut at: usize, word: &str) -> Place {
    for wanted in word.bytes() {
        if text.get(at) != Some(&wanted) {
            return Err(unexpected(text, at));
        }
        at += 1;
    }
    Ok(at)
}

/// Behind a value of any shape that stands so deep already, without recursion.
pub(super) fn value(text: &[u8], mut at: usize, base: usize) -> Place {
    let mut depth = base;
    // Which of the open brackets are objects, the innermost in the lowest bit. There are as many
    // bits as levels.
    let mut objects: u128 = 0;
    loop {
        at = blanks(text, at);
        match text.get(at) {
            Some(b'"') => (at, _) = string(text, at)?,
            Some(open @ (b'{' | b'[')) => {
                if depth == MAX_DEPTH {
                    let problem = Problem::Depth;
                    return Err(Stop { at, problem });
                }
                let object = *open == b'{';
                at = blanks(text, at + 1);
                if text.get(at) == Some(if object { &b'}' } else { &b']' }) {
                    at += 1;
                } else {
                    depth += 1;
                    objects = objects << 1 | u128::from(object);
                    if object {
                        at = key(text, at)?;
                    }
                    continue;
                }
            }
            Some(b'n') => at = word(text, at, "null")?,
            Some(b't') => at = word(text, at, "true")?,
            Some(b'f') => at = word(text, at, "false")?,
            Some(b'-' | b'0'..=b'9') => at = number(text, at)?,
            _ => return Err(unexpected(text, at)),
        }
        loop {
            if depth == base {
                return Ok(at);
            }
            let object = objects & 1 == 1;
            at = blanks(text, at);
            match text.get(at) {
                Some(b',') => {
                    at += 1;
                    if object {
                        at = key(text, at)?;
                    }
                    break;
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ => return Err(unexpected(text, at)),
            }
            at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Behind a key and its colon.
#[inline]
fn key(text: &[u8], at: usize) -> Place {
    let at = blanks(text, at);
    if text.get(at) != Some(&b'"') {
        return Err(unexpected(text, at));
    }
    let (at, _) = string(text, at)?;
    expect(text, at, b':')
}
