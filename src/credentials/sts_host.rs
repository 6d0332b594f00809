//! Which STS host is asked.

use super::error::CredentialsError;
use super::variables::Variables;
use crate::contract::{env, sts_hosts};
use crate::sts::{Endpoint, InvalidEndpoint};

/// What the caller says about the STS host; what is left out comes from the environment.
///
/// | given by | wins over |
/// |---|---|
/// | `endpoint`, as it is | everything below |
/// | `region` and `vpc`, each else from `ALIBABA_CLOUD_STS_REGION` and `ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED` | everything below, if one of the two is given |
/// | `ALIBABA_CLOUD_STS_ENDPOINT`, as it is | everything below |
/// | `ALIBABA_CLOUD_STS_REGION`, `ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED` | `sts.aliyuncs.com` |
///
/// The VPC endpoint without a region is an error: the official SDKs use the public endpoint then
/// and say nothing. `ALIBABA_CLOUD_STS_ENDPOINT` is what pod identity webhooks inject; no official
/// SDK reads it. Regions are not limited to a table here, other than in the operator: whoever sets
/// this program's variables may name any host anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StsHost {
    /// `host[:port]`, used as it is.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Whether to use the endpoint inside the VPC.
    pub vpc: Option<bool>,
}

/// Why there is no STS host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StsHostError {
    /// The endpoint is no host.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// The region is no region.
    #[error("{0:?} is no region; expected something like cn-hangzhou")]
    Region(String),
    /// There is no VPC endpoint without a region.
    #[error(
        "the VPC endpoint of STS is asked for, but no region; set {}",
        env::STS_REGION
    )]
    VpcWithoutRegion,
}

impl StsHost {
    /// The host to ask.
    pub(super) fn resolve(
        &self,
        provider: &'static str,
        variables: Variables<'_>,
    ) -> Result<Endpoint, CredentialsError> {
        let given = self.endpoint.clone().filter(|text| !text.is_empty());
        let region = self.region.clone().filter(|text| !text.is_empty());
        let endpoint = match given {
            Some(endpoint) => Some(endpoint),
            None if region.is_some() || self.vpc.is_some() => None,
            None => variables.text(env::STS_ENDPOINT)?,
        };
        let host = if let Some(endpoint) = endpoint {
            endpoint
        } else {
            let region = variables.text_or(region, env::STS_REGION)?;
            let vpc = match self.vpc {
                Some(vpc) => vpc,
                None => variables.switch(env::VPC_ENDPOINT_ENABLED)?,
            };
            regional(region, vpc)
                .map_err(|error| CredentialsError::misconfigured(provider, error))?
        };
        host.parse()
            .map_err(StsHostError::Endpoint)
            .map_err(|error| CredentialsError::misconfigured(provider, error))
    }
}

fn regional(region: Option<String>, vpc: bool) -> Result<String, StsHostError> {
    match region {
        Some(region) if is_region(&region) => Ok(sts_hosts::regional(&region, vpc)),
        Some(region) => Err(StsHostError::Region(region.chars().take(120).collect())),
        None if vpc => Err(StsHostError::VpcWithoutRegion),
        None => Ok(sts_hosts::GLOBAL.to_owned()),
    }
}

/// One label of a host name, so that it cannot change which domain is asked.
fn is_region(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::FixedEnv;
    use rstest::rstest;

    fn host(
        (endpoint, region, vpc): (&str, &str, Option<bool>),
        variables: &[(&str, &str)],
    ) -> Result<String, CredentialsError> {
        let env = FixedEnv::of(variables.iter().copied());
        let host = StsHost {
            endpoint: Some(endpoint.to_owned()),
            region: Some(region.to_owned()),
            vpc,
        };
        let variables = Variables::of("p", &env);
        Ok(host.resolve("p", variables)?.to_string())
    }

    const REGION: (&str, &str) = (env::STS_REGION, "cn-hangzhou");
    const VPC: (&str, &str) = (env::VPC_ENDPOINT_ENABLED, "True");
    const ENDPOINT: (&str, &str) = (env::STS_ENDPOINT, "sts.injected.example");

    #[rstest]
    #[case::nothing(("", "", None), &[], "sts.aliyuncs.com")]
    #[case::ram_6(("", "cn-hangzhou", Some(true)), &[], "sts-vpc.cn-hangzhou.aliyuncs.com")]
    #[case::ram_7(("", "", None), &[(env::VPC_ENDPOINT_ENABLED, "1")], "sts.aliyuncs.com")]
    #[case::ram_8(("", "", None), &[REGION, VPC], "sts-vpc.cn-hangzhou.aliyuncs.com")]
    #[case::ram_9(("sts.cn-shanghai.aliyuncs.com", "", None), &[REGION, VPC, ENDPOINT], "sts.cn-shanghai.aliyuncs.com")]
    #[case::ram_10(("", "cn-beijing", Some(false)), &[REGION, VPC], "sts.cn-beijing.aliyuncs.com")]
    #[case::injected(("", "", None), &[REGION, VPC, ENDPOINT], "sts.injected.example")]
    #[case::region_beats_injected(("", "cn-beijing", None), &[ENDPOINT, VPC], "sts-vpc.cn-beijing.aliyuncs.com")]
    #[case::vpc_beats_injected(("", "", Some(false)), &[ENDPOINT, REGION, VPC], "sts.cn-hangzhou.aliyuncs.com")]
    fn the_host_follows_the_table(
        #[case] given: (&str, &str, Option<bool>),
        #[case] variables: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        assert_eq!(host(given, variables).unwrap(), expected);
    }

    #[rstest]
    #[case::ram_11_differs_on_purpose(("", "", Some(true)), &[])]
    #[case::vpc_in_the_environment(("", "", None), &[VPC])]
    #[case::region_with_a_domain(("", "cn.evil.example", None), &[])]
    #[case::region_with_a_path(("", "x/y", None), &[])]
    #[case::region_that_ends_the_host(("", "evil.com/", None), &[])]
    #[case::region_with_a_port(("", "cn-hangzhou:443", None), &[])]
    #[case::region_of_the_environment(("", "", None), &[(env::STS_REGION, "evil.com/")])]
    #[case::endpoint_with_a_scheme(("http://sts.aliyuncs.com", "", None), &[])]
    #[case::endpoint_with_a_path(("sts.aliyuncs.com/x", "", None), &[])]
    #[case::endpoint_with_a_user(("me@sts.aliyuncs.com", "", None), &[])]
    #[case::endpoint_of_the_environment(("", "", None), &[(env::STS_ENDPOINT, "me@sts.aliyuncs.com")])]
    fn what_names_no_host_is_a_mistake(
        #[case] given: (&str, &str, Option<bool>),
        #[case] variables: &[(&str, &str)],
    ) {
        let error = host(given, variables).unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
    }
}
