//! Profiles: named settings in the two files that people keep.
//!
//! ```text
//! home         where those files are
//! ini          ~/.alibabacloud/credentials.ini, of the SDKs
//! ini_profile  a section of it, as a provider
//! cli          ~/.aliyun/config.json, of the Alibaba Cloud CLI
//! cli_profile  a profile of it, as a provider
//! ```

mod cli_profile;
mod ini_profile;

pub use cli_profile::{CliProfile, CliProfileConfig};
pub use ini_profile::{IniProfile, IniProfileConfig};
