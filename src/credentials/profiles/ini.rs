//! The parser of the SDKs' ini file; its rules stand on the page of
//! [`ini_profile`](super::ini_profile).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use super::error::{IniError, IniMistake};
use crate::secret::SecretText;

/// Keys and values of a section. Which values are secrets is not known yet, so all are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Section(BTreeMap<String, SecretText>);

impl Section {
    /// The value of this key, which is written in small letters; none when it is empty.
    pub(super) fn secret(&self, key: &str) -> Option<SecretText> {
        self.0.get(key).filter(|text| !text.is_empty()).cloned()
    }

    /// The same for a value that is no secret.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.secret(key).map(|text| text.expose().to_owned())
    }
}

impl fmt::Debug for Section {
    /// Not even the keys: a secret that is broken into two lines may look like one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").finish_non_exhaustive()
    }
}

/// The sections of a file by name.
pub(super) fn parse(content: &[u8]) -> Result<BTreeMap<String, Section>, IniError> {
    let text = std::str::from_utf8(content).map_err(|error| IniError {
        line: content[..error.valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count(),
        mistake: IniMistake::NotUtf8,
    })?;
    let mut reader = Reader::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        reader.read(number, line).map_err(|mistake| IniError {
            line: number,
            mistake,
        })?;
    }
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    /// Sections that are over, and the one that is being read, each with its first line.
    sections: BTreeMap<String, (usize, Section)>,
    name: Option<String>,
    /// The keys of this section and their lines.
    lines: BTreeMap<String, usize>,
    /// How far the last key of this section went in.
    indent: Option<usize>,
}

impl Reader {
    fn read(&mut self, number: usize, line: &str) -> Result<(), IniMistake> {
        let text = line.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            return Ok(());
        }
        let indent = line.len() - line.trim_start().len();
        if self.indent.is_some_and(|of_key| indent > of_key) {
            return Err(IniMistake::Continued);
        }
        if let Some(header) = text.strip_prefix('[') {
            return self.begin(number, header);
        }
        let (key, raw) = text.split_once(['=', ':']).ok_or(IniMistake::NoKey)?;
        let key = key.trim().to_ascii_lowercase();
        if key.is_empty() {
            return Err(IniMistake::NoKey);
        }
        let section = self
            .name
            .as_ref()
            .and_then(|name| self.sections.get_mut(name));
        let (_, section) = section.ok_or(IniMistake::NoSection)?;
        if let Some(first) = self.lines.insert(key.clone(), number) {
            return Err(IniMistake::KeyTwice(first));
        }
        let value = value(raw).ok_or(IniMistake::Quotes)?;
        section.0.insert(key, value.into());
        self.indent = Some(indent);
        Ok(())
    }

    fn begin(&mut self, number: usize, header: &str) -> Result<(), IniMistake> {
        let (name, rest) = header.split_once(']').ok_or(IniMistake::Section)?;
        let name = name.trim();
        if name.is_empty() || !without_comment(rest).trim().is_empty() {
            return Err(IniMistake::Section);
        }
        match self.sections.entry(name.to_owned()) {
            Entry::Occupied(entry) => return Err(IniMistake::SectionTwice(entry.get().0)),
            Entry::Vacant(entry) => entry.insert((number, Section::default())),
        };
        self.name = Some(name.to_owned());
        self.lines.clear();
        self.indent = None;
        Ok(())
    }

    fn finish(self) -> BTreeMap<String, Section> {
        self.sections
            .into_iter()
            .map(|(name, (_, section))| (name, section))
            .collect()
    }
}

/// What stands behind `=`, without quotes and comment; none when the quotes are wrong.
fn value(raw: &str) -> Option<&str> {
    let text = raw.trim_start();
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Some(without_comment(raw).trim());
    };
    let (inside, rest) = text[1..].split_once(quote)?;
    without_comment(rest).trim().is_empty().then_some(inside)
}

fn without_comment(text: &str) -> &str {
    let mut after_blank = false;
    for (at, c) in text.char_indices() {
        if after_blank && matches!(c, '#' | ';') {
            return &text[..at];
        }
        after_blank = c.is_whitespace();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn value_of(line: &str) -> String {
        let sections = parse(format!("[s]\n{line}\n").as_bytes()).unwrap();
        sections["s"].text("key").unwrap_or_default()
    }

    fn mistake(content: &[u8]) -> (usize, IniMistake) {
        let error = parse(content).unwrap_err();
        (error.line, error.mistake)
    }

    #[rstest]
    #[case::plain("key = foo", "foo")]
    #[case::colon("key: foo", "foo")]
    #[case::tight("key=foo", "foo")]
    #[case::the_first_sign_parts("key = a=b:c", "a=b:c")]
    #[case::upper_case("KEY = foo", "foo")]
    #[case::blanks("  key \t=\t foo \t", "foo")]
    #[case::ini_6("key = akid # comment", "akid")]
    #[case::semicolon("key = akid\t; comment", "akid")]
    #[case::ini_8("key  = cn-hangzhou#comment", "cn-hangzhou#comment")]
    #[case::comment_signs_inside("key = ba;r#z", "ba;r#z")]
    #[case::comment_at_once("key = # comment", "")]
    #[case::value_that_begins_with_a_sign("key =#foo", "#foo")]
    #[case::empty("key =", "")]
    #[case::double_quotes(r#"key = "a # b ; c ""#, "a # b ; c ")]
    #[case::single_quotes("key = 'say \"hi\"' # comment", "say \"hi\"")]
    #[case::nothing_is_escaped(r#"key = "a\n\\b""#, r"a\n\\b")]
    #[case::nothing_is_expanded("key = %(other)s 100% $HOME", "%(other)s 100% $HOME")]
    #[case::quote_inside("key = it's", "it's")]
    #[case::empty_quotes("key = \"\"", "")]
    #[case::json("key = {\"Version\": \"1\"}", "{\"Version\": \"1\"}")]
    fn values_are_read_by_the_rules(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(value_of(line), expected);
    }

    #[test]
    fn comments_blanks_marks_and_line_ends_are_no_content() {
        let text =
            "\u{feff}# top\r\n\r\n[ default ] ; x\r\n  ; in\r\nkey = a\r\n# c\r\n\r\n[b]\r\n";
        let sections = parse(text.as_bytes()).unwrap();
        assert_eq!(sections["default"].text("key").as_deref(), Some("a"));
        assert_eq!(sections["b"].text("key"), None);
        assert_eq!(parse(b"").unwrap().len(), 0);
    }

    #[rstest]
    #[case::not_utf8(b"[a]\nk = \xff", (2, IniMistake::NotUtf8))]
    #[case::before_the_first_section(b"\nk = v", (2, IniMistake::NoSection))]
    #[case::neither(b"[a]\nhunter2", (2, IniMistake::NoKey))]
    #[case::no_key(b"[a]\n= hunter2", (2, IniMistake::NoKey))]
    #[case::open_section(b"[a", (1, IniMistake::Section))]
    #[case::nameless_section(b"[ ]", (1, IniMistake::Section))]
    #[case::more_behind_a_section(b"[a] b", (1, IniMistake::Section))]
    #[case::section_twice(b"[a]\n[b]\n[a]", (3, IniMistake::SectionTwice(1)))]
    #[case::key_twice(b"[a]\nk=1\nK=2", (3, IniMistake::KeyTwice(2)))]
    #[case::open_quote(b"[a]\nk = \"hunter2", (2, IniMistake::Quotes))]
    #[case::not_surrounded(b"[a]\nk = \"/my tool\" -x", (2, IniMistake::Quotes))]
    #[case::quote_inside_quotes(b"[a]\nk = \"{\"a\":1}\"", (2, IniMistake::Quotes))]
    #[case::over_lines(b"[a]\n k = {\n  \"a\": 1", (3, IniMistake::Continued))]
    fn mistakes_name_their_line(#[case] content: &[u8], #[case] expected: (usize, IniMistake)) {
        assert_eq!(mistake(content), expected);
    }

    #[test]
    fn a_key_may_stand_once_in_each_section_however_far_it_goes_in() {
        let sections = parse(b"[a]\n    key = 1\n  b = 2\n[b]\n      key = 2").unwrap();
        assert_eq!(sections["a"].text("key").as_deref(), Some("1"));
        assert_eq!(sections["b"].text("key").as_deref(), Some("2"));
    }

    #[test]
    fn neither_debug_nor_errors_show_content() {
        let sections = parse(b"[a]\nhunter1 = hunter2").unwrap();
        assert!(!format!("{sections:?}").contains("hunter"));
        let error = parse(b"[a]\nhunter2 hunter3").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.starts_with("line 2 is neither"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(content: Vec<u8>) {
            let _ = parse(&content);
        }

        #[test]
        fn nothing_like_an_ini_file_makes_it_panic(text in "(\\[|\\]|[a-b]|=|:|#|;|\"|'|\n|\r| |\t|é|\u{feff}){0,60}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_is_written_in_quotes_is_read_back(value in "[^\"\n]*[^\"\n\r]") {
            let line = format!("key = \"{value}\" # comment");
            prop_assert_eq!(value_of(&line), value);
        }

        #[test]
        fn a_secret_without_blanks_and_quotes_needs_none(value in "[!#-&(-~]{1,60}") {
            prop_assert_eq!(value_of(&format!("key = a{value}")), format!("a{value}"));
        }
    }
}
