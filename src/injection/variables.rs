//! The variables that the webhook may inject, and what they may be set to.

use std::borrow::Cow;

use crate::contract::env;

/// Defines [`Variable`] with its names and order together, so that none can be forgotten.
macro_rules! variables {
    ($($(#[$doc:meta])* $variable:ident: $name:path;)*) => {
        /// A variable that the webhook may inject.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Variable {
            $($(#[$doc])* $variable,)*
        }

        impl Variable {
            /// All of them: in golden order those of mode `oidc`, then those of other modes.
            pub const ALL: &[Self] = &[$(Self::$variable,)*];

            /// The variable's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variable => $name,)* }
            }

            /// The variable of exactly that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Some(match name {
                    $($name => Self::$variable,)*
                    _ => return None,
                })
            }
        }
    };
}

variables! {
    /// ARN of the role.
    RoleArn: env::ROLE_ARN;
    /// ARN of the cluster's OIDC provider.
    OidcProviderArn: env::OIDC_PROVIDER_ARN;
    /// File of the projected token.
    OidcTokenFile: env::OIDC_TOKEN_FILE;
    /// Host of the STS endpoint.
    StsEndpoint: env::STS_ENDPOINT;
    /// Region of the STS endpoint.
    StsRegion: env::STS_REGION;
    /// Whether the STS endpoint is the one inside the VPC.
    VpcEndpointEnabled: env::VPC_ENDPOINT_ENABLED;
    /// The ini file of credentials.
    CredentialsFile: env::CREDENTIALS_FILE;
    /// The configuration file of the Alibaba Cloud CLI.
    ConfigFile: env::CONFIG_FILE;
    /// Address of the node.
    HostIp: env::HOST_IP;
    /// UID of the pod.
    PodUid: env::POD_UID;
    /// The URI that gives credentials.
    CredentialsUri: env::CREDENTIALS_URI;
    /// Whether the ECS metadata service is not asked for credentials.
    EcsMetadataDisabled: env::ECS_METADATA_DISABLED;
    /// The node's role.
    EcsMetadata: env::ECS_METADATA;
}

/// What a variable is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A field of the pod, by its path.
    Field(&'static str),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_one_to_one() {
        for variable in Variable::ALL {
            assert_eq!(Variable::named(variable.name()), Some(*variable));
        }
        assert_eq!(Variable::named("alibaba_cloud_role_arn"), None);
    }
}
