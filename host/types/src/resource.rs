//! Resources that slots are made of, counted without rounding.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error, Name, Result, format_bytes};

/// An amount of cpu, gpu or a custom resource, in units of 1/10,000. Sums and differences are exact.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u64);

/// A text or number that is no amount of a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an amount: write a number from 0 to {max} with at most 4 decimals", max = Quantity::MAX_UNITS)]
pub struct ParseResourceError {
    text: String,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One whole unit.
    pub const ONE: Self = Self(Self::SCALE);
    /// Parts of a unit.
    pub const SCALE: u64 = 10_000;
    /// The largest amount, in whole units: far beyond any machine, and small enough that sums over a cluster cannot overflow.
    pub const MAX_UNITS: u64 = 1_000_000_000;

    /// `count` whole units, at most [`Quantity::MAX_UNITS`].
    pub const fn whole(count: u32) -> Self {
        let count = count as u64;
        Self((if count > Self::MAX_UNITS { Self::MAX_UNITS } else { count }) * Self::SCALE)
    }

    /// The amount of `parts` ten-thousandths; `None` above the largest amount.
    pub const fn from_parts(parts: u64) -> Option<Self> {
        if parts <= Self::MAX_UNITS * Self::SCALE { Some(Self(parts)) } else { None }
    }

    /// The amount in ten-thousandths.
    pub const fn parts(self) -> u64 {
        self.0
    }

    /// Whether there is none.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whole units, rounded down.
    pub const fn floor(self) -> u64 {
        self.0 / Self::SCALE
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self((self.0 + other.0).min(Self::MAX_UNITS * Self::SCALE))
    }

    /// The difference; `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount as a floating-point number, for display and metrics only.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::SCALE as f64
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::SCALE, self.0 % Self::SCALE);
        if part == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{}", format!("{part:04}").trim_end_matches('0')) }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Quantity {
    type Err = ParseResourceError;

    fn from_str(text: &str) -> Result<Self, ParseResourceError> {
        let error = || ParseResourceError { text: text.chars().take(80).collect() };
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 4 {
            return Err(error());
        }
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let part: u64 = format!("{part:0<4}").parse().map_err(|_| error())?;
        whole.checked_mul(Self::SCALE).and_then(|parts| parts.checked_add(part)).and_then(Self::from_parts).ok_or_else(error)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(Self::SCALE) { serializer.serialize_u64(self.floor()) } else { serializer.serialize_f64(self.as_f64()) }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// Reads a JSON number, or its text. The shortest text of an `f64` with four decimals is exact, so nothing is lost on the way.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(u64),
            Decimal(f64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Whole(number) => number.to_string(),
            Form::Decimal(number) => number.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount of every resource: what a task asks for, what a node has, what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceSet {
    /// Processor cores.
    pub cpu: Quantity,
    /// Graphics processors.
    pub gpu: Quantity,
    /// Memory of guests, in bytes.
    pub memory: u64,
    /// Anything else, by the name that nodes were started with. No entry is zero.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<Name, Quantity>,
}

impl ResourceSet {
    /// The most custom resources a task or a node may name.
    pub const CUSTOM_MAX: usize = 32;

    /// `count` whole cores and nothing else.
    pub fn cpus(count: u32) -> Self {
        Self { cpu: Quantity::whole(count), ..Self::default() }
    }

    /// As it is asked for or offered: without custom resources of which there are none, and with no more than
    /// [`ResourceSet::CUSTOM_MAX`] others.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`].
    pub fn checked(mut self) -> Result<Self> {
        self.custom.retain(|_, amount| !amount.is_zero());
        if self.custom.len() > Self::CUSTOM_MAX {
            let message = format!("at most {} custom resources can be named, not {}", Self::CUSTOM_MAX, self.custom.len());
            return Err(Error::new(Code::LIMIT, message));
        }
        Ok(self)
    }

    /// Whether `other` fits into this.
    pub fn contains(&self, other: &Self) -> bool {
        self.cpu >= other.cpu
            && self.gpu >= other.gpu
            && self.memory >= other.memory
            && other.custom.iter().all(|(name, amount)| self.custom.get(name).is_some_and(|have| have >= amount))
    }

    /// Takes `other` away, if it fits; else changes nothing and says no.
    #[must_use]
    pub fn take(&mut self, other: &Self) -> bool {
        let fits = self.contains(other);
        if fits {
            self.take_saturating(other);
        }
        fits
    }

    /// Adds `other`.
    pub fn give(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.gpu = self.gpu.saturating_add(other.gpu);
        self.memory = self.memory.saturating_add(other.memory);
        for (name, amount) in &other.custom {
            let have = self.custom.entry(name.clone()).or_default();
            *have = have.saturating_add(*amount);
        }
    }

    /// Takes `other` away, each amount down to zero.
    pub fn take_saturating(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.gpu = self.gpu.saturating_sub(other.gpu);
        self.memory = self.memory.saturating_sub(other.memory);
        for (name, amount) in &other.custom {
            if let Some(have) = self.custom.get_mut(name) {
                *have = have.saturating_sub(*amount);
            }
        }
    }

    /// What is left of this without `other`, each amount down to zero; nothing is left of what is not named.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.take_saturating(other);
        left.custom.retain(|_, amount| !amount.is_zero());
        left
    }

    /// This, so many times; no amount grows beyond the largest.
    #[must_use]
    pub fn times(&self, count: u32) -> Self {
        let times = |amount: Quantity| Quantity(amount.0.saturating_mul(count.into()).min(Quantity::MAX_UNITS * Quantity::SCALE));
        Self {
            cpu: times(self.cpu),
            gpu: times(self.gpu),
            memory: self.memory.saturating_mul(count.into()),
            custom: self.custom.iter().map(|(name, amount)| (name.clone(), times(*amount))).collect(),
        }
    }

    /// How many times `other` fits into this; `None` if it asks for nothing.
    pub fn count_of(&self, other: &Self) -> Option<u64> {
        let per = |have: u64, want: u64| have.checked_div(want);
        let custom = other.custom.iter().map(|(name, want)| per(self.custom.get(name).map_or(0, |have| have.parts()), want.parts()));
        [per(self.cpu.parts(), other.cpu.parts()), per(self.gpu.parts(), other.gpu.parts()), per(self.memory, other.memory)]
            .into_iter()
            .chain(custom)
            .flatten()
            .min()
    }
}

impl fmt::Display for ResourceSet {
    /// `cpu 1, gpu 0.5, memory 64MiB, license 1`; `nothing` where all is zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend((!self.cpu.is_zero()).then(|| format!("cpu {}", self.cpu)));
        parts.extend((!self.gpu.is_zero()).then(|| format!("gpu {}", self.gpu)));
        parts.extend((self.memory > 0).then(|| format!("memory {}", format_bytes(self.memory))));
        parts.extend(self.custom.iter().map(|(name, amount)| format!("{name} {amount}")));
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_exact_and_bounded() {
        for (text, parts) in [("0", 0), ("1", 10_000), ("0.25", 2_500), ("0.0001", 1), ("1000000000", 10_000_000_000_000)] {
            let amount: Quantity = text.parse().unwrap();
            assert_eq!((amount.parts(), amount.to_string().as_str()), (parts, text));
        }
        for text in ["", "-1", "NaN", "inf", "0.00001", "1.", ".5", "1e3", "+1", "1000000001", "99999999999999999999"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    fn sets() -> impl Strategy<Value = ResourceSet> {
        let amount = || (0u64..1 << 40).prop_map(|parts| Quantity::from_parts(parts).unwrap());
        let custom = proptest::collection::btree_map("[a-c]".prop_map(|s| Name::new(&s).unwrap()), amount(), 0..3);
        (amount(), amount(), 0u64..1 << 50, custom).prop_map(|(cpu, gpu, memory, custom)| ResourceSet { cpu, gpu, memory, custom })
    }

    #[test]
    fn custom_resources_that_are_named_are_few_and_there() {
        let custom = |count: u32, amount: u32| {
            let entry = |at| (Name::new(&format!("c{at}")).unwrap(), Quantity::whole(amount));
            ResourceSet { custom: (0..count).map(entry).collect(), ..ResourceSet::cpus(1) }
        };
        let most = custom(32, 1);
        assert_eq!(most.clone().checked().unwrap(), most);
        assert_eq!(custom(33, 1).checked().unwrap_err().code(), Code::LIMIT);
        assert_eq!(custom(33, 0).checked().unwrap(), ResourceSet::cpus(1));
    }

    proptest! {
        #[test]
        fn what_is_taken_can_be_given_back(have in sets(), want in sets()) {
            let mut left = have.clone();
            prop_assert_eq!(left.take(&want), have.contains(&want));
            if have.contains(&want) {
                left.give(&want);
            }
            prop_assert_eq!(left, have);
        }

        #[test]
        fn text_and_parts_agree(parts in 0..=Quantity::MAX_UNITS * Quantity::SCALE) {
            let amount = Quantity::from_parts(parts).unwrap();
            prop_assert_eq!(amount.to_string().parse::<Quantity>().unwrap(), amount);
        }
    }
}
