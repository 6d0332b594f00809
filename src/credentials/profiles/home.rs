//! Where the files of profiles are, and which profile is meant.
//!
//! | what | given | else | else |
//! |---|---|---|---|
//! | file | by the caller | by its variable | in the home folder |
//! | profile | by the caller | `ALIBABA_CLOUD_PROFILE` | what the file's own rule says |
//!
//! The home folder is `HOME`, on Windows `USERPROFILE`. Who named a thing decides what its absence
//! means: a file or profile that somebody named must be there.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::ProfileError;
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::variables::Variables;
use crate::world::Files;

/// The variable of the home folder.
pub(super) const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// How errors call the settings that a caller gave.
pub(super) const CALLER: &str = "the configuration";

/// Longest file of profiles that is read.
const MAX_FILE: usize = 1024 * 1024;

/// Where a file of profiles is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Somebody named it, so it must be there.
    Named { file: PathBuf, by: &'static str },
    /// The usual places, in order; none without a home folder.
    Usual(Vec<PathBuf>),
}

impl Place {
    pub(super) fn find(
        given: Option<PathBuf>,
        variable: &'static str,
        in_home: &[&str],
        variables: Variables<'_>,
    ) -> Result<Self, CredentialsError> {
        if let Some(file) = given.filter(|path| !path.as_os_str().is_empty()) {
            return Ok(Self::Named { file, by: CALLER });
        }
        if let Some(file) = variables.text(variable)? {
            let file = PathBuf::from(file);
            return Ok(Self::Named { file, by: variable });
        }
        let home = variables.text(HOME)?.map(PathBuf::from);
        Ok(Self::Usual(home.map_or_else(Vec::new, |home| {
            in_home.iter().map(|path| home.join(path)).collect()
        })))
    }

    /// The files to look at, in order.
    pub(super) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Named { file, .. } => std::slice::from_ref(file),
            Self::Usual(files) => files,
        }
    }

    /// The content of one of them; none when it is not there and need not be.
    pub(super) fn read(
        &self,
        files: &dyn Files,
        file: &Path,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ProfileError> {
        match files.read(file, MAX_FILE) {
            Ok(content) => Ok(Some(Zeroizing::new(content))),
            // The second kind: a home folder such as /dev/null.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                match self {
                    Self::Named { by, .. } => Err(ProfileError::NoFile {
                        file: file.to_owned(),
                        by,
                    }),
                    Self::Usual(_) => Ok(None),
                }
            }
            Err(error) => Err(ProfileError::file(file, error)),
        }
    }
}

/// Which profile is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one that the caller named.
    Given(String),
    /// The one that `ALIBABA_CLOUD_PROFILE` names, which serves both files.
    Variable(String),
    /// Nobody named one.
    Usual,
}

impl Wanted {
    pub(super) fn find(
        given: Option<String>,
        variables: Variables<'_>,
    ) -> Result<Self, CredentialsError> {
        if let Some(name) = given.filter(|name| !name.is_empty()) {
            return Ok(Self::Given(name));
        }
        let named = variables.text(env::PROFILE)?;
        Ok(named.map_or(Self::Usual, Self::Variable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{FixedEnv, SystemFiles};

    fn place(given: &str, variables: &[(&str, &str)]) -> Place {
        let env = FixedEnv::of(variables.iter().copied());
        let variables = Variables::of("p", &env);
        Place::find(
            Some(given.into()),
            env::CONFIG_FILE,
            &["a", "b/c"],
            variables,
        )
        .unwrap()
    }

    fn named(file: &str, by: &'static str) -> Place {
        let file = file.into();
        Place::Named { file, by }
    }

    #[test]
    fn a_given_file_wins_over_the_variable_and_that_over_the_home_folder() {
        let (home, file) = ((HOME, "/home/a"), (env::CONFIG_FILE, "/etc/c"));
        assert_eq!(place("/given", &[home, file]), named("/given", CALLER));
        assert_eq!(place("", &[home, file]), named("/etc/c", env::CONFIG_FILE));
        let usual = place("", &[home]);
        let expected = [Path::new("/home/a/a"), Path::new("/home/a/b/c")];
        assert_eq!(usual.files(), expected);
        assert!(place("", &[]).files().is_empty());
    }

    #[test]
    fn only_a_file_that_nobody_named_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let named = named(missing.to_str().unwrap(), CALLER);
        assert!(named.read(&SystemFiles, &missing).is_err());
        let usual = Place::Usual(vec![missing.clone()]);
        assert!(usual.read(&SystemFiles, &missing).unwrap().is_none());
        assert!(usual.read(&SystemFiles, folder.path()).is_err());
        std::fs::write(&missing, "x").unwrap();
        let below = missing.join("below");
        assert!(usual.read(&SystemFiles, &below).unwrap().is_none());
        let content = usual.read(&SystemFiles, &missing).unwrap();
        assert_eq!(content.unwrap().as_slice(), b"x");
    }

    #[test]
    fn cli_1_a_given_profile_wins_over_the_variable() {
        let env = FixedEnv::of([(env::PROFILE, "custom_profile")]);
        let of = |given: &str, env| Wanted::find(Some(given.into()), Variables::of("p", env));
        assert_eq!(of("arg", &env).unwrap(), Wanted::Given("arg".into()));
        let from_env = Wanted::Variable("custom_profile".into());
        assert_eq!(of("", &env).unwrap(), from_env);
        assert_eq!(of("", &FixedEnv::default()).unwrap(), Wanted::Usual);
    }
}
