//! Which host is asked.

use std::fmt;
use std::str::FromStr;

/// An STS host with an optional port: `sts.aliyuncs.com`, `localhost:8443`. Always https.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

/// A text that is no `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an STS endpoint; write host or host:port, without scheme or path")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let refuse = || InvalidEndpoint(text.chars().take(120).collect());
        let (host, port) = text
            .split_once(':')
            .map_or((text, None), |(h, p)| (h, Some(p)));
        let host_is_legal = (1..=253).contains(&host.len())
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.ends_with(|c: char| c.is_ascii_alphanumeric());
        let port_is_legal = port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
        });
        if host_is_legal && port_is_legal {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://sts.aliyuncs.com")]
    #[case("sts.aliyuncs.com/")]
    #[case("sts.aliyuncs.com/x")]
    #[case("sts.aliyuncs.com?x")]
    #[case("user@sts.aliyuncs.com")]
    #[case("user:password@sts.aliyuncs.com")]
    #[case("[::1]")]
    #[case("sts.aliyuncs.com:0")]
    #[case("sts.aliyuncs.com:x")]
    #[case("[::1]:443")]
    #[case("")]
    fn an_endpoint_is_a_host_and_perhaps_a_port(#[case] text: &str) {
        assert!(text.parse::<Endpoint>().is_err());
    }
}
