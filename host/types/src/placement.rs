//! Where a task may run and where it had better run: labels of nodes, a node itself, packed or spread.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error, Name, NodeId, Result};

/// A condition on one label of a node. In text, as the command line and JSON have it: `zone=a`, `zone!=a`, `zone in (a, b)`,
/// `zone !in (a, b)`, `zone` (any value), `!zone` (no such label).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelSelector {
    /// Which label.
    pub key: Name,
    /// What it must be.
    pub must: LabelMatch,
}

/// What a label must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelMatch {
    /// One of these; a node without the label does not match.
    In(Vec<String>),
    /// None of these; a node without the label matches.
    NotIn(Vec<String>),
    /// There, with any value.
    Exists,
    /// Not there.
    Absent,
}

impl LabelSelector {
    /// The most values of one condition.
    pub const VALUES_MAX: usize = 16;
    /// The most bytes of a label's value.
    pub const VALUE_BYTES_MAX: usize = 255;

    /// Whether a node with these labels meets the condition.
    pub fn matches(&self, labels: &BTreeMap<Name, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.must {
            LabelMatch::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelMatch::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelMatch::Exists => value.is_some(),
            LabelMatch::Absent => value.is_none(),
        }
    }
}

impl FromStr for LabelSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(Code::INVALID_ARGUMENT, format!("`{}` is no condition on a label: {why}", text.chars().take(80).collect::<String>()))
                .hint("write KEY=VALUE, KEY!=VALUE, 'KEY in (A, B)', 'KEY !in (A, B)', KEY or !KEY")
        };
        let (key, must) = parse(text.trim()).map_err(wrong)?;
        let key = Name::new(key).map_err(|error| wrong(error.to_string()))?;
        if let LabelMatch::In(values) | LabelMatch::NotIn(values) = &must {
            if values.len() > Self::VALUES_MAX {
                return Err(wrong(format!("it has more than {} values", Self::VALUES_MAX)));
            }
            if values.iter().any(|value| value.is_empty() || value.len() > Self::VALUE_BYTES_MAX) {
                return Err(wrong(format!("a value has 1 to {} bytes", Self::VALUE_BYTES_MAX)));
            }
        }
        Ok(Self { key, must })
    }
}

fn parse(text: &str) -> Result<(&str, LabelMatch), String> {
    if let Some((key, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let key = key.trim_end();
        return match (key.strip_suffix("!in"), key.strip_suffix("in")) {
            (Some(key), _) if key.ends_with(' ') => Ok((key.trim_end(), LabelMatch::NotIn(values))),
            (None, Some(key)) if key.ends_with(' ') => Ok((key.trim_end(), LabelMatch::In(values))),
            _ => Err("a list follows `in` or `!in`".to_owned()),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok((key.trim_end(), LabelMatch::NotIn(vec![value.trim_start().to_owned()])));
    }
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.trim_end(), LabelMatch::In(vec![value.trim_start().to_owned()])));
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => (key.trim_start(), LabelMatch::Absent),
        None => (text, LabelMatch::Exists),
    })
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.must {
            LabelMatch::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            LabelMatch::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            LabelMatch::In(values) => write!(f, "{key} in ({})", values.join(", ")),
            LabelMatch::NotIn(values) => write!(f, "{key} !in ({})", values.join(", ")),
            LabelMatch::Exists => write!(f, "{key}"),
            LabelMatch::Absent => write!(f, "!{key}"),
        }
    }
}

impl Serialize for LabelSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LabelSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How the slots of one call are laid over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Fill nodes up to half of what they have, one after the other; beyond that, take the one that is used least.
    #[default]
    Pack,
    /// Take the node that is used least, each time.
    Spread,
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "pack" => Ok(Self::Pack),
            "spread" => Ok(Self::Spread),
            _ => Err(Error::new(Code::INVALID_ARGUMENT, "a strategy is `pack` or `spread`")),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Spread => "spread",
        })
    }
}

/// How the bundles of a placement group are laid over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupStrategy {
    /// On as few nodes as possible.
    #[default]
    Pack,
    /// On as many nodes as possible.
    Spread,
    /// All on one node.
    StrictPack,
    /// Each on a node of its own.
    StrictSpread,
}

impl GroupStrategy {
    /// All, in the order in which they are explained.
    pub const ALL: [Self; 4] = [Self::Pack, Self::Spread, Self::StrictPack, Self::StrictSpread];
}

impl fmt::Display for GroupStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Spread => "spread",
            Self::StrictPack => "strict-pack",
            Self::StrictSpread => "strict-spread",
        })
    }
}

impl FromStr for GroupStrategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.to_string() == text)
            .ok_or_else(|| Error::new(Code::INVALID_ARGUMENT, "a placement group's strategy is pack, spread, strict-pack or strict-spread"))
    }
}

/// A placement group of the tenant, or one of its bundles: `trainer`, `trainer:1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRef {
    /// What the group is called.
    pub name: Name,
    /// Which of its bundles, counted from 0; any of them without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<u32>,
}

impl FromStr for GroupRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Code::INVALID_ARGUMENT, "a placement group is written NAME, and one of its bundles NAME:NUMBER");
        let (name, bundle) = match text.split_once(':') {
            Some((name, bundle)) => (name, Some(bundle.parse().map_err(|_not_a_number| wrong())?)),
            None => (text, None),
        };
        Ok(Self { name: Name::new(name).map_err(|_no_name| wrong())?, bundle })
    }
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bundle {
            Some(bundle) => write!(f, "{}:{bundle}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Where a task may run, and where it had better run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// How slots are laid over nodes.
    pub strategy: Strategy,
    /// The only node that may run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Conditions that a node has to meet, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelSelector>,
    /// A node that is taken while it has room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer_node: Option<NodeId>,
    /// Conditions whose nodes are taken, while one of them has room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer_labels: Vec<LabelSelector>,
    /// The placement group that it comes out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRef>,
}

impl Placement {
    /// The most conditions, of each kind.
    pub const LABELS_MAX: usize = 8;

    /// Whether nothing was asked for; it is not written then, so that records are what they were before there was a choice.
    pub fn is_anywhere(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a node may run it at all, whatever it has free.
    pub fn allows(&self, node: NodeId, labels: &BTreeMap<Name, String>) -> bool {
        self.node.is_none_or(|only| only == node) && self.labels.iter().all(|selector| selector.matches(labels))
    }

    /// These conditions, if there are not too many.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`].
    pub fn checked(self) -> Result<Self> {
        if self.labels.len() > Self::LABELS_MAX || self.prefer_labels.len() > Self::LABELS_MAX {
            return Err(Error::new(Code::LIMIT, format!("a task has at most {} conditions on labels of a kind", Self::LABELS_MAX)));
        }
        Ok(self)
    }
}

impl fmt::Display for Placement {
    /// The hard conditions: `node n3, zone=a, placement group trainer:1`; nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.map(|node| format!("node {node}"));
        let group = self.group.as_ref().map(|group| format!("placement group {group}"));
        let conditions: Vec<String> = node.into_iter().chain(self.labels.iter().map(ToString::to_string)).chain(group).collect();
        f.write_str(&conditions.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let labels = BTreeMap::from([(Name::new("zone").unwrap(), "a".to_owned())]);
        for (text, canonical, matches) in [
            ("zone=a", "zone=a", true),
            ("zone = b", "zone=b", false),
            ("zone!=a", "zone!=a", false),
            ("disk!=ssd", "disk!=ssd", true),
            ("zone in (b,a)", "zone in (b, a)", true),
            ("zone !in ( a , b )", "zone !in (a, b)", false),
            ("zone", "zone", true),
            ("!zone", "!zone", false),
            (" ! disk ", "!disk", true),
            ("main in (a)", "main=a", false),
        ] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!((selector.to_string().as_str(), selector.matches(&labels)), (canonical, matches), "{text}");
            assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
        }
        for text in ["", "!", "=a", "zone=", "zone in ()", "zone(a)", "zonein (a)", "a b", &format!("k={}", "x".repeat(256))] {
            assert_eq!(text.parse::<LabelSelector>().unwrap_err().code(), Code::INVALID_ARGUMENT, "{text:?}");
        }
        for text in ["trainer", "trainer:0", "a-b.c:17"] {
            assert_eq!(text.parse::<GroupRef>().unwrap().to_string(), text);
        }
        for text in ["", ":1", "trainer:", "trainer:x", "trainer:-1", "trainer:1:2"] {
            assert_eq!(text.parse::<GroupRef>().unwrap_err().code(), Code::INVALID_ARGUMENT, "{text:?}");
        }
        for strategy in GroupStrategy::ALL {
            assert_eq!(strategy.to_string().parse::<GroupStrategy>().unwrap(), strategy);
        }
        let many = format!("k in ({})", ["v"; 17].join(","));
        assert!(many.parse::<LabelSelector>().is_err());
    }
}
