//! What guests can import, linked once per engine profile and world.

use std::sync::OnceLock;

use rwasm_types::{Error, Result};
use rwasm_values::{ArtifactInfo, Profile};
use wasmtime::{Engine, component::Linker};
use wasmtime_wasi::{p2, p3};

use crate::{guest, net, store::Host};

/// How much of the world an artifact sees. The smallest that fits is taken: fewer imports, less to attack, and no fiber for `Core`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// `rwasm:core`: nothing blocks.
    Core,
    /// The same and WASI.
    Wasi,
}

impl World {
    pub(crate) fn of(info: &ArtifactInfo) -> Self {
        if info.imports.iter().any(|import| import.name.starts_with("wasi:")) { Self::Wasi } else { Self::Core }
    }
}

/// The linkers of one engine, made when first needed.
#[derive(Default)]
pub(crate) struct Linkers {
    core: OnceLock<Linker<Host>>,
    wasi: OnceLock<Linker<Host>>,
}

impl Linkers {
    pub(crate) fn get(&self, engine: &Engine, profile: Profile, world: World) -> Result<&Linker<Host>> {
        let cell = match world {
            World::Core => &self.core,
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
    if world == World::Wasi {
        p2::add_to_linker_async(&mut linker)?;
        if profile == Profile::Async {
            p3::add_to_linker(&mut linker)?;
        }
        net::add_to_linker(&mut linker, profile)?;
    }
    Ok(linker)
}
