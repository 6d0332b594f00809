//! How deep a JSON text is nested, found without parsing it.
//!
//! The parser skips what we do not read without recursion, so depth cannot hurt it; the limit is
//! there because nothing legal comes near it and everything behind us is spared such a pod.

/// Deepest nesting that is accepted. A pod with `managedFields` stays below 30.
pub const MAX_DEPTH: usize = 128;

/// Whether some array or object of the text lies deeper than `limit`.
#[must_use]
pub fn exceeds(text: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::flat("{}", 1, false)]
    #[case::too_deep("[[{}]]", 2, true)]
    #[case::just_right("[[{}],[{}]]", 3, false)]
    #[case::brackets_in_text(r#"{"a":"[[[[{{{{"}"#, 1, false)]
    #[case::quote_in_text(r#"{"a":"\"[[[["}"#, 1, false)]
    #[case::backslash_before_quote(r#"{"a":"\\","b":[]}"#, 1, true)]
    #[case::closers_in_text(r#"{"a":"}}}}","b":[[]]}"#, 2, true)]
    #[case::unbalanced("]]]][[", 1, true)]
    #[case::open_end(r#"["a"#, 1, false)]
    fn depth_is_counted_outside_of_texts(
        #[case] text: &str,
        #[case] limit: usize,
        #[case] deeper: bool,
    ) {
        assert_eq!(exceeds(text.as_bytes(), limit), deeper);
    }
}
