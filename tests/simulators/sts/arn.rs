//! ARNs of RAM, as strict as RAM is when it takes them apart.

/// An ARN of RAM, taken apart: `acs:ram::<account>:<kind>/<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RamArn<'a> {
    /// The account's number.
    pub(crate) account: &'a str,
    /// `role`, `user`, `oidc-provider`; `root` has no name.
    pub(crate) kind: &'a str,
    /// The name, path included.
    pub(crate) name: &'a str,
}

impl<'a> RamArn<'a> {
    /// Takes `text` apart.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (account, resource) = text.strip_prefix("acs:ram::")?.split_once(':')?;
        if account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if resource == "root" {
            return Some(Self {
                account,
                kind: "root",
                name: "",
            });
        }
        let (kind, name) = resource.split_once('/')?;
        let legal = |segment: &str| {
            (1..=128).contains(&segment.len())
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        name.split('/').all(legal).then_some(Self {
            account,
            kind,
            name,
        })
    }

    /// Takes `text` apart if it is of this kind.
    pub(crate) fn of_kind(text: &'a str, kind: &str) -> Option<Self> {
        Self::parse(text).filter(|arn| arn.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::RamArn;

    #[test]
    fn arn_is_taken_apart() {
        let arn = RamArn::parse("acs:ram::1234567890123456:role/demo").unwrap();
        assert_eq!(
            (arn.account, arn.kind, arn.name),
            ("1234567890123456", "role", "demo")
        );
        assert!(RamArn::of_kind("acs:ram::1:role/demo", "oidc-provider").is_none());
    }

    #[test]
    fn malformed_arn_is_refused() {
        for text in [
            "",
            "acs:ram::1",
            "acs:ram:::role/a",
            "acs:ram::x1:role/a",
            "acs:ram::1:role/",
            "acs:ram::1:role/a//b",
            "acs:ram::1:role/a b",
            "acs:ecs::1:role/a",
            " acs:ram::1:role/a",
        ] {
            assert_eq!(RamArn::parse(text), None, "{text:?}");
        }
    }
}
