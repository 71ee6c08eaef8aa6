//! Capabilities that a submit asks for. Whatever is not named here, a guest does not have.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Code, Error, Name};

/// What a guest is given beyond computing: the default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Command-line arguments after the program's name.
    pub args: Vec<String>,
    /// Environment variables, in the order given.
    pub env: Vec<(String, String)>,
    /// Standard input; empty if not given.
    pub stdin: Bytes,
    /// Directories.
    pub volumes: Vec<VolumeGrant>,
    /// Network destinations.
    pub net: Vec<NetGrant>,
}

impl Grants {
    /// The most arguments, variables, volumes or destinations of a submit, each.
    pub const COUNT_MAX: usize = 256;
    /// The most bytes of all arguments and variables together.
    pub const TEXT_BYTES_MAX: usize = 1 << 20;
    /// The most bytes of standard input.
    pub const STDIN_BYTES_MAX: usize = 64 << 20;

    /// Checks counts and sizes, and that names and values hold no NUL and names no `=`.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`] or [`Code::INVALID_ARGUMENT`], naming the first grant that does not fit.
    pub fn check(&self) -> Result<(), Error> {
        let counts =
            [("arguments", self.args.len()), ("--env", self.env.len()), ("--dir", self.volumes.len()), ("--allow-net", self.net.len())];
        for (what, count) in counts {
            if count > Self::COUNT_MAX {
                return Err(Error::new(Code::LIMIT, format!("{count} {what}, but a submit may have {}", Self::COUNT_MAX)));
            }
        }
        let text: usize = self.args.iter().map(String::len).chain(self.env.iter().map(|(key, value)| key.len() + value.len())).sum();
        if text > Self::TEXT_BYTES_MAX {
            let message = format!("arguments and variables have {text} bytes together, but may have {}", Self::TEXT_BYTES_MAX);
            return Err(Error::new(Code::LIMIT, message).hint("give large input by --stdin"));
        }
        if self.stdin.len() > Self::STDIN_BYTES_MAX {
            let message = format!("standard input has {} bytes, but may have {}", self.stdin.len(), Self::STDIN_BYTES_MAX);
            return Err(Error::new(Code::LIMIT, message));
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(Error::new(Code::INVALID_ARGUMENT, "an argument holds a NUL byte"));
        }
        match self.env.iter().find(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')) {
            Some((key, _)) => Err(Error::new(Code::INVALID_ARGUMENT, format!("`{}` is not a variable's name", key.escape_default()))),
            None => Ok(()),
        }
    }
}

/// What a guest may do in a directory; the second includes the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read files and list directories.
    ReadOnly,
    /// Also create, change and delete.
    ReadWrite,
}

/// Where a granted directory lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// A directory of the machine that the command runs on; embedded clusters only.
    Host(PathBuf),
    /// A volume that nodes offer by name.
    Named(Name),
}

/// A directory of the host or a node's volume, shown to the guest under a path of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeGrant {
    /// Where the files are.
    pub source: VolumeSource,
    /// Where the guest sees them.
    pub guest_path: String,
    /// What the guest may do with them.
    pub access: Access,
}

/// A host and port that a guest may connect to. Names are resolved when the guest asks; what they resolve to is checked again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetGrant {
    /// A host name in lower case, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl NetGrant {
    /// The address, where the grant names one instead of a host.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for NetGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl FromStr for NetGrant {
    type Err = Error;

    /// Reads `HOST:PORT`, where HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            Error::new(Code::BAD_DESTINATION, format!("`{shown}` is not a destination: {why}"))
                .hint("write HOST:PORT, as in example.org:443")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("it has no port"))?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| error("its port is not a number from 1 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6.to_owned(),
            Some(_) => return Err(error("what stands in brackets is no IPv6 address")),
            None => host.to_ascii_lowercase(),
        };
        let label =
            |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let named = host.len() <= 253 && host.split('.').all(label);
        if named || bracketed.is_some() { Ok(Self { host, port }) } else { Err(error("its host is neither a name nor an address")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for text in ["example.org:443", "10.0.0.1:80", "[::1]:8080", "a_b:1"] {
            assert_eq!(text.parse::<NetGrant>().unwrap().to_string(), text);
        }
        for text in ["", "x", "x:", "x:0", "x:65536", ":80", "::1:80", "[::1", "[x]:1", "a b:1", "a..b:1", "http://x:80"] {
            assert_eq!(text.parse::<NetGrant>().unwrap_err().code(), Code::BAD_DESTINATION, "{text:?}");
        }
    }

    #[test]
    fn grants_are_bounded() {
        let many = Grants { args: vec![String::new(); Grants::COUNT_MAX + 1], ..Grants::default() };
        assert_eq!(many.check().unwrap_err().code(), Code::LIMIT);
        let long = Grants { env: vec![("A".into(), "x".repeat(Grants::TEXT_BYTES_MAX))], ..Grants::default() };
        assert_eq!(long.check().unwrap_err().code(), Code::LIMIT);
        for key in ["", "A=B", "A\0"] {
            let bad = Grants { env: vec![(key.into(), String::new())], ..Grants::default() };
            assert_eq!(bad.check().unwrap_err().code(), Code::INVALID_ARGUMENT);
        }
    }
}
