//! The volumes of a pod, reduced to what concerns the token.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::SeqAccess;

use super::Text;
use crate::contract::{AUDIENCE, token_volume};
use crate::injection::seen::{Seen, Shape, object_shape};

/// The volumes, reduced to what concerns the token.
#[derive(Debug, Default)]
pub struct Volumes<'a> {
    /// Names of the volumes that hold a token for our audience at our file name.
    pub tokens: Vec<Cow<'a, str>>,
    /// Whether the name of our volume belongs to something else.
    pub name_taken: bool,
}

#[derive(Debug, Default, Deserialize)]
struct RawVolume<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    projected: Seen<Projected>,
}

#[derive(Debug, Default, Deserialize)]
struct Projected {
    #[serde(default)]
    sources: Seen<Sources>,
}

/// The sources of a projected volume.
#[derive(Debug, Default)]
struct Sources {
    /// Whether our token is among them.
    token: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow, default)]
    service_account_token: Seen<TokenSource<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct TokenSource<'a> {
    #[serde(borrow, default)]
    audience: Text<'a>,
    #[serde(borrow, default)]
    path: Text<'a>,
}

object_shape!(RawVolume<'a>, Projected, Source<'a>, TokenSource<'a>);

impl<'de: 'a, 'a> Shape<'de> for Volumes<'a> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut volumes = Self::default();
        while let Some(volume) = list.next_element::<Seen<RawVolume<'de>>>()? {
            let Some(raw) = volume.into_value() else {
                continue;
            };
            let sources = raw
                .projected
                .value()
                .and_then(|projected| projected.sources.value());
            let token = sources.is_some_and(|sources| sources.token);
            match raw.name.into_value() {
                Some(name) if token => volumes.tokens.push(name),
                Some(name) if name == token_volume::NAME => volumes.name_taken = true,
                _ => {}
            }
        }
        Ok(Some(volumes))
    }
}

impl Volumes<'_> {
    /// Whether the volume of that name holds the token.
    #[must_use]
    pub fn holds_token(&self, name: &str) -> bool {
        self.tokens.iter().any(|token| token == name)
    }
}

impl<'de> Shape<'de> for Sources {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut sources = Self::default();
        while let Some(source) = list.next_element::<Seen<Source<'de>>>()? {
            let token = source
                .value()
                .and_then(|source| source.service_account_token.value());
            sources.token |= token.is_some_and(|token| {
                token.audience.text() == Some(AUDIENCE)
                    && token.path.text() == Some(token_volume::FILE)
            });
        }
        Ok(Some(sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::ours(
        r#"{"name":"v","projected":{"defaultMode":384,"sources":[{"configMap":{}},
        {"serviceAccountToken":{"audience":"sts.aliyuncs.com","path":"token"}}]}}"#,
        true
    )]
    #[case::audience(
        r#"{"name":"v","projected":{"sources":[
        {"serviceAccountToken":{"audience":"sts.amazonaws.com","path":"token"}}]}}"#,
        false
    )]
    #[case::path(
        r#"{"name":"v","projected":{"sources":[
        {"serviceAccountToken":{"audience":"sts.aliyuncs.com","path":"tokens"}}]}}"#,
        false
    )]
    #[case::host_path(r#"{"name":"v","hostPath":{"path":"/"}}"#, false)]
    #[case::csi(r#"{"name":"v","csi":{"driver":"d"}}"#, false)]
    fn only_our_token_makes_a_volume_equivalent(#[case] volume: &str, #[case] token: bool) {
        let json = format!("[null,{volume}]");
        let volumes: Seen<Volumes<'_>> = serde_json::from_str(&json).unwrap();
        assert_eq!(volumes.value().unwrap().holds_token("v"), token);
    }
}
