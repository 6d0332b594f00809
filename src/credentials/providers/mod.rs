//! One file a source; each is named as the official SDKs name what it gives.

mod answer;
pub mod bearer;
pub mod cloud_sso;
pub mod credentials_uri;
pub mod ecs_ram_role;
pub mod environment;
pub mod external;
pub mod oauth;
pub mod oidc_role_arn;
pub mod ram_role_arn;
mod service;
pub mod static_keys;
