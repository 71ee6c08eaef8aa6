//! What guests can import, linked once per engine profile and world.

use std::sync::OnceLock;

use rwasm_types::{Error, Result};
use rwasm_values::{ArtifactInfo, Profile};
use wasmtime::{Engine, component::Linker};
use wasmtime_wasi::{p2, p3};

use crate::{guest, net, objects, store::Host, tasks};

/// How much of the world an artifact sees. The smallest that fits is taken: fewer imports, less to attack, and no fiber for `Core`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// `context` and `log` of `rwasm:core`: nothing blocks.
    Core,
    /// The same, objects and tasks.
    Objects,
    /// All of that and WASI.
    Wasi,
}

impl World {
    pub(crate) fn of(info: &ArtifactInfo) -> Self {
        let imports = |prefix| info.imports.iter().any(|import| import.name.starts_with(prefix));
        if imports("wasi:") {
            Self::Wasi
        } else if imports(objects::INTERFACE) || imports(tasks::INTERFACE) {
            Self::Objects
        } else {
            Self::Core
        }
    }
}

/// The linkers of one engine, made when first needed.
#[derive(Default)]
pub(crate) struct Linkers {
    core: OnceLock<Linker<Host>>,
    objects: OnceLock<Linker<Host>>,
    wasi: OnceLock<Linker<Host>>,
}

impl Linkers {
    pub(crate) fn get(&self, engine: &Engine, profile: Profile, world: World) -> Result<&Linker<Host>> {
        let cell = match world {
            World::Core => &self.core,
            World::Objects => &self.objects,
            World::Wasi => &self.wasi,
        };
        if let Some(linker) = cell.get() {
            return Ok(linker);
        }
        let linker =
            linker(engine, profile, world).map_err(|error| Error::internal(format!("the host's imports do not link: {error:#}")))?;
        Ok(cell.get_or_init(|| linker))
    }
}

fn linker(engine: &Engine, profile: Profile, world: World) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    guest::add_to_linker(&mut linker)?;
    if world != World::Core {
        objects::add_to_linker(&mut linker)?;
        tasks::add_to_linker(&mut linker)?;
    }
    if world == World::Wasi {
        p2::add_to_linker_async(&mut linker)?;
        if profile == Profile::Async {
            p3::add_to_linker(&mut linker)?;
        }
        net::add_to_linker(&mut linker, profile)?;
    }
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use rwasm_artifact::{HOST, Track};

    use super::*;
    use crate::config;

    /// Interfaces that hosts are known to have, and this one has not.
    const OTHERS: &[(&str, u64)] = &[
        ("rwasm:core/actors", 1),
        ("wasi:blobstore/blobstore", 2),
        ("wasi:cli/run", 2),
        ("wasi:cli/run", 3),
        ("wasi:cli/types", 2),
        ("wasi:clocks/timezone", 2),
        ("wasi:clocks/timezone", 3),
        ("wasi:clocks/wall-clock", 3),
        ("wasi:config/store", 2),
        ("wasi:http/handler", 3),
        ("wasi:http/incoming-handler", 2),
        ("wasi:http/outgoing-handler", 2),
        ("wasi:http/types", 2),
        ("wasi:http/types", 3),
        ("wasi:io/poll", 3),
        ("wasi:keyvalue/store", 2),
        ("wasi:messaging/consumer", 2),
        ("wasi:nn/graph", 2),
        ("wasi:sockets/network", 3),
        ("wasi:sockets/types", 2),
        ("wasi:threads/threads", 2),
        ("wasi:tls/types", 2),
    ];

    /// Interfaces without a function.
    const TYPES_ONLY: &[&str] = &["wasi:cli/types"];

    /// Whether a linker has an interface, of any version of a track.
    fn has(linker: &Linker<Host>, name: &str, track: Track) -> bool {
        let mut linker = linker.clone();
        // What is defined already cannot be defined again.
        let mut taken = |patch: u32| {
            let name = format!("{name}@{}.{}.{patch}", track.major, track.minor);
            linker.root().func_wrap(&name, |_, (): ()| Ok(())).is_err()
        };
        (0..50).any(&mut taken)
    }

    /// What artifacts are told that the host provides is what it provides, and no more.
    #[test]
    fn the_host_is_as_artifacts_know_it() {
        for profile in [Profile::Fast, Profile::Async] {
            let engine = Engine::new(&config::config(profile, None)).unwrap();
            let all = linker(&engine, profile, World::Wasi).unwrap();
            let [core, objects] = [World::Core, World::Objects].map(|world| linker(&engine, profile, world).unwrap());
            for host in HOST {
                // What has only types is in no linker: whoever imports it finds all of it in its own.
                let expected = !TYPES_ONLY.contains(&host.name) && (profile == Profile::Async || host.track.minor != 3);
                assert_eq!(has(&all, host.name, host.track), expected, "{} {:?} in {profile:?}", host.name, host.track);
                assert_eq!(has(&objects, host.name, host.track), host.name.starts_with("rwasm:"), "{}", host.name);
                // A guest that imports nothing else is called on the bare thread, where nothing can wait.
                let waits = host.blocking || host.name.starts_with("wasi:");
                assert_eq!(has(&core, host.name, host.track), !waits, "{}", host.name);
            }
            for (name, minor) in OTHERS {
                let track = Track { major: 0, minor: *minor };
                assert!(!has(&all, name, track), "{name} 0.{minor} in {profile:?}");
                assert!(!HOST.iter().any(|host| host.name == *name && host.track == track), "{name} 0.{minor}");
            }
        }
    }
}
