//! JSON values that may have any shape while only one of them matters.
//!
//! A review's object was written by whoever made the pod. A list that is no list must neither
//! fail the review nor look like an absent one, because `absent` and `null` want another patch
//! than `[]` does. [`Seen`] keeps exactly that difference.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value as it was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seen<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The value is `null`.
    Null,
    /// The value has the shape that matters.
    Value(T),
    /// The value has another shape.
    Other,
}

impl<T> Seen<T> {
    /// The value, if it has the shape that matters.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value, taken out.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the value has a shape that it must not have.
    pub const fn is_other(&self) -> bool {
        matches!(self, Self::Other)
    }

    /// Whether there is neither a value nor a wrong shape.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }
}

impl Seen<Cow<'_, str>> {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        self.value().map(AsRef::as_ref)
    }
}

/// A value that is large beside the others of its object, in a place of its own, so that it is not
/// copied with them.
impl<'de, T: Shape<'de>> Shape<'de> for Box<T> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        T::from_text(text).map(Self::new)
    }

    fn from_truth(truth: bool) -> Option<Self> {
        T::from_truth(truth).map(Self::new)
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        Ok(T::from_list(list)?.map(Self::new))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        Ok(T::from_map(map)?.map(Self::new))
    }
}

/// How a type is made from the one shape that it accepts. `None`: any other shape.
pub trait Shape<'de>: Sized {
    /// From a string.
    #[must_use]
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        drop(text);
        None
    }

    /// From a truth value.
    #[must_use]
    fn from_truth(_: bool) -> Option<Self> {
        None
    }

    /// From an array, which must be read to its end.
    ///
    /// # Errors
    /// Those of the array.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        drain(&mut list)?;
        Ok(None)
    }

    /// From an object, which must be read to its end.
    ///
    /// # Errors
    /// Those of the object.
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads an array to its end.
pub(super) fn drain<'de, A: SeqAccess<'de>>(list: &mut A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de: 'a, 'a> Shape<'de> for Cow<'a, str> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl Shape<'_> for bool {
    fn from_truth(truth: bool) -> Option<Self> {
        Some(truth)
    }
}

impl<'de, T: Shape<'de>> Deserialize<'de> for Seen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeenVisitor(PhantomData))
    }
}

struct SeenVisitor<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Visitor<'de> for SeenVisitor<T> {
    type Value = Seen<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(seen(T::from_truth(truth)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Seen::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(seen(T::from_text(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(seen(T::from_text(Cow::Owned(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list).map(seen)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map).map(seen)
    }
}

fn seen<T>(value: Option<T>) -> Seen<T> {
    value.map_or(Seen::Other, Seen::Value)
}

/// Lets a derived struct be read from an object, and from nothing else.
macro_rules! object_shape {
    ($($name:ident $(<$life:lifetime>)?),*) => {$(
        impl<'de $(: $life, $life)?> $crate::injection::seen::Shape<'de> for $name $(<$life>)? {
            fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(Some)
            }
        }
    )*};
}
pub(crate) use object_shape;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Document<'a> {
        #[serde(borrow, default)]
        key: Seen<Cow<'a, str>>,
    }

    #[rstest]
    #[case::absent("{}", Seen::Absent)]
    #[case::null(r#"{"key":null}"#, Seen::Null)]
    #[case::text(r#"{"key":"a"}"#, Seen::Value(Cow::Borrowed("a")))]
    #[case::escaped(r#"{"key":"\n"}"#, Seen::Value(Cow::Borrowed("\n")))]
    #[case::number(r#"{"key":-0}"#, Seen::Other)]
    #[case::truth(r#"{"key":true}"#, Seen::Other)]
    #[case::list(r#"{"key":[1,{"a":[]}]}"#, Seen::Other)]
    #[case::object(r#"{"key":{"a":null}}"#, Seen::Other)]
    fn every_shape_is_told_apart(#[case] json: &str, #[case] expected: Seen<Cow<'_, str>>) {
        assert_eq!(
            serde_json::from_str::<Document<'_>>(json).unwrap().key,
            expected
        );
    }

    #[test]
    fn plain_text_is_borrowed() {
        let document: Document<'_> = serde_json::from_str(r#"{"key":"plain"}"#).unwrap();
        assert!(matches!(document.key, Seen::Value(Cow::Borrowed("plain"))));
    }
}
