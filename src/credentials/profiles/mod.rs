//! Profiles: named settings in the two files that people keep.
//!
//! ```text
//! home         where those files are, and which profile is meant
//! ini          ~/.alibabacloud/credentials.ini, of the SDKs: the parser and its rules
//! ini_config   a section of it, as settings
//! ini_profile  a section of it, as a provider
//! cli          ~/.aliyun/config.json, of the Alibaba Cloud CLI
//! cli_config   a profile of it, as settings
//! cli_profile  a profile of it, as a provider
//! kept         the provider of a profile, for as long as the profile stays the same
//! error        what is wrong with a file or a profile
//! ```

mod cli;
mod cli_config;
pub mod cli_profile;
mod error;
mod home;
mod ini;
mod ini_config;
pub mod ini_profile;
mod kept;

pub use error::{CliFileError, IniError, IniMistake, ProfileError, ProfileMistake};
