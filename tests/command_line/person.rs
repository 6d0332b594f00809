//! Who runs the commands: a home folder, and nothing else in the environment.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rrsa::contract::env;
use tempfile::TempDir;
use tokio::process::Command;

use crate::house::{House, KEY_ID, KEY_SECRET, PATIENCE, PROVIDER, ROLE};

/// The binary.
pub(crate) const RRSA: &str = env!("CARGO_BIN_EXE_rrsa");

/// The environment of a person with an access key.
pub(crate) const KEYS: [(&str, &str); 2] = [
    (env::ACCESS_KEY_ID, KEY_ID),
    (env::ACCESS_KEY_SECRET, KEY_SECRET),
];

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// The output of a command that succeeded.
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// The complaint of a command that failed and printed nothing.
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        assert_eq!(self.out, "");
        self.err
    }

    /// The output as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.succeeded()).expect("JSON")
    }
}

/// A person.
pub(crate) struct Person {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Person {
    /// Nothing is set up, and there is no ECS instance here.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().to_str().expect("text").to_owned();
        let variables = vec![
            ("HOME".to_owned(), path),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            (env::ECS_METADATA_DISABLED.to_owned(), "true".to_owned()),
        ];
        Self { home, variables }
    }

    pub(crate) fn with(mut self, variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables.extend(variables.iter().map(own));
        self
    }

    /// Somebody whose STS this is.
    pub(crate) fn in_house(house: &House) -> Self {
        let person = Self::new();
        let roots = person.file("ca.pem", house.sts.ca_pem());
        let roots = roots.to_str().expect("text").to_owned();
        person.with(&[
            ("SSL_CERT_FILE", &roots),
            (env::STS_ENDPOINT, &house.sts.host()),
        ])
    }

    /// A pod with the role of this house.
    pub(crate) fn pod(house: &House) -> Self {
        let token = house.token_file();
        Self::in_house(house).with(&[
            (env::ROLE_ARN, ROLE),
            (env::OIDC_PROVIDER_ARN, PROVIDER),
            (env::OIDC_TOKEN_FILE, token.to_str().expect("text")),
        ])
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file below the home folder.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// `rrsa credentials …`, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(RRSA, &[&["credentials"], arguments].concat())
    }

    /// Any program in this person's environment.
    pub(crate) fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `rrsa credentials …`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments)).await
    }
}

/// Runs a program to its end.
pub(crate) async fn said(mut command: Command) -> Said {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("every command ends");
    Said::of(output.expect("it starts"))
}
