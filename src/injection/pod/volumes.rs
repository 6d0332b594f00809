//! The volumes of a pod, reduced to what concerns the token and the Secrets of bindings.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::SeqAccess;

use super::Text;
use crate::contract::{AUDIENCE, token_volume};
use crate::injection::mode;
use crate::injection::patch::VolumeSource;
use crate::injection::seen::{Seen, Shape, object_shape};

/// The volumes, reduced to what concerns us.
#[derive(Debug, Default)]
pub struct Volumes<'a> {
    /// Names of the volumes that hold a token for our audience at our file name, in order: a pod may
    /// have thousands of both volumes and mounts.
    tokens: Vec<Cow<'a, str>>,
    /// Names of the volumes that hold a whole Secret, and the names of those, in order.
    secrets: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Whether there is a volume of the name of the token's.
    token_named: bool,
    /// Whether there is a volume of the name of the Secret's.
    credentials_named: bool,
}

#[derive(Debug, Default, Deserialize)]
struct RawVolume<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    projected: Seen<Projected>,
    #[serde(borrow, default)]
    secret: Seen<SecretVolume<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretVolume<'a> {
    #[serde(borrow, default)]
    secret_name: Text<'a>,
    #[serde(default)]
    items: Seen<Items>,
}

/// A choice of keys, whatever it is.
#[derive(Debug)]
struct Items;

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

object_shape!(
    RawVolume<'a>,
    SecretVolume<'a>,
    Projected,
    Source<'a>,
    TokenSource<'a>
);

impl<'de> Shape<'de> for Items {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut some = false;
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {
            some = true;
        }
        Ok(some.then_some(Self))
    }
}

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
            let secret = raw.secret.into_value().and_then(SecretVolume::whole);
            let Some(name) = raw.name.into_value() else {
                continue;
            };
            volumes.token_named |= name == mode::TOKEN.volume;
            volumes.credentials_named |= name == mode::CREDENTIALS.volume;
            if token {
                volumes.tokens.push(name);
            } else if let Some(secret) = secret {
                volumes.secrets.push((name, secret));
            }
        }
        volumes.tokens.sort_unstable();
        volumes.secrets.sort_unstable();
        Ok(Some(volumes))
    }
}

impl<'a> SecretVolume<'a> {
    /// The Secret, when all of it is there.
    fn whole(self) -> Option<Cow<'a, str>> {
        // No list and an empty one mean all; another shape is refused by the API server.
        let all = !matches!(self.items, Seen::Value(Items));
        self.secret_name.into_value().filter(|_| all)
    }
}

impl Volumes<'_> {
    /// Whether the volume of that name holds what ours would.
    #[must_use]
    pub fn holds(&self, name: &str, wanted: &VolumeSource<'_>) -> bool {
        match wanted {
            VolumeSource::Token(_) => {
                let place = self.tokens.binary_search_by(|token| (**token).cmp(name));
                place.is_ok()
            }
            VolumeSource::Secret(secret) => {
                let wanted = (name, *secret);
                let place = self
                    .secrets
                    .binary_search_by(|(volume, held)| (&**volume, &**held).cmp(&wanted));
                place.is_ok()
            }
        }
    }

    /// The Secret that the volume of that name holds whole.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&str> {
        let before = |(volume, _): &(Cow<'_, str>, _)| **volume < *name;
        let (volume, held) = self.secrets.get(self.secrets.partition_point(before))?;
        (volume == name).then_some(held)
    }

    /// Whether the name of our volume belongs to something else.
    #[must_use]
    pub fn name_taken(&self, wanted: &VolumeSource<'_>) -> bool {
        let (there, name) = match wanted {
            VolumeSource::Token(_) => (self.token_named, mode::TOKEN.volume),
            VolumeSource::Secret(_) => (self.credentials_named, mode::CREDENTIALS.volume),
        };
        there && !self.holds(name, wanted)
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

    const TOKEN: VolumeSource<'_> = VolumeSource::Token(token_volume::DEFAULT_EXPIRATION);

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
    #[case::secret(r#"{"name":"v","secret":{"secretName":"s"}}"#, false)]
    fn only_our_token_makes_a_volume_equivalent(#[case] volume: &str, #[case] token: bool) {
        let json = format!("[null,{volume}]");
        let volumes: Seen<Volumes<'_>> = serde_json::from_str(&json).unwrap();
        assert_eq!(volumes.value().unwrap().holds("v", &TOKEN), token);
    }

    #[rstest]
    #[case::whole(r#"{"secretName":"s"}"#, true)]
    #[case::mode(r#"{"secretName":"s","defaultMode":256,"items":[]}"#, true)]
    #[case::other(r#"{"secretName":"t"}"#, false)]
    #[case::part(
        r#"{"secretName":"s","items":[{"key":"config.json","path":"c"}]}"#,
        false
    )]
    #[case::odd(r#"{"secretName":5}"#, false)]
    fn only_the_whole_secret_makes_a_volume_equivalent(#[case] secret: &str, #[case] holds: bool) {
        let json = format!(r#"[{{"name":"rrsa-credentials","secret":{secret}}}]"#);
        let volumes: Seen<Volumes<'_>> = serde_json::from_str(&json).unwrap();
        let (volumes, wanted) = (volumes.value().unwrap(), VolumeSource::Secret("s"));
        assert_eq!(volumes.holds("rrsa-credentials", &wanted), holds);
        assert_eq!(volumes.name_taken(&wanted), !holds);
        assert!(!volumes.name_taken(&TOKEN));
    }
}
