//! Which STS hosts exist: a closed table of regions.
//!
//! The table is closed because a region from a tenant becomes part of a host name: with free text
//! `sts.<region>.aliyuncs.com` could name somebody's bucket host. An administrator may extend it.
//! Source: the endpoint list of the STS 2015-04-01 API reference.

/// Host that serves every region from the public network.
pub const GLOBAL: &str = "sts.aliyuncs.com";

/// Regions with an STS endpoint.
pub const REGIONS: [&str; 34] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ap-south-1",
    "cn-beijing",
    "cn-beijing-finance-1",
    "cn-chengdu",
    "cn-fuzhou",
    "cn-guangzhou",
    "cn-hangzhou",
    "cn-hangzhou-finance",
    "cn-heyuan",
    "cn-hongkong",
    "cn-huhehaote",
    "cn-nanjing",
    "cn-north-2-gov-1",
    "cn-qingdao",
    "cn-shanghai",
    "cn-shanghai-finance-1",
    "cn-shenzhen",
    "cn-shenzhen-finance-1",
    "cn-wuhan-lr",
    "cn-wulanchabu",
    "cn-zhangjiakou",
    "eu-central-1",
    "eu-west-1",
    "me-central-1",
    "us-east-1",
    "us-west-1",
];

/// Whether the region is in the table or in `more` (the administrator's additions).
#[must_use]
pub fn is_known(region: &str, more: &[String]) -> bool {
    REGIONS.contains(&region) || more.iter().any(|known| known == region)
}

/// The regional STS host; `vpc` chooses the endpoint inside the VPC.
///
/// The caller has checked the region with [`is_known`].
#[must_use]
pub fn regional(region: &str, vpc: bool) -> String {
    // The finance cloud of cn-hangzhou is served by the host of the public region.
    let region = if region == "cn-hangzhou-finance" {
        "cn-hangzhou"
    } else {
        region
    };
    let service = if vpc { "sts-vpc" } else { "sts" };
    format!("{service}.{region}.aliyuncs.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_region_and_network() {
        assert_eq!(
            regional("cn-hangzhou", true),
            "sts-vpc.cn-hangzhou.aliyuncs.com"
        );
        assert_eq!(
            regional("eu-central-1", false),
            "sts.eu-central-1.aliyuncs.com"
        );
        assert_eq!(
            regional("cn-hangzhou-finance", false),
            "sts.cn-hangzhou.aliyuncs.com"
        );
    }

    #[test]
    fn unknown_regions_need_the_administrator() {
        for text in ["oss-cn-hangzhou", "", "evil.com/", "cn-hangzhou:443"] {
            assert!(!is_known(text, &[]), "{text:?}");
        }
        assert!(is_known("cn-hangzhou-finance", &[]));
        assert!(is_known("xx-new-1", &["xx-new-1".to_owned()]));
    }
}
