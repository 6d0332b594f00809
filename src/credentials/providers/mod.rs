//! One file a source; each is named as the official SDKs name what it gives.

mod answer;
mod bearer;
mod cloud_sso;
mod credentials_uri;
mod ecs_ram_role;
mod environment;
mod external;
mod oauth;
mod oidc_role_arn;
mod ram_role_arn;
mod service;
mod static_keys;

pub use bearer::Bearer;
pub use cloud_sso::{CloudSso, CloudSsoConfig, CloudSsoError};
pub use credentials_uri::{CredentialsUri, CredentialsUriError};
pub use ecs_ram_role::{EcsRamRole, EcsRamRoleConfig};
pub use environment::Environment;
pub use external::{CommandLineError, External, ExternalConfig, ExternalError};
pub use oauth::{InvalidOAuthSite, OAuth, OAuthConfig, OAuthError, OAuthSite};
pub use oidc_role_arn::{OidcRoleArn, OidcRoleArnBuilder, OidcRoleArnError};
pub use ram_role_arn::{RamRoleArn, RamRoleArnBuilder, RamRoleArnError};
pub use static_keys::{StaticAk, StaticKeysError, StaticSts};
