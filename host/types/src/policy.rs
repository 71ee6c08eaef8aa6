//! What tenants may be granted and what nodes offer. A guest gets what its submit asks for, if its tenant's policy allows it and its node
//! offers it; whoever of the three says no is named in the refusal.
//!
//! ```text
//! data, data:ro, *                           volumes: by name, read-only, all
//! example.org:443, *.example.org:*, *:443    destinations: a host, all below a domain, all hosts; a port, all ports
//! ```
//!
//! A wildcard never covers an address that leads into a machine or the cluster: those are for whom they were named to.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Access, Code, Error, Grants, Name, NetGrant, Result, Tenant, VolumeSource};

/// What kind of special address this is, one that a name or a wildcard may not lead to; `None` for all others.
pub fn special_address(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unique_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0);
    match ip {
        _ if ip.is_loopback() => Some("loopback"),
        _ if link_local => Some("link-local"),
        _ if ip.is_multicast() => Some("multicast"),
        _ if ip.is_unspecified() || broadcast => Some("no host's address"),
        _ => None,
    }
}

/// Hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hosts {
    /// This one.
    One(String),
    /// All names below a domain, not the domain itself.
    Below(String),
    /// All, but for special addresses.
    All,
}

/// Destinations that a policy allows or a node offers: hosts, and a port or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destinations {
    hosts: Hosts,
    port: Option<u16>,
}

impl Destinations {
    /// Whether a destination is one of these.
    pub fn cover(&self, wanted: &NetGrant) -> bool {
        let host = match &self.hosts {
            Hosts::One(host) => match (host.parse::<IpAddr>(), wanted.address()) {
                (Ok(ours), Some(address)) => ours.to_canonical() == address.to_canonical(),
                _ => *host == wanted.host,
            },
            Hosts::Below(domain) => {
                wanted.address().is_none()
                    && wanted.host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Hosts::All => match wanted.address() {
                Some(address) => special_address(address).is_none(),
                None => wanted.host != "localhost" && !wanted.host.ends_with(".localhost"),
            },
        };
        host && self.port.is_none_or(|port| port == wanted.port)
    }

    /// Whether a destination is one of these, and its host is named here and no wildcard.
    pub fn name(&self, wanted: &NetGrant) -> bool {
        matches!(self.hosts, Hosts::One(_)) && self.cover(wanted)
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::One(host) if host.contains(':') => write!(f, "[{host}]")?,
            Hosts::One(host) => f.write_str(host)?,
            Hosts::Below(domain) => write!(f, "*.{domain}")?,
            Hosts::All => f.write_str("*")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

impl FromStr for Destinations {
    type Err = Error;

    /// Reads `HOST:PORT` as [`NetGrant`] does; HOST may be `*` or begin with `*.`, PORT may be `*`.
    fn from_str(text: &str) -> Result<Self> {
        let (host, port) = match text.strip_suffix(":*") {
            Some(host) => (host, None),
            None => (text, text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).filter(|port| *port != 0)),
        };
        let host = if port.is_some() { host.rsplit_once(':').map_or(host, |(host, _)| host) } else { host };
        if host == "*" && (port.is_some() || text.ends_with(":*")) {
            return Ok(Self { hosts: Hosts::All, port });
        }
        // The rest is held to the rule of a single destination; what stands for all ports is replaced by any.
        let (below, host) = host.strip_prefix("*.").map_or((false, host), |domain| (true, domain));
        let plain = if port.is_some() || text.ends_with(":*") { format!("{host}:{}", port.unwrap_or(1)) } else { text.to_owned() };
        let NetGrant { host, .. } = plain.parse()?;
        if below && host.parse::<IpAddr>().is_ok() {
            return Err(Error::new(Code::BAD_DESTINATION, "there is nothing below an address").hint("write *.DOMAIN:PORT or ADDRESS:PORT"));
        }
        Ok(Self { hosts: if below { Hosts::Below(host) } else { Hosts::One(host) }, port })
    }
}

/// Volumes that a policy allows: one by name or all, to read or also to write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeRule {
    /// Which; `None` is all.
    name: Option<Name>,
    access: Access,
}

impl VolumeRule {
    fn covers(&self, name: &Name, access: Access) -> bool {
        self.name.as_ref().is_none_or(|ours| ours == name) && self.access.allows(access)
    }
}

impl fmt::Display for VolumeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name.as_str())?,
            None => f.write_str("*")?,
        }
        match self.access {
            Access::ReadOnly => f.write_str(":ro"),
            Access::ReadWrite => Ok(()),
        }
    }
}

impl FromStr for VolumeRule {
    type Err = Error;

    /// Reads `NAME` or `*`, with `:ro` at the end where it may only be read.
    fn from_str(text: &str) -> Result<Self> {
        let (name, access) = match text.strip_suffix(":ro") {
            Some(name) => (name, Access::ReadOnly),
            None => (text.strip_suffix(":rw").unwrap_or(text), Access::ReadWrite),
        };
        let name = if name == "*" {
            None
        } else {
            let bad = |error: crate::ParseNameError| {
                Error::new(Code::INVALID_ARGUMENT, error.to_string()).hint("write NAME, NAME:ro, or * for all volumes")
            };
            Some(Name::new(name).map_err(bad)?)
        };
        Ok(Self { name, access })
    }
}

/// Serialises by the text form.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Destinations);
as_text!(VolumeRule);

/// What a tenant's guests may be granted. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Whatever nodes offer, and nothing else counts. So for the tenant of whoever starts the cluster.
    pub open: bool,
    /// Volumes.
    pub volumes: Vec<VolumeRule>,
    /// Network destinations.
    pub destinations: Vec<Destinations>,
    /// How much of the cluster the tenant gets in relation to others, where there is not enough for all; 1 without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl Policy {
    /// The largest weight.
    pub const WEIGHT_MAX: u32 = 1_000;
    /// The most volumes or destinations of a policy or a node's offer, each.
    pub const RULES_MAX: usize = 256;

    /// The policy that allows whatever nodes offer.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Whether its size is within the limits.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`].
    pub fn check(&self) -> Result<()> {
        for (what, count) in [("volumes", self.volumes.len()), ("destinations", self.destinations.len())] {
            if count > Self::RULES_MAX {
                return Err(Error::new(Code::LIMIT, format!("{count} {what}, but a policy may have {}", Self::RULES_MAX)));
            }
        }
        if self.weight.is_some_and(|weight| !(1..=Self::WEIGHT_MAX).contains(&weight)) {
            return Err(Error::new(Code::LIMIT, format!("a tenant's weight is from 1 to {}", Self::WEIGHT_MAX)));
        }
        Ok(())
    }

    /// Whether a tenant may be granted what a submit asks for.
    ///
    /// # Errors
    ///
    /// [`Code::POLICY_REFUSED`], naming the first grant that it may not.
    pub fn allows(&self, tenant: &Tenant, grants: &Grants) -> Result<()> {
        if self.open {
            return Ok(());
        }
        let refused = |what: String, add: String| {
            Error::new(Code::POLICY_REFUSED, format!("the policy of tenant `{tenant}` does not allow {what}"))
                .hint(format!("an admin can allow it: `rwasm tenant policy set {tenant} {add}`"))
                .with("refused_by", "tenant")
        };
        for (name, access) in grants.named_volumes() {
            if !self.volumes.iter().any(|rule| rule.covers(name, access)) {
                let rule = VolumeRule { name: Some(name.clone()), access };
                return Err(refused(access.of_volume(name), format!("--volume {rule}")));
            }
        }
        match grants.net.iter().find(|wanted| !self.destinations.iter().any(|allowed| allowed.cover(wanted))) {
            Some(wanted) => Err(refused(format!("connections to {wanted}"), format!("--allow-net {wanted}"))),
            None => Ok(()),
        }
    }
}

/// What a node lets guests have, as it tells the head. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// Its volumes, and whether guests may write there.
    pub volumes: BTreeMap<Name, Access>,
    /// Network destinations.
    pub destinations: Vec<Destinations>,
}

impl Offer {
    /// Whether its size is within the limits.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`].
    pub fn check(&self) -> Result<()> {
        for (what, count) in [("volumes", self.volumes.len()), ("destinations", self.destinations.len())] {
            if count > Policy::RULES_MAX {
                return Err(Error::new(Code::LIMIT, format!("{count} {what}, but a node may offer {}", Policy::RULES_MAX)));
            }
        }
        Ok(())
    }

    /// The first of what a guest needs of its node that this one does not offer; `None` if it offers all.
    pub fn lacks(&self, needs: &Needs) -> Option<String> {
        let offers = |name: &Name, access: Access| self.volumes.get(name).is_some_and(|offered| offered.allows(access));
        let volume = needs.volumes.iter().find(|(name, access)| !offers(name, **access));
        let net = || needs.destinations.iter().find(|wanted| !self.destinations.iter().any(|offered| offered.cover(wanted)));
        volume.map(|(name, access)| access.of_volume(name)).or_else(|| net().map(|wanted| format!("connections to {wanted}")))
    }
}

/// What a guest needs of the node it runs on, beside resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Needs {
    /// Volumes, and whether it writes there.
    pub volumes: BTreeMap<Name, Access>,
    /// Network destinations.
    pub destinations: Vec<NetGrant>,
}

impl Needs {
    /// Whether any node will do.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.destinations.is_empty()
    }
}

impl Grants {
    /// What the grants need of a node.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs { destinations: self.net.clone(), ..Needs::default() };
        for (name, access) in self.named_volumes() {
            let known = needs.volumes.entry(name.clone()).or_insert(access);
            *known = (*known).max(access);
        }
        needs
    }

    fn named_volumes(&self) -> impl Iterator<Item = (&Name, Access)> {
        self.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Named(name) => Some((name, volume.access)),
            VolumeSource::Host(_) => None,
        })
    }
}

impl Access {
    /// Whether this access is enough for what is wanted.
    pub fn allows(self, wanted: Self) -> bool {
        self >= wanted
    }

    fn of_volume(self, name: &Name) -> String {
        match self {
            Self::ReadOnly => format!("volume `{name}`"),
            Self::ReadWrite => format!("volume `{name}` to be written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::VolumeGrant;

    fn covers(rule: &str, wanted: &str) -> bool {
        rule.parse::<Destinations>().unwrap().cover(&wanted.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_known() {
        for ip in [
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "fc00::1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(special_address(ip.parse().unwrap()).is_some(), "{ip}");
        }
        for ip in ["93.184.216.34", "10.0.0.1", "2606:2800::1"] {
            assert!(special_address(ip.parse().unwrap()).is_none(), "{ip}");
        }
    }

    #[test]
    fn destinations_cover_what_they_say() {
        for (rule, wanted, yes) in [
            ("example.org:443", "example.org:443", true),
            ("Example.ORG:443", "example.org:443", true),
            ("example.org:443", "example.org:80", false),
            ("example.org:*", "example.org:80", true),
            ("example.org:*", "a.example.org:80", false),
            ("*.example.org:443", "a.example.org:443", true),
            ("*.example.org:443", "a.b.example.org:443", true),
            ("*.example.org:443", "example.org:443", false),
            ("*.example.org:443", "evilexample.org:443", false),
            ("*:443", "example.org:443", true),
            ("*:443", "10.1.2.3:443", true),
            ("*:443", "example.org:80", false),
            ("*:*", "example.org:80", true),
            ("*:*", "127.0.0.1:80", false),
            ("*:*", "localhost:80", false),
            ("*:*", "a.localhost:80", false),
            ("*:*", "[::1]:80", false),
            ("*:*", "[::ffff:127.0.0.1]:80", false),
            ("*:*", "169.254.169.254:80", false),
            ("127.0.0.1:*", "127.0.0.1:80", true),
            ("[::1]:80", "[0:0:0:0:0:0:0:1]:80", true),
            ("localhost:80", "localhost:80", true),
            ("localhost:80", "127.0.0.1:80", false),
        ] {
            assert_eq!(covers(rule, wanted), yes, "{rule} {wanted}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in ["example.org:443", "*.example.org:*", "*:443", "*:*", "10.0.0.1:80", "[::1]:*", "[::1]:8080"] {
            assert_eq!(text.parse::<Destinations>().unwrap().to_string(), text);
        }
        for text in ["", "*", "example.org", "*.:80", "*.*:80", "a.*:80", "*.10.0.0.1:80", "*example.org:80", ":*", "x:0", "::1:*", "x:y"] {
            assert_eq!(text.parse::<Destinations>().unwrap_err().code(), Code::BAD_DESTINATION, "{text:?}");
        }
        for text in ["data", "data:ro", "*", "*:ro"] {
            assert_eq!(text.parse::<VolumeRule>().unwrap().to_string(), text);
        }
        assert_eq!("a/b".parse::<VolumeRule>().unwrap_err().code(), Code::INVALID_ARGUMENT);
    }

    fn wants(volumes: &[(&str, Access)], net: &[&str]) -> Grants {
        let volume = |(name, access): &(&str, Access)| VolumeGrant {
            source: VolumeSource::Named(Name::new(name).unwrap()),
            guest_path: "/x".into(),
            access: *access,
        };
        let net = net.iter().map(|net| net.parse().unwrap()).collect();
        Grants { volumes: volumes.iter().map(volume).collect(), net, ..Grants::default() }
    }

    #[test]
    fn a_policy_says_what_it_does_not_allow() {
        let tenant = Tenant::new("acme").unwrap();
        let policy = Policy {
            open: false,
            volumes: vec!["data:ro".parse().unwrap(), "scratch".parse().unwrap()],
            destinations: vec!["*.example.org:443".parse().unwrap()],
            weight: None,
        };
        let of = |grants: &Grants| policy.allows(&tenant, grants);
        of(&wants(&[("data", Access::ReadOnly), ("scratch", Access::ReadWrite)], &["a.example.org:443"])).unwrap();
        let refused = of(&wants(&[("data", Access::ReadWrite)], &[])).unwrap_err();
        assert_eq!((refused.code(), refused.field("refused_by")), (Code::POLICY_REFUSED, Some("tenant")));
        assert_eq!(refused.message(), "the policy of tenant `acme` does not allow volume `data` to be written");
        assert!(refused.next_step().unwrap().ends_with("`rwasm tenant policy set acme --volume data`"));
        assert_eq!(of(&wants(&[], &["example.org:443"])).unwrap_err().code(), Code::POLICY_REFUSED);
        assert!(Policy::default().allows(&tenant, &wants(&[], &["a:1"])).is_err());
        Policy::default().allows(&tenant, &Grants::default()).unwrap();
        Policy::open().allows(&tenant, &wants(&[("x", Access::ReadWrite)], &["127.0.0.1:1"])).unwrap();
    }

    #[test]
    fn an_offer_says_what_it_lacks() {
        let offer =
            Offer { volumes: [(Name::new("data").unwrap(), Access::ReadOnly)].into(), destinations: vec!["127.0.0.1:80".parse().unwrap()] };
        let lacks = |grants: &Grants| offer.lacks(&grants.needs());
        assert_eq!(lacks(&wants(&[("data", Access::ReadOnly)], &["127.0.0.1:80"])), None);
        assert_eq!(lacks(&wants(&[("data", Access::ReadWrite)], &[])).as_deref(), Some("volume `data` to be written"));
        assert_eq!(
            lacks(&wants(&[("data", Access::ReadOnly), ("data", Access::ReadWrite)], &[])).as_deref(),
            Some("volume `data` to be written")
        );
        assert_eq!(lacks(&wants(&[("gone", Access::ReadOnly)], &[])).as_deref(), Some("volume `gone`"));
        assert_eq!(lacks(&wants(&[], &["127.0.0.1:81"])).as_deref(), Some("connections to 127.0.0.1:81"));
        assert!(Grants::default().needs().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in "[*a-z0-9.:\\[\\]]{0,24}") {
            if let Ok(rule) = text.parse::<Destinations>() {
                prop_assert_eq!(rule.to_string().parse::<Destinations>().unwrap(), rule);
            }
        }
    }
}
