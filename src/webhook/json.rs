//! Reads JSON once, borrowing, with a limit of depth: a deserializer for types that need a few
//! values out of a long text.
//!
//! A review is mostly what nobody here reads. The general parser takes the same time for it, but
//! knows no limit of depth for what it skips, so that a second look at every byte would be needed,
//! and it checks the encoding of each key before it is compared. What is accepted is the same:
//! tests hold this one against it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scan::{self, Stop};

/// Deepest nesting that is accepted. A pod with `managedFields` stays below 30.
pub const MAX_DEPTH: usize = 128;

/// Why a text is refused, and where. Never holds a part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub problem: Problem,
    /// Line, from 1.
    pub line: usize,
    /// Byte of that line, from 1.
    pub column: usize,
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is not JSON.
    Syntax,
    /// It ends too early.
    End,
    /// It is nested deeper than [`MAX_DEPTH`].
    Depth,
    /// It is JSON, but the type that was asked for refuses it.
    Refused,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Syntax => "it is not JSON",
            Problem::End => "it ends too early",
            Problem::Depth => "it is nested too deeply",
            Problem::Refused => "a key that counts stands twice",
        };
        let Self { line, column, .. } = self;
        write!(f, "line {line}, column {column}: {problem}")
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    /// The words of a type may quote the text, so they are not kept.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self {
            problem: Problem::Refused,
            line: 0,
            column: 0,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Reads a whole text.
///
/// # Errors
/// When it is not JSON, is nested too deeply, or is refused by the type.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
    };
    let value = T::deserialize(&mut reader).map_err(|error| reader.placed(error))?;
    reader.at = scan::blanks(text, reader.at);
    if reader.at < text.len() {
        return Err(reader.error(Problem::Syntax));
    }
    Ok(value)
}

struct Reader<'de> {
    text: &'de [u8],
    at: usize,
    depth: usize,
}

impl<'de> Reader<'de> {
    /// Reads everything up to there once more, for the number of the line.
    #[cold]
    fn error(&self, problem: Problem) -> Error {
        let read = &self.text[..self.at.min(self.text.len())];
        let line_start = read.iter().rposition(|byte| *byte == b'\n');
        Error {
            problem,
            line: read.split(|byte| *byte == b'\n').count(),
            column: 1 + read.len() - line_start.map_or(0, |at| at + 1),
        }
    }

    /// An error of the type says no place: it is where the reader stands.
    fn placed(&self, error: Error) -> Error {
        if error.line == 0 {
            self.error(error.problem)
        } else {
            error
        }
    }

    #[cold]
    fn ended(&self) -> Error {
        self.error(Problem::End)
    }

    #[cold]
    fn stopped(&mut self, stop: Stop) -> Error {
        self.at = stop.at;
        self.error(stop.problem)
    }

    #[cold]
    fn unexpected<T>(&mut self) -> Result<T> {
        let stop = scan::unexpected(self.text, self.at);
        Err(self.stopped(stop))
    }

    /// Moves to where a scan has ended.
    #[inline]
    fn moved(&mut self, scanned: std::result::Result<usize, Stop>) -> Result<()> {
        self.at = scanned.map_err(|stop| self.stopped(stop))?;
        Ok(())
    }

    /// The next byte that is no blank; it is not taken.
    #[inline]
    fn token(&mut self) -> Result<u8> {
        self.at = scan::blanks(self.text, self.at);
        let next = self.text.get(self.at).copied();
        next.ok_or_else(|| self.ended())
    }

    #[inline]
    fn enter(&mut self) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(Problem::Depth));
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Moves behind a string whose opening quote is next. Returns what is between the quotes, and
    /// whether there are escapes in it.
    #[inline]
    fn raw_string(&mut self) -> Result<(&'de [u8], bool)> {
        let start = self.at + 1;
        let scanned = scan::string(self.text, self.at);
        let (end, escaped) = scanned.map_err(|stop| self.stopped(stop))?;
        self.at = end;
        Ok((&self.text[start..end - 1], escaped))
    }

    fn string(&mut self) -> Result<Cow<'de, str>> {
        let (raw, escaped) = self.raw_string()?;
        let text = std::str::from_utf8(raw).map_err(|_| self.error(Problem::Syntax))?;
        if !escaped {
            return Ok(Cow::Borrowed(text));
        }
        unescaped(text)
            .map(Cow::Owned)
            .ok_or_else(|| self.error(Problem::Syntax))
    }

    /// Moves behind a number and returns its text.
    fn number(&mut self) -> Result<&'de str> {
        let start = self.at;
        self.moved(scan::number(self.text, start))?;
        // Digits, signs, a point: always text.
        std::str::from_utf8(&self.text[start..self.at]).map_err(|_| self.error(Problem::Syntax))
    }

    fn word(&mut self, word: &str) -> Result<()> {
        self.moved(scan::word(self.text, self.at, word))
    }
}

/// The text without escapes, which are known to be well-formed. `None`: half of a surrogate pair.
fn unescaped(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        text.push(match code {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut unit = || {
                    let unit = u16::from_str_radix(rest.get(..4)?, 16).ok()?;
                    rest = &rest[4..];
                    Some(unit)
                };
                let first = unit()?;
                if (0xD800..0xDC00).contains(&first) {
                    rest = rest.strip_prefix("\\u")?;
                    let unit = u16::from_str_radix(rest.get(..4)?, 16).ok()?;
                    rest = &rest[4..];
                    char::decode_utf16([first, unit]).next()?.ok()?
                } else {
                    char::from_u32(first.into())?
                }
            }
            // A quote, a backslash or a slash.
            other => char::from(other),
        });
    }
    text.push_str(rest);
    Some(text)
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.token()? {
            b'"' => match self.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            b'{' => {
                self.enter()?;
                let value = visitor.visit_map(Entries::new(self))?;
                if self.token()? != b'}' {
                    return self.unexpected();
                }
                self.leave();
                Ok(value)
            }
            b'[' => {
                self.enter()?;
                let value = visitor.visit_seq(Entries::new(self))?;
                if self.token()? != b']' {
                    return self.unexpected();
                }
                self.leave();
                Ok(value)
            }
            b'n' => {
                self.word("null")?;
                visitor.visit_unit()
            }
            b't' => {
                self.word("true")?;
                visitor.visit_bool(true)
            }
            b'f' => {
                self.word("false")?;
                visitor.visit_bool(false)
            }
            b'-' | b'0'..=b'9' => {
                let text = self.number()?;
                if let Ok(number) = text.parse() {
                    return visitor.visit_u64(number);
                }
                match text.parse() {
                    // Minus zero is no integer.
                    Ok(number) if number != 0 => visitor.visit_i64(number),
                    _ => match text.parse::<f64>() {
                        Ok(number) if number.is_finite() => visitor.visit_f64(number),
                        _ => Err(self.error(Problem::Syntax)),
                    },
                }
            }
            _ => self.unexpected(),
        }
    }

    /// Keys are compared as bytes, which need no check of their encoding.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.token()? != b'"' {
            return self.deserialize_any(visitor);
        }
        match self.raw_string()? {
            (raw, false) => visitor.visit_borrowed_bytes(raw),
            (raw, true) => {
                let text = std::str::from_utf8(raw).ok().and_then(unescaped);
                visitor.visit_string(text.ok_or_else(|| self.error(Problem::Syntax))?)
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.moved(scan::value(self.text, self.at, self.depth))?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
    }
}

/// What stands between two brackets.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
}

impl<'r, 'de> Entries<'r, 'de> {
    const fn new(reader: &'r mut Reader<'de>) -> Self {
        Self {
            reader,
            first: true,
        }
    }

    /// Moves to the next entry; `false`: there is none.
    #[inline]
    fn next(&mut self, close: u8) -> Result<bool> {
        let byte = self.reader.token()?;
        if byte == close {
            return Ok(false);
        }
        if !std::mem::take(&mut self.first) {
            if byte != b',' {
                return self.reader.unexpected();
            }
            self.reader.at += 1;
        }
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.next(b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.next(b'}')? {
            return Ok(None);
        }
        if self.reader.token()? != b'"' {
            return self.reader.unexpected();
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let reader = &mut *self.reader;
        reader.moved(scan::expect(reader.text, reader.at, b':'))?;
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    fn skipped(text: &[u8]) -> bool {
        from_slice::<IgnoredAny>(text).is_ok()
    }

    fn problem(text: &str) -> Problem {
        from_slice::<Value>(text.as_bytes()).unwrap_err().problem
    }

    #[rstest]
    #[case::blank(" \n\t\r{ \"a\" : [ 1 , -0.5e+3 ] , \"b\" : { } } ")]
    #[case::escapes(r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é""#)]
    #[case::empty_text(r#""""#)]
    #[case::eight("\"12345678\"")]
    #[case::numbers("[0,-0,10,1e5,1E-5,0.1,18446744073709551615,-9223372036854775808]")]
    #[case::words("[null,true,false]")]
    fn values_are_those_of_the_general_parser(#[case] text: &str) {
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), expected);
        assert!(skipped(text.as_bytes()));
    }

    #[rstest]
    #[case::nothing("", Problem::End)]
    #[case::blanks("  ", Problem::End)]
    #[case::open_text("\"a", Problem::End)]
    #[case::open_escape("\"\\", Problem::End)]
    #[case::open_unit("\"\\u00", Problem::End)]
    #[case::open_list("[1,", Problem::End)]
    #[case::trailing("{} x", Problem::Syntax)]
    #[case::trailing_comma("[1,]", Problem::Syntax)]
    #[case::trailing_comma_of_object(r#"{"a":1,}"#, Problem::Syntax)]
    #[case::no_comma("[1 2]", Problem::Syntax)]
    #[case::no_colon(r#"{"a" 1}"#, Problem::Syntax)]
    #[case::bare_key("{a:1}", Problem::Syntax)]
    #[case::number_as_key("{1:1}", Problem::Syntax)]
    #[case::wrong_bracket("[}", Problem::Syntax)]
    #[case::wrong_bracket_later(r#"{"a":1]"#, Problem::Syntax)]
    #[case::control_character("\"\u{1}\"", Problem::Syntax)]
    #[case::odd_escape(r#""\x""#, Problem::Syntax)]
    #[case::odd_unit(r#""\u00g0""#, Problem::Syntax)]
    #[case::lone_surrogate(r#""\ud800""#, Problem::Syntax)]
    #[case::lone_low_surrogate(r#""\udc00""#, Problem::Syntax)]
    #[case::surrogate_and_text(r#""\ud800\n""#, Problem::Syntax)]
    #[case::leading_zero("01", Problem::Syntax)]
    #[case::no_digits("-", Problem::End)]
    #[case::no_fraction("1.x", Problem::Syntax)]
    #[case::no_exponent("1e", Problem::End)]
    #[case::word("nul", Problem::End)]
    #[case::other_word("trub", Problem::Syntax)]
    fn what_is_no_json_is_refused(#[case] text: &str, #[case] expected: Problem) {
        assert_eq!(problem(text), expected);
        let skipping = from_slice::<IgnoredAny>(text.as_bytes());
        // What is skipped need not make sense as text.
        assert!(skipping.is_err() || text.contains("\\ud"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_they_are_read() {
        assert!(from_slice::<Value>(b"\"\xff\"").is_err());
        assert!(from_slice::<IgnoredAny>(b"\"\xff\"").is_ok());
    }

    #[rstest]
    #[case::lists("[", "]")]
    #[case::objects("{\"a\":", "}")]
    fn depth_is_limited_where_values_are_read_and_where_they_are_skipped(
        #[case] open: &str,
        #[case] close: &str,
    ) {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let (legal, deep) = (nested(MAX_DEPTH), nested(MAX_DEPTH + 1));
        assert!(skipped(legal.as_bytes()));
        assert!(from_slice::<Value>(legal.as_bytes()).is_ok());
        assert_eq!(problem(&deep), Problem::Depth);
        let error = from_slice::<IgnoredAny>(deep.as_bytes()).unwrap_err();
        assert_eq!(error.problem, Problem::Depth);
        assert_eq!(
            from_slice::<IgnoredAny>("[".repeat(1_000_000).as_bytes())
                .unwrap_err()
                .problem,
            Problem::Depth
        );
        // Depth is that of the text, not of what happens to be skipped.
        let half = format!("[0,{}]", nested(MAX_DEPTH));
        assert_eq!(problem(&half), Problem::Depth);
    }

    #[test]
    fn brackets_side_by_side_are_not_deep() {
        assert!(skipped(
            format!("[{}{{}}]", "[[]],".repeat(1000)).as_bytes()
        ));
    }

    #[test]
    fn an_error_says_where() {
        let error = from_slice::<Value>(b"{\n \"a\": x}").unwrap_err();
        assert_eq!((error.line, error.column), (2, 7));
        assert_eq!(error.to_string(), "line 2, column 7: it is not JSON");
    }

    /// JSON, broken JSON, and what looks like it.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "d83d", "\\ude00", "0", "1", "-", ".",
            "e", "+", "null", "true", "fals", " ", "\n", "a", "é", "\"key\"", "\"a\":", "\u{7f}",
            "12345678", "{}", "[]", "\"\"",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..24),
            documents().prop_map(|value| value.to_string().into_bytes()),
            (documents(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
                |(value, at, byte)| {
                    let mut text = value.to_string().into_bytes();
                    let at = at.index(text.len());
                    text[at] = byte;
                    text
                }
            ),
        ]
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// With numbers of single precision: the general parser rounds the last bit of a double wrongly
    /// unless its feature `float_roundtrip` is on.
    fn rounded(value: Value) -> Value {
        match value {
            Value::Number(number) if number.is_f64() => {
                let number = number.as_f64().expect("a double");
                #[expect(clippy::cast_possible_truncation, reason = "that is what rounds")]
                Value::from(number as f32)
            }
            Value::Array(items) => items.into_iter().map(rounded).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (key, rounded(value)));
                Value::Object(fields.collect())
            }
            other => other,
        }
    }

    #[test]
    fn doubles_are_rounded_right() {
        let read: Value = from_slice(b"[123759.78599816379]").unwrap();
        assert_eq!(read[0], 123_759.785_998_163_79);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_same_is_accepted_and_read_as_by_the_general_parser(text in texts()) {
            let (ours, theirs) = (from_slice::<Value>(&text), serde_json::from_slice::<Value>(&text));
            let (ours, theirs) = (ours.ok().map(rounded), theirs.ok().map(rounded));
            prop_assert_eq!(ours, theirs);
            let ours = from_slice::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(ours, serde_json::from_slice::<IgnoredAny>(&text).is_ok());
        }
    }
}
