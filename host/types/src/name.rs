//! Names that people choose: tenants, nodes, resources, labels, jobs. One rule for all, so that each is safe in a path, a URL, a metric
//! label, a log line and a terminal.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: use 1 to {max} of a-z, A-Z, 0-9, `-`, `_` and `.`, and begin with a letter or digit", max = Name::BYTES_MAX)]
pub struct ParseNameError {
    text: String,
}

/// A name: 1 to 63 bytes of letters, digits, `-`, `_` and `.`, beginning with a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The most bytes of a name; what DNS allows for a label.
    pub const BYTES_MAX: usize = 63;

    /// The name of a text.
    ///
    /// # Errors
    ///
    /// If the text breaks the rule of this type.
    pub fn new(text: &str) -> Result<Self, ParseNameError> {
        let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let body = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if head && body && text.len() <= Self::BYTES_MAX {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError {
                text: text.chars().take(Self::BYTES_MAX + 1).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            })
        }
    }

    /// The nearest name to any text: what does not fit becomes `-`, what is too long is cut, what is left empty is `unnamed`.
    pub fn lossy(text: &str) -> Self {
        let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let text: String = text.chars().map(fits).skip_while(|c| !c.is_ascii_alphanumeric()).take(Self::BYTES_MAX).collect();
        Self(if text.is_empty() { "unnamed".into() } else { text.into() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The name of an actor: a namespace and a name in it, as `shop/cart`; `cart` alone is in the namespace `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorName {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl ActorName {
    const NAMESPACE_DEFAULT: &str = "default";
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.as_str() == Self::NAMESPACE_DEFAULT {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl FromStr for ActorName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let (namespace, name) = text.split_once('/').unwrap_or((Self::NAMESPACE_DEFAULT, text));
        Ok(Self { namespace: Name::new(namespace)?, name: Name::new(name)? })
    }
}

impl Serialize for ActorName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActorName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who pays: the name that every key, message, log line and cache entry carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(Name);

impl Tenant {
    /// The tenant of a text.
    ///
    /// # Errors
    ///
    /// If the text is no [`Name`].
    pub fn new(text: &str) -> Result<Self, ParseNameError> {
        Name::new(text).map(Self)
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for Tenant {
    /// The tenant that exists from the first start on.
    fn default() -> Self {
        Self(Name("default".into()))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Tenant {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for text in ["a", "Team-7", "a.b_c", "0"] {
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
        for text in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_nearest_name(text: String) {
            let name = Name::lossy(&text);
            prop_assert_eq!(Name::new(name.as_str()).unwrap(), name);
        }
    }
}
