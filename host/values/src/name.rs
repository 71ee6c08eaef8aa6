//! Names of the component model: labels, packages, interfaces, resources and exports. Each has one text form, the one that WIT and
//! the component itself use.
//!
//! ```text
//! add-two                         a label
//! demo:bank@1.2.0                 a package
//! demo:bank/accounts@1.2.0        an interface
//! demo:bank/accounts@1.2.0.account   a resource
//! demo:bank/accounts@1.2.0/open   an export
//! ```

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use rwasm_types::{Code, Error};
use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::one_line;

/// The words of WIT, which stand as `%word` where they are used as names.
const KEYWORDS: [&str; 45] = [
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "float32",
    "float64",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
    "world",
];

/// Serialises a name as its text form.
macro_rules! as_text {
    ($name:ty) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn refuse(text: &str, what: &str) -> Error {
    Error::new(Code::INVALID_ARGUMENT, format!("`{}` is not {what}", one_line(text, 80)))
}

/// A name of the component model: words of one case, divided by `-`, such as `add-two` or `HTTP-get`. Cheap to clone.
///
/// It is at most [`Label::BYTES_MAX`] bytes long. Two names of one record, variant, enum or flags may not differ by case alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// The most bytes of a name.
    pub const BYTES_MAX: usize = 1024;

    /// The label of a text.
    ///
    /// # Errors
    ///
    /// [`Code::INVALID_ARGUMENT`] if the text breaks the rule of this type.
    pub fn new(text: &str) -> Result<Self, Error> {
        if Self::is_label(text) { Ok(Self(text.into())) } else { Err(refuse(text, "a name of the component model, such as `add-two`")) }
    }

    /// Whether a text follows the rule of this type.
    pub fn is_label(text: &str) -> bool {
        let word = |word: &str| {
            let lower = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let upper = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            !word.is_empty() && (lower || upper)
        };
        text.len() <= Self::BYTES_MAX && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('-').all(word)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as WIT writes it: with a `%` before a word of the language.
    pub(crate) fn wit(&self) -> impl fmt::Display {
        let keyword = KEYWORDS.binary_search(&self.as_str()).is_ok();
        fmt::from_fn(move |f| write!(f, "{}{self}", if keyword { "%" } else { "" }))
    }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Label {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}
as_text!(Label);

/// A package: `namespace:name`, with `@version` where it has one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName {
    /// Who publishes it: `wasi`, `rwasm`, `demo`.
    pub namespace: Label,
    /// Its name within the namespace.
    pub name: Label,
    /// Its semantic version.
    pub version: Option<Version>,
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.name)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

impl FromStr for PackageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || refuse(text, "a package, such as `demo:bank@1.2.0`");
        let (name, version) = split_version(text).ok_or_else(error)?;
        let (namespace, name) = name.split_once(':').ok_or_else(error)?;
        Ok(Self { namespace: namespace.parse().map_err(|_| error())?, name: name.parse().map_err(|_| error())?, version })
    }
}
as_text!(PackageName);

/// An interface: of a package, as `namespace:package/name@version`, or of the component itself, as a plain `name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    /// The package; `None` for an interface that a world writes in place.
    pub package: Option<PackageName>,
    /// The name within the package.
    pub name: Label,
}

impl InterfaceName {
    /// The version of the package, where it has one.
    pub fn version(&self) -> Option<&Version> {
        self.package.as_ref()?.version.as_ref()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(PackageName { namespace, name, version }) = &self.package else { return write!(f, "{}", self.name) };
        write!(f, "{namespace}:{name}/{}", self.name)?;
        version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

impl FromStr for InterfaceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || refuse(text, "an interface, such as `demo:bank/accounts@1.2.0`");
        let Some((package, rest)) = text.split_once('/') else {
            return Ok(Self { package: None, name: text.parse().map_err(|_| error())? });
        };
        let (name, version) = split_version(rest).ok_or_else(error)?;
        let PackageName { namespace, name: package, version: None } = package.parse().map_err(|_| error())? else { return Err(error()) };
        Ok(Self { package: Some(PackageName { namespace, name: package, version }), name: name.parse().map_err(|_| error())? })
    }
}
as_text!(InterfaceName);

/// Splits `name@version`; `None` if what follows the `@` is no version.
fn split_version(text: &str) -> Option<(&str, Option<Version>)> {
    match text.split_once('@') {
        Some((name, version)) => Some((name, Some(Version::parse(version).ok()?))),
        None => Some((text, None)),
    }
}

/// A resource type, which is named and never compared by structure: the interface that defines it, and its name there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName {
    /// The interface; `None` for a resource that the component exports by itself.
    pub interface: Option<InterfaceName>,
    /// The name within the interface.
    pub name: Label,
}

impl ResourceName {
    /// Whether this is the handle of an object in the store: `object` of `rwasm:core/objects`, of any version 0.1.
    pub fn is_object(&self) -> bool {
        let Some(InterfaceName { package: Some(package), name }) = &self.interface else { return false };
        let track = package.version.as_ref().is_none_or(|version| (version.major, version.minor) == (0, 1));
        &*self.name == "object" && &**name == "objects" && &*package.namespace == "rwasm" && &*package.name == "core" && track
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interface.iter().try_for_each(|interface| write!(f, "{interface}."))?;
        write!(f, "{}", self.name)
    }
}

impl FromStr for ResourceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || refuse(text, "a resource, such as `demo:bank/accounts@1.2.0.account`");
        let (interface, name) = match text.rsplit_once('.') {
            Some((interface, name)) => (Some(interface.parse().map_err(|_| error())?), name),
            None => (None, text),
        };
        Ok(Self { interface, name: name.parse().map_err(|_| error())? })
    }
}
as_text!(ResourceName);

/// An exported function: its interface, if it is in one, and its name there as the component writes it, `[method]r.f` included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExportName {
    /// The interface; `None` for a function that the component exports by itself.
    pub interface: Option<InterfaceName>,
    /// The function.
    pub func: String,
}

impl ExportName {
    /// The function's name as people write it: without `[constructor]`, `[method]` or `[static]`. No two functions of an interface
    /// share it.
    pub fn plain_func(&self) -> &str {
        self.func.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(&*self.func, |(_, name)| name)
    }
}

impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interface.iter().try_for_each(|interface| write!(f, "{interface}/"))?;
        f.write_str(&self.func)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert!(KEYWORDS.is_sorted());
        for text in ["a", "add-two", "HTTP-get", "a1-2b", "X"] {
            assert_eq!(Label::new(text).unwrap().as_str(), text);
        }
        for text in ["", "-", "a-", "-a", "a--b", "aB", "1a", "a_b", "ä", "a b", "a\0", &"a".repeat(Label::BYTES_MAX + 1)] {
            assert_eq!(Label::new(text).unwrap_err().code(), Code::INVALID_ARGUMENT, "{text:?}");
        }
    }

    #[test]
    fn names_survive_their_text() {
        fn check<T: FromStr<Err = Error> + fmt::Display>(good: &[&str], bad: &[&str]) {
            good.iter().for_each(|text| assert_eq!(text.parse::<T>().unwrap().to_string(), *text));
            bad.iter().for_each(|text| assert!(text.parse::<T>().is_err(), "{text:?}"));
        }
        check::<PackageName>(&["a:b", "a:b@1.2.3-rc.1"], &["", "a", "a:", ":b", "a:b@1", "a:b@", "a:b:c"]);
        check::<InterfaceName>(&["i", "a:b/i", "a:b/i@1.0.0"], &["", "a/i", "a:b/", "a:b@1.0.0/i", "a:b/i@1.0", "a:b/i/j", "i@1.0.0"]);
        check::<ResourceName>(&["r", "i.r", "a:b/i.r", "a:b/i@1.0.0-rc.1.r"], &["", ".", "a:b/i.", "a:b/i@1.0.r", "a:b/i@1.0.0"]);
    }

    #[test]
    fn the_object_handle_is_known_by_name() {
        for (text, known) in [
            ("rwasm:core/objects@0.1.0.object", true),
            ("rwasm:core/objects@0.1.9.object", true),
            ("rwasm:core/objects.object", true),
            ("rwasm:core/objects@0.2.0.object", false),
            ("rwasm:core/objects@0.1.0.other", false),
            ("evil:core/objects@0.1.0.object", false),
            ("object", false),
        ] {
            assert_eq!(text.parse::<ResourceName>().unwrap().is_object(), known, "{text}");
        }
    }
}
