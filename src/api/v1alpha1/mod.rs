//! `rrsa.io/v1alpha1`.
//!
//! The documentation of each field is what `kubectl explain` prints, so it is written for the
//! person who fills the field in.

mod names;
#[expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct inside a private block"
)]
mod spec;
#[expect(
    unreachable_pub,
    reason = "KubeSchema repeats each struct inside a private block"
)]
mod status;

pub use names::{default_secret_name, shortened};
pub use spec::{
    AlibabaRoleBinding, AlibabaRoleBindingSpec, AssumeStep, DeletionPolicy, Fallback, FallbackType,
    Format, Network, Role, SecretSpec, Session, StsSpec, TokenSource, TokenSourceType,
};
pub use status::{AlibabaRoleBindingStatus, CredentialSource, Failure};
