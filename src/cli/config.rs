//! `rrsa config`: looks at the operator's configuration file before the operator does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::{operator, print};
use crate::api::configuration::{ConfigurationError, ConfigurationFile, Discovered};
use crate::world::SystemFiles;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check a configuration file: exit code 0 if the operator would take it, 1 if not. What is
    /// legal and rarely meant is warned about.
    Check {
        /// The file (YAML).
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the JSON Schema of the file.
    Schema,
    /// Print the page that explains every key as Markdown.
    #[command(hide = true)]
    Page,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Check { file } => return check(&file),
            Command::Schema => {
                let schema = serde_json::to_string_pretty(&ConfigurationFile::schema())?;
                print(&(schema + "\n"))?;
            }
            Command::Page => print(&ConfigurationFile::page())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the command is for"
)]
fn check(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let text = operator::configuration_text(path, &SystemFiles)?;
    let name = path.display();
    let file = match ConfigurationFile::parse(&text) {
        Ok(file) => file,
        Err(error) => {
            let line = match &error {
                ConfigurationError::Value { field, .. } => line_of(&text, field),
                // Its text names the line.
                ConfigurationError::Syntax(_) => None,
            };
            let place = line.map_or_else(|| name.to_string(), |line| format!("{name}:{line}"));
            eprintln!("{place}: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let discovered: Vec<_> = [
        ("accountId", file.account_id.is_none()),
        ("region", file.region.is_none()),
    ]
    .into_iter()
    .filter_map(|(key, left_out)| left_out.then_some(key))
    .collect();
    if !discovered.is_empty() {
        println!(
            "{name}: {} left out: asked of the ECS metadata service when the operator starts",
            discovered.join(" and ")
        );
    }
    // Stand-ins: the risks do not depend on them.
    let configuration = file
        .complete(&Discovered {
            account_id: Some("1".to_owned()),
            region: Some("cn-hangzhou".to_owned()),
        })
        .with_context(|| format!("{name}"))?;
    let risks = configuration.risks();
    for risk in &risks {
        println!("{name}: warning: {risk}");
    }
    match risks.len() {
        0 => println!("{name}: good"),
        1 => println!("{name}: good, with 1 warning"),
        number => println!("{name}: good, with {number} warnings"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The line (from 1) on which a key stands that is written as `a.b`, in YAML's block form.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut keys = field
        .split('.')
        .map(|key| key.split('[').next().unwrap_or(key));
    let mut key = keys.next()?;
    let mut deeper_than = None;
    let mut found = None;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let below = deeper_than.is_none_or(|outer| indent > outer);
        let at_its_level = deeper_than.is_some() || indent == 0;
        let is_key = content
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(':'));
        if below && at_its_level && is_key {
            found = Some(index + 1);
            deeper_than = Some(indent);
            match keys.next() {
                Some(next) => key = next,
                None => break,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = "region: a\nsts:\n  # region: no\n  endpoint: b\n  extraRegions: [X]\nwebhook:\n  region: c\n";
        assert_eq!(line_of(text, "region"), Some(1));
        assert_eq!(line_of(text, "sts.extraRegions"), Some(5));
        assert_eq!(line_of(text, "delegation[0].roles"), None);
        // The nearest that is there.
        assert_eq!(line_of(text, "sts.proxy"), Some(2));
    }
}
