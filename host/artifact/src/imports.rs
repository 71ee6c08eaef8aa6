//! What the host provides, by interface. Anything else that a guest imports is missing.

use rwasm_values::{GrantKind, Import, InterfaceName, Need};
use semver::Version;

use crate::source;

/// A line of versions that are compatible with each other, as semantic versioning has it: 0.2.0, 0.2.6 and 0.2.99 are on track 0.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// The first number.
    pub major: u64,
    /// The second number, which counts as long as the first is 0.
    pub minor: u64,
}

impl Track {
    /// Whether a version is on the track. A version before a release is on none, as in wasmtime.
    pub fn holds(self, version: &Version) -> bool {
        let minor = if self.major == 0 { version.minor == self.minor } else { true };
        version.pre.is_empty() && version.major == self.major && minor
    }
}

/// An interface that every guest can import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name without the version: `wasi:cli/stdout`.
    pub name: &'static str,
    /// The versions that fit. One that is newer than what the host was built with fits as well.
    pub track: Track,
    /// What it takes to provide it.
    pub need: Need,
    /// Whether a call, or the end of a resource, may suspend the guest.
    pub blocking: bool,
}

const CORE: Track = Track { major: 0, minor: 1 };
const P2: Track = Track { major: 0, minor: 2 };
const P3: Track = Track { major: 0, minor: 3 };

const fn ready(name: &'static str, track: Track) -> HostInterface {
    HostInterface { name, track, need: Need::Provided, blocking: false }
}

const fn waiting(name: &'static str, track: Track) -> HostInterface {
    HostInterface { name, track, need: Need::Provided, blocking: true }
}

const fn granted(name: &'static str, track: Track, kind: GrantKind, blocking: bool) -> HostInterface {
    HostInterface { name, track, need: Need::Grant(kind), blocking }
}

/// Everything that the host provides.
pub const HOST: &[HostInterface] = &[
    ready("rwasm:core/context", CORE),
    ready("rwasm:core/log", CORE),
    waiting("rwasm:core/objects", CORE),
    waiting("rwasm:core/tasks", CORE),
    ready("wasi:cli/environment", P2),
    ready("wasi:cli/exit", P2),
    ready("wasi:cli/stdin", P2),
    ready("wasi:cli/stdout", P2),
    ready("wasi:cli/stderr", P2),
    ready("wasi:cli/terminal-input", P2),
    ready("wasi:cli/terminal-output", P2),
    ready("wasi:cli/terminal-stdin", P2),
    ready("wasi:cli/terminal-stdout", P2),
    ready("wasi:cli/terminal-stderr", P2),
    ready("wasi:io/error", P2),
    waiting("wasi:io/poll", P2),
    waiting("wasi:io/streams", P2),
    // To subscribe only makes a pollable; who waits for it imports `poll`.
    ready("wasi:clocks/monotonic-clock", P2),
    ready("wasi:clocks/wall-clock", P2),
    ready("wasi:random/random", P2),
    ready("wasi:random/insecure", P2),
    ready("wasi:random/insecure-seed", P2),
    granted("wasi:filesystem/types", P2, GrantKind::Directory, true),
    granted("wasi:filesystem/preopens", P2, GrantKind::Directory, false),
    granted("wasi:sockets/network", P2, GrantKind::Network, false),
    granted("wasi:sockets/instance-network", P2, GrantKind::Network, false),
    granted("wasi:sockets/tcp", P2, GrantKind::Network, true),
    granted("wasi:sockets/tcp-create-socket", P2, GrantKind::Network, true),
    granted("wasi:sockets/udp", P2, GrantKind::Network, true),
    granted("wasi:sockets/udp-create-socket", P2, GrantKind::Network, true),
    granted("wasi:sockets/ip-name-lookup", P2, GrantKind::Network, true),
    ready("wasi:cli/types", P3),
    ready("wasi:cli/environment", P3),
    ready("wasi:cli/exit", P3),
    waiting("wasi:cli/stdin", P3),
    waiting("wasi:cli/stdout", P3),
    waiting("wasi:cli/stderr", P3),
    ready("wasi:cli/terminal-input", P3),
    ready("wasi:cli/terminal-output", P3),
    ready("wasi:cli/terminal-stdin", P3),
    ready("wasi:cli/terminal-stdout", P3),
    ready("wasi:cli/terminal-stderr", P3),
    ready("wasi:clocks/types", P3),
    waiting("wasi:clocks/monotonic-clock", P3),
    ready("wasi:clocks/system-clock", P3),
    ready("wasi:random/random", P3),
    ready("wasi:random/insecure", P3),
    ready("wasi:random/insecure-seed", P3),
    granted("wasi:filesystem/types", P3, GrantKind::Directory, true),
    granted("wasi:filesystem/preopens", P3, GrantKind::Directory, false),
    granted("wasi:sockets/types", P3, GrantKind::Network, true),
    granted("wasi:sockets/ip-name-lookup", P3, GrantKind::Network, true),
];

/// What is known of an imported interface.
pub(crate) fn interface(name: &str) -> Import {
    let found = name.parse::<InterfaceName>().ok().and_then(|interface| {
        let version = interface.version()?.clone();
        let plain = name.split('@').next()?;
        HOST.iter().find(|host| host.name == plain && host.track.holds(&version))
    });
    match found {
        Some(host) => Import { name: name.to_owned(), need: host.need, blocking: host.blocking },
        None => missing(name),
    }
}

/// An import that is no interface, or none that the host has. Nobody knows whether it would block.
pub(crate) fn missing(name: &str) -> Import {
    Import { name: source::one_line(name), need: Need::Missing, blocking: true }
}

/// Whether the name is that of an interface of WASI 0.3.
pub(crate) fn is_wasi_03(name: &str) -> bool {
    name.starts_with("wasi:")
        && name.parse::<InterfaceName>().is_ok_and(|interface| interface.version().is_some_and(|v| (v.major, v.minor) == (0, 3)))
}

/// Whether the name is that of `wasi:cli/run`, of a version that the host can call.
pub(crate) fn is_run(name: &InterfaceName) -> bool {
    let Some(package) = &name.package else { return false };
    let known = (&*package.namespace, &*package.name, &*name.name) == ("wasi", "cli", "run");
    known && name.version().is_some_and(|version| P2.holds(version) || P3.holds(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compatible_along_their_track() {
        for (name, need) in [
            ("wasi:cli/stdout@0.2.0", Need::Provided),
            ("wasi:cli/stdout@0.2.6", Need::Provided),
            ("wasi:cli/stdout@0.2.99", Need::Provided),
            ("wasi:cli/stdout@0.3.0", Need::Provided),
            ("wasi:cli/stdout@0.3.0-rc-2025-09-16", Need::Missing),
            ("wasi:cli/stdout@0.2.0-rc-2023-11-10", Need::Missing),
            ("wasi:cli/stdout@0.4.0", Need::Missing),
            ("wasi:cli/stdout", Need::Missing),
            ("wasi:clocks/wall-clock@0.3.0", Need::Missing),
            ("wasi:filesystem/types@0.2.6", Need::Grant(GrantKind::Directory)),
            ("wasi:sockets/tcp@0.2.6", Need::Grant(GrantKind::Network)),
            ("wasi:http/types@0.2.6", Need::Missing),
            ("rwasm:core/log@0.1.0", Need::Provided),
            ("rwasm:core/log@0.1.7", Need::Provided),
            ("rwasm:core/log@0.2.0", Need::Missing),
            ("rwasm:core/objects@0.1.0", Need::Provided),
            ("rwasm:core/actors@0.1.0", Need::Missing),
            ("evil:cli/stdout@0.2.6", Need::Missing),
            ("stdout", Need::Missing),
        ] {
            assert_eq!(interface(name).need, need, "{name}");
        }
        assert!(Track { major: 1, minor: 0 }.holds(&Version::new(1, 7, 0)));
    }

    #[test]
    fn the_table_has_no_name_twice() {
        for (index, a) in HOST.iter().enumerate() {
            assert!(HOST[index + 1..].iter().all(|b| (a.name, a.track) != (b.name, b.track)), "{}", a.name);
        }
    }
}
