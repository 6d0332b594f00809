//! A command line taken apart into a program and its arguments, as a shell would, but without a
//! shell: nothing is expanded, substituted or redirected.

use std::str::Chars;

/// What is wrong with a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandLineError {
    /// It names no program.
    #[error("the process command is empty; it must name a program")]
    Empty,
    /// A quote is opened and not closed.
    #[error("the process command has an opening {0} without a closing one")]
    OpenQuote(char),
    /// It ends with a backslash that escapes nothing.
    #[error("the process command ends with a backslash; remove it or write two")]
    TrailingBackslash,
}

/// What a backslash means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// It takes the next character's meaning away, as in a POSIX shell.
    Unix,
    /// It is a part of paths; only `\"` between double quotes is a quote.
    Windows,
}

impl Dialect {
    /// Of the system that this is built for.
    pub(super) const HERE: Self = if cfg!(windows) {
        Self::Windows
    } else {
        Self::Unix
    };
}

/// The program, which is not empty, and its arguments.
///
/// - Blanks of any kind separate; parts that touch are one argument.
/// - Between single quotes everything stands for itself.
/// - Between double quotes a backslash takes the meaning of `"`, `\`, `$` and a backtick away and
///   joins lines; before anything else it stands for itself.
/// - Outside of quotes it takes any character's meaning away and joins lines.
pub(super) fn split(text: &str, dialect: Dialect) -> Result<Vec<String>, CommandLineError> {
    let mut words = Vec::new();
    // Nothing, as long as no word has begun: `""` is a word, too.
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '\'' => single_quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, dialect, word.get_or_insert_default())?,
            '\\' if dialect == Dialect::Unix => match rest.next() {
                None => return Err(CommandLineError::TrailingBackslash),
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            blank if blank.is_whitespace() => words.extend(word.take()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err(CommandLineError::Empty);
    }
    Ok(words)
}

/// Takes all up to the closing quote.
fn single_quoted(rest: &mut Chars<'_>, word: &mut String) -> Result<(), CommandLineError> {
    for next in rest {
        if next == '\'' {
            return Ok(());
        }
        word.push(next);
    }
    Err(CommandLineError::OpenQuote('\''))
}

/// Takes all up to the closing quote.
fn double_quoted(
    rest: &mut Chars<'_>,
    dialect: Dialect,
    word: &mut String,
) -> Result<(), CommandLineError> {
    while let Some(next) = rest.next() {
        match next {
            '"' => return Ok(()),
            '\\' => {
                let mut after = rest.clone();
                match (after.next(), dialect) {
                    (Some('\n'), Dialect::Unix) => *rest = after,
                    (Some(escaped @ ('\\' | '$' | '`')), Dialect::Unix)
                    | (Some(escaped @ '"'), _) => {
                        word.push(escaped);
                        *rest = after;
                    }
                    _ => word.push('\\'),
                }
            }
            plain => word.push(plain),
        }
    }
    Err(CommandLineError::OpenQuote('"'))
}

#[cfg(test)]
mod tests {
    use super::Dialect::{Unix, Windows};
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::split_1(&[Unix, Windows], "cmd arg1 arg2", &["cmd", "arg1", "arg2"])]
    #[case::split_1_blanks(&[Unix, Windows], " \tcmd \t arg1\u{a0}\u{3000}arg2\r\n", &["cmd", "arg1", "arg2"])]
    #[case::split_2(
        &[Unix, Windows],
        r#""C:\Program Files\tool\cred.exe" get --profile default"#,
        &[r"C:\Program Files\tool\cred.exe", "get", "--profile", "default"]
    )]
    #[case::split_2_bare(&[Windows], r"C:\tool\cred.exe get \", &[r"C:\tool\cred.exe", "get", r"\"])]
    #[case::split_3(&[Unix, Windows], "'/usr/local/my tools/cred' arg", &["/usr/local/my tools/cred", "arg"])]
    #[case::split_3_literal(&[Unix, Windows], r#"tool '\"$HOME'"#, &["tool", r#"\"$HOME"#])]
    #[case::split_4(&[Unix], r"tool arg\ with\ space", &["tool", "arg with space"])]
    #[case::split_4_last(&[Unix], r"tool arg\ ", &["tool", "arg "])]
    #[case::split_4_windows(&[Windows], r"tool arg\ with", &["tool", r"arg\", "with"])]
    #[case::split_5(&[Unix, Windows], r#"tool "say \"hi\"""#, &["tool", r#"say "hi""#])]
    #[case::split_5_others(&[Unix], r#"tool "\\ \$ \` \n \'""#, &["tool", r"\ $ ` \n \'"])]
    #[case::split_5_windows(&[Windows], r#"tool "\\ \$ \` \n \'""#, &["tool", r"\\ \$ \` \n \'"])]
    #[case::split_5_windows_last(&[Windows], r#"tool "a\\"""#, &["tool", r#"a\""#])]
    #[case::split_6(&[Unix, Windows], r#"tool "" arg"#, &["tool", "", "arg"])]
    #[case::split_6_single(&[Unix, Windows], "tool '' arg ''", &["tool", "", "arg", ""])]
    #[case::split_7(&[Unix, Windows], r#"tool "a b"'c d'"#, &["tool", "a bc d"])]
    #[case::split_8(&[Unix], "tool \\\n arg1 \\\narg2", &["tool", "arg1", "arg2"])]
    #[case::split_8_inside(&[Unix], "tool \"a\\\nb\"", &["tool", "ab"])]
    #[case::no_comment(&[Unix, Windows], "tool #1", &["tool", "#1"])]
    #[case::nothing_expanded(&[Unix, Windows], "cat ~/a $B *|c", &["cat", "~/a", "$B", "*|c"])]
    fn a_command_line_is_split(
        #[case] dialects: &[Dialect],
        #[case] text: &str,
        #[case] expected: &[&str],
    ) {
        for dialect in dialects {
            assert_eq!(split(text, *dialect).unwrap(), expected, "{dialect:?}");
        }
    }

    #[rstest]
    #[case::split_9_double(&[Unix, Windows], r#"tool "arg"#, CommandLineError::OpenQuote('"'))]
    #[case::split_9_single(&[Unix, Windows], "tool 'arg", CommandLineError::OpenQuote('\''))]
    #[case::split_9_escaped(&[Unix, Windows], r#"tool "arg\""#, CommandLineError::OpenQuote('"'))]
    #[case::split_9_trailing(&[Unix], r"tool arg\", CommandLineError::TrailingBackslash)]
    #[case::split_9_trailing_inside(&[Unix, Windows], r#"tool "arg\"#, CommandLineError::OpenQuote('"'))]
    #[case::split_9_empty(&[Unix, Windows], "", CommandLineError::Empty)]
    #[case::split_9_blank(&[Unix, Windows], " \t\n", CommandLineError::Empty)]
    #[case::split_9_quoted(&[Unix, Windows], r#""""#, CommandLineError::Empty)]
    #[case::split_9_no_program(&[Unix, Windows], "'' arg", CommandLineError::Empty)]
    #[case::split_9_joined(&[Unix], "\\\n", CommandLineError::Empty)]
    fn a_broken_command_line_is_an_error(
        #[case] dialects: &[Dialect],
        #[case] text: &str,
        #[case] expected: CommandLineError,
    ) {
        for dialect in dialects {
            assert_eq!(split(text, *dialect), Err(expected), "{dialect:?}");
        }
    }

    fn single_quotes(word: &str) -> String {
        format!("'{}'", word.replace('\'', r#"'"'"'"#))
    }

    fn double_quotes(word: &str) -> String {
        let escaped = word.chars().map(|c| match c {
            '"' | '\\' | '$' | '`' => format!(r"\{c}"),
            c => c.to_string(),
        });
        format!("\"{}\"", escaped.collect::<String>())
    }

    fn backslashes(word: &str) -> String {
        let escaped = word.chars().map(|c| match c {
            // Would join the lines.
            '\n' => "'\n'".to_owned(),
            c => format!(r"\{c}"),
        });
        // An empty word needs quotes in any case.
        format!("''{}", escaped.collect::<String>())
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        let any = r#"[a \t\n"'\\$`=éß-]{0,8}|.{0,8}"#;
        ("[a \"'\\\\]{1,8}", prop::collection::vec(any, 0..4))
            .prop_map(|(program, arguments)| [vec![program], arguments].concat())
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in r#"[a \t\n"'\\]{0,20}|.{0,40}|\PC*"#) {
            for dialect in [Unix, Windows] {
                if let Ok(words) = split(&text, dialect) {
                    prop_assert!(!words[0].is_empty());
                    // Nothing is made up.
                    let length: usize = words.iter().map(String::len).sum();
                    prop_assert!(length <= text.len());
                }
            }
        }

        #[test]
        fn what_was_quoted_comes_back(words in words()) {
            let quoted = |quote: fn(&str) -> String| {
                let each: Vec<_> = words.iter().map(|word| quote(word)).collect();
                each.join(" ")
            };
            for dialect in [Unix, Windows] {
                prop_assert_eq!(&split(&quoted(single_quotes), dialect).unwrap(), &words);
            }
            for quote in [double_quotes, backslashes] {
                prop_assert_eq!(&split(&quoted(quote), Unix).unwrap(), &words);
            }
        }
    }
}
