//! What is wrong with a file of profiles, or with a profile. Neither a value nor a line of a file
//! is ever part of it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::home::HOME;
use crate::credentials::config::InvalidKind;
use crate::credentials::error::{Cause, CredentialsError};

/// Why a profile gives no credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A file that somebody named is not there.
    #[error("there is no file {}, which {by} names; create it, or correct {by}", file.display())]
    NoFile {
        /// The file.
        file: PathBuf,
        /// Who names it.
        by: &'static str,
    },
    /// A file cannot be read, or is wrong as a whole.
    #[error("the file {} cannot be used", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The profile is in no file, and somebody relies on it.
    #[error("no file has the profile {profile:?}, {}; {}", meant_by(*by), looked_in(files))]
    NoProfile {
        /// The profile.
        profile: String,
        /// Who names it; none when it is meant because nobody names one.
        by: Option<&'static str>,
        /// The files where it could be.
        files: Vec<PathBuf>,
    },
    /// The profile is wrong or by half, or what it asks for does not work.
    #[error("the profile {profile:?} of {} cannot be used", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile.
        profile: String,
        /// The cause.
        #[source]
        source: Cause,
    },
}

impl ProfileError {
    pub(super) fn file(file: &Path, source: impl Error + Send + Sync + 'static) -> Self {
        Self::File {
            file: file.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(super) fn profile(
        file: &Path,
        profile: &str,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Profile {
            file: file.to_owned(),
            profile: profile.to_owned(),
            source: Arc::new(source),
        }
    }
}

fn meant_by(by: Option<&'static str>) -> String {
    by.map_or_else(
        || "which is meant because none is named".to_owned(),
        |by| format!("which {by} names"),
    )
}

/// Which files were looked at, for a person who wonders why nothing was found.
pub(super) fn looked_in(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return format!("there is no home folder to look in: {HOME} is not set");
    }
    let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
    format!("looked in {}", files.join(", "))
}

/// What a failure of a profile's provider means for the profile. The profile asks for that
/// provider, so it cannot count as not set up any more.
pub(super) fn of_provider(
    name: &'static str,
    file: &Path,
    profile: &str,
    error: CredentialsError,
) -> CredentialsError {
    match error {
        CredentialsError::NotConfigured { .. }
        | CredentialsError::Misconfigured { .. }
        | CredentialsError::NoSource { .. } => {
            CredentialsError::misconfigured(name, ProfileError::profile(file, profile, error))
        }
        CredentialsError::Refused { .. } | CredentialsError::Unavailable { .. } => error,
    }
}

/// What is wrong with the settings of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileMistake {
    /// A key is missing or empty.
    #[error(
        "{kind} requires {key}, which is missing or empty; add it (the environment is not asked)"
    )]
    Missing {
        /// The type or mode of the profile.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The value of a key is not legal.
    #[error("{key} must be {expected}")]
    Illegal {
        /// The key.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// There is no such type, or it is not supported.
    #[error(transparent)]
    Kind(#[from] InvalidKind),
    /// The type is none of an ini file.
    #[error("the type {0} is none of an ini file; configure it with the Alibaba Cloud CLI")]
    CliOnly(&'static str),
    /// There is no such mode.
    #[error("{0:?} is no mode of credentials; the modes are {list}", list = super::cli::Mode::list())]
    Mode(String),
    /// A profile that is meant to have no credentials.
    #[error("the mode Anonymous has no credentials; choose another profile")]
    Anonymous,
}

/// What is wrong with the CLI's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CliFileError {
    /// It is no JSON, or none of the CLI's.
    #[error("it is no configuration of the Alibaba Cloud CLI: see line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// There are no profiles in it.
    #[error("it has no profiles; run `aliyun configure`")]
    NoProfiles,
    /// Nobody says which profile is meant.
    #[error(
        "it has no `current` profile; run `aliyun configure switch`, or set {}",
        crate::contract::env::PROFILE
    )]
    NoCurrent,
    /// A source is not there.
    #[error(
        "the profile {profile:?} has the source_profile {source_profile:?}, which is not there"
    )]
    NoSource {
        /// The profile.
        profile: String,
        /// Its source.
        source_profile: String,
    },
    /// The sources go round in a circle.
    #[error("source_profile goes round in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// There are too many sources, one behind the other.
    #[error("more than {0} profiles follow each other by source_profile")]
    TooLong(usize),
}

/// What is wrong with an ini file, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {mistake}")]
pub struct IniError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub mistake: IniMistake,
}

/// What is wrong with a line of an ini file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IniMistake {
    /// Not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A key before the first section.
    #[error("stands before the first section; begin the section, such as [default], above it")]
    NoSection,
    /// Neither section nor key.
    #[error("is neither a [section] nor `key = value` nor a comment")]
    NoKey,
    /// A section's line is not well formed.
    #[error("begins a section, but not as [name]")]
    Section,
    /// A section stands twice.
    #[error("begins a section that line {0} began already; join them")]
    SectionTwice(usize),
    /// A key stands twice in a section.
    #[error("sets a key that line {0} set already; remove one of them")]
    KeyTwice(usize),
    /// A quote begins the value, but quotes do not surround it.
    #[error(
        "has a value that begins with a quote but is not surrounded by a pair of them; put it \
         into quotes of the other kind"
    )]
    Quotes,
    /// Goes in deeper than the key before it.
    #[error(
        "goes in deeper than the key above it, and values do not go on over lines; write the \
         value in one line"
    )]
    Continued,
}
