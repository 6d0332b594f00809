//! The variables of mode `oidc`, in the order in which the official webhook writes them.

use crate::contract::env;

/// A variable that the webhook may inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// ARN of the role.
    RoleArn,
    /// ARN of the cluster's OIDC provider.
    OidcProviderArn,
    /// File of the projected token.
    OidcTokenFile,
    /// Host of the STS endpoint.
    StsEndpoint,
    /// Region of the STS endpoint.
    StsRegion,
    /// Whether the STS endpoint is the one inside the VPC.
    VpcEndpointEnabled,
}

impl Variable {
    /// All of them, in golden order.
    pub const ALL: [Self; 6] = [
        Self::RoleArn,
        Self::OidcProviderArn,
        Self::OidcTokenFile,
        Self::StsEndpoint,
        Self::StsRegion,
        Self::VpcEndpointEnabled,
    ];

    /// The variable's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoleArn => env::ROLE_ARN,
            Self::OidcProviderArn => env::OIDC_PROVIDER_ARN,
            Self::OidcTokenFile => env::OIDC_TOKEN_FILE,
            Self::StsEndpoint => env::STS_ENDPOINT,
            Self::StsRegion => env::STS_REGION,
            Self::VpcEndpointEnabled => env::VPC_ENDPOINT_ENABLED,
        }
    }

    /// The variable of exactly that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            env::ROLE_ARN => Self::RoleArn,
            env::OIDC_PROVIDER_ARN => Self::OidcProviderArn,
            env::OIDC_TOKEN_FILE => Self::OidcTokenFile,
            env::STS_ENDPOINT => Self::StsEndpoint,
            env::STS_REGION => Self::StsRegion,
            env::VPC_ENDPOINT_ENABLED => Self::VpcEndpointEnabled,
            _ => return None,
        })
    }

    /// Whether the variable is one of the three that only work together: a role is assumed at a
    /// provider with a token.
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(
            self,
            Self::RoleArn | Self::OidcProviderArn | Self::OidcTokenFile
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_one_to_one() {
        for variable in Variable::ALL {
            assert_eq!(Variable::named(variable.name()), Some(variable));
        }
        assert_eq!(Variable::named("alibaba_cloud_role_arn"), None);
    }
}
