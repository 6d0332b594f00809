//! What each source said, for a person who wonders where credentials come from.

use std::fmt::Write as _;
use std::sync::Arc;

use super::source::{Asked, First, assume};
use crate::credentials::formats::timestamp;
use crate::credentials::{Client, Credentials, CredentialsError, Provider, Source, Verdict};
use crate::world::BoxFuture;

/// The account of a search, and what came of it.
pub(super) struct Explained {
    /// Lines for a person.
    pub(super) account: String,
    /// None where there are none; the account says why.
    pub(super) credentials: Option<Credentials>,
}

/// Asks everything once and tells what was said.
pub(super) async fn explain(asked: Asked) -> Explained {
    let Asked {
        world,
        first,
        role_arn,
        region: _,
    } = asked;
    let (mut account, mut credentials) = match first {
        First::Chain(chain) => {
            let verdicts = chain.explain().await;
            let credentials = verdicts.iter().find_map(|(_, verdict)| chosen(verdict));
            (told(&verdicts), credentials)
        }
        First::Type(kind, provider) => {
            let answer = match provider {
                Ok(provider) => provider.credentials().await,
                Err(error) => Err(error),
            };
            let verdict = match answer {
                Ok(credentials) => Verdict::Chosen(credentials),
                Err(CredentialsError::NotConfigured { hint, .. }) => Verdict::PassedOver(hint),
                Err(error) => Verdict::Broken(error),
            };
            let row = row(kind.as_str(), &verdict);
            let account = format!("Only the type {kind} is asked:\n\n{}", columns(&[row]));
            (account, chosen(&verdict))
        }
    };
    if let (Some(found), Some(arn)) = (&credentials, role_arn) {
        let assumed = match assume(Arc::new(Found(found.clone())), arn.clone(), &world) {
            Ok(role) => role.credentials().await,
            Err(error) => Err(error),
        };
        let (line, assumed) = match assumed {
            Ok(assumed) => (given(&assumed), Some(assumed)),
            Err(error) => (format!("not assumed: {}", error.chain()), None),
        };
        let line = columns(&[[line]]);
        let _ = write!(account, "\nWith them the role {arn}:\n\n{line}");
        credentials = assumed;
    }
    // The client knows credentials that are over already.
    if let Some(found) = credentials.take() {
        match Client::new(Arc::new(Found(found)), &world)
            .credentials()
            .await
        {
            Ok(current) => credentials = Some(Credentials::clone(&current)),
            Err(error) => {
                let _ = write!(account, "\nThey are of no use: {}\n", error.chain());
            }
        }
    }
    Explained {
        account: printable(&account),
        credentials,
    }
}

/// The text without what steers a terminal: some of it comes from other programs and machines.
fn printable(text: &str) -> String {
    let shown = |c: &char| *c == '\n' || !c.is_control();
    text.chars().filter(shown).collect()
}

/// Credentials that were found.
#[derive(Debug)]
struct Found(Credentials);

impl Provider for Found {
    fn name(&self) -> &str {
        self.0.provider_name()
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

fn chosen(verdict: &Verdict) -> Option<Credentials> {
    match verdict {
        Verdict::Chosen(credentials) => Some(credentials.clone()),
        Verdict::PassedOver(_) | Verdict::Broken(_) | Verdict::NotAsked => None,
    }
}

/// The account of a search through the chain.
fn told(verdicts: &[(Source, Verdict)]) -> String {
    let rows: Vec<_> = verdicts
        .iter()
        .map(|(source, verdict)| row(source.as_str(), verdict))
        .collect();
    let mut account = format!(
        "The sources are asked in this order, and the first one that is set up decides:\n\n{}",
        columns(&rows)
    );
    let broken = verdicts
        .iter()
        .find(|(_, verdict)| matches!(verdict, Verdict::Broken(_)));
    if let Some((source, _)) = broken {
        let _ = write!(
            account,
            "\n{source} is set up, but it does not work. No other source takes its place, because \
             that would be\nanother identity. Mend it, or leave it out: --without {source}\n"
        );
    } else if verdicts
        .iter()
        .all(|(_, verdict)| chosen(verdict).is_none())
    {
        account.push_str("\nNone of them is set up. One is enough.\n");
    }
    account
}

/// Who was asked, how that ended, and what there is to say about it.
fn row(name: &str, verdict: &Verdict) -> [String; 3] {
    let (word, text) = match verdict {
        Verdict::PassedOver(why) => ("not set up", why.clone()),
        Verdict::Chosen(credentials) => ("chosen", given(credentials)),
        Verdict::Broken(error) => ("broken", error.chain().to_string()),
        Verdict::NotAsked => ("not asked", String::new()),
    };
    [name.to_owned(), word.to_owned(), text]
}

/// What somebody gave, without secrets.
fn given(credentials: &Credentials) -> String {
    let what = if credentials.bearer_token().is_some() {
        "gave a bearer token".to_owned()
    } else {
        format!("gave the access key id {}", credentials.access_key_id())
    };
    match credentials.expiration() {
        Some(end) => format!("{what}, until {}", timestamp(end)),
        None => what,
    }
}

/// Rows of cells: all but the last are as wide as the widest of their column, and the last is
/// broken at blanks where it would be too long.
pub(super) fn columns<const N: usize, S: AsRef<str>>(rows: &[[S; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_ref().len());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N - 1).map(width).collect();
    let indent: usize = widths.iter().map(|width| width + 2).sum();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{:<width$}  ", cell.as_ref());
        }
        for (number, part) in wrapped(row[N - 1].as_ref(), WIDTH - 2 - indent)
            .iter()
            .enumerate()
        {
            if number > 0 {
                line = " ".repeat(indent);
            }
            line.push_str(part);
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
    text
}

/// Longest line, unless one word is longer.
const WIDTH: usize = 100;

/// The text in lines; at least one.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        if lines[line].is_empty() {
            lines[line].push_str(word);
        } else if lines[line].len() + 1 + word.len() <= width {
            lines[line].push(' ');
            lines[line].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Kind;
    use crate::world::World;

    fn keys() -> Credentials {
        Credentials::new("LTAItest", "sk-value".into(), "default/profile/static_ak")
    }

    #[test]
    fn a_search_that_found_something_is_told() {
        let account = told(&[
            (Source::Env, Verdict::PassedOver("set A, B".to_owned())),
            (Source::Profile, Verdict::Chosen(keys())),
            (Source::EcsRamRole, Verdict::NotAsked),
        ]);
        assert_eq!(
            account,
            "The sources are asked in this order, and the first one that is set up decides:\n\n  \
             env           not set up  set A, B\n  \
             profile       chosen      gave the access key id LTAItest\n  \
             ecs_ram_role  not asked\n"
        );
    }

    #[tokio::test]
    async fn nothing_that_was_given_steers_the_terminal() {
        let hostile = Credentials::new("\u{1b}]0;\u{7}id\u{9b}31m", "sk".into(), "static_ak");
        let asked = Asked {
            world: World::system().unwrap(),
            first: First::Type(Kind::AccessKey, Ok(Arc::new(Found(hostile)))),
            role_arn: None,
            region: None,
        };
        let account = explain(asked).await.account;
        assert!(account.contains("]0;id31m"), "{account:?}");
        assert!(!account.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn long_texts_are_broken_and_hang() {
        let long = "word ".repeat(25);
        let text = columns(&[["a", &long], ["bcd", "-"]]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("  a    word") && lines[0].len() <= WIDTH);
        assert!(lines[1].starts_with("       word"), "{text}");
        assert_eq!(lines[2], "  bcd  -");
    }

    #[test]
    fn a_broken_source_is_told_with_its_causes_and_the_way_on() {
        let error = CredentialsError::Misconfigured {
            provider: "oidc_role_arn".into(),
            source: Arc::new(std::io::Error::other("the token is missing")),
        };
        let account = told(&[(Source::OidcRoleArn, Verdict::Broken(error))]);
        assert!(account.contains("broken"), "{account}");
        assert!(
            account.contains("is misconfigured: the token is missing"),
            "{account}"
        );
        assert!(account.contains("--without oidc_role_arn"), "{account}");
    }

    #[test]
    fn nothing_at_all_is_told() {
        let account = told(&[(Source::Env, Verdict::PassedOver("set A".to_owned()))]);
        assert!(
            account.ends_with("None of them is set up. One is enough.\n"),
            "{account}"
        );
    }
}
