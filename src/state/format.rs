//! `STATE/format.json`: which format a state directory has.

use std::{fs, io, path::Path};

use rwasm_runtime::write_private;
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::io_error;

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
/// The file's name.
pub(super) const FILE: &str = "format.json";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) format: u32,
    /// Whether a head has used the directory, so that there must be a journal.
    #[serde(default)]
    pub(super) head: bool,
    /// Set while a backup is being put back.
    #[serde(default)]
    pub(super) restoring: bool,
}

impl Format {
    /// What a directory has that nobody has used.
    pub(super) const NEW: Self = Self { format: FORMAT, head: false, restoring: false };

    /// What a directory has; `None` if it does not say, as a new one.
    ///
    /// # Errors
    ///
    /// [`Code::NEWER_STATE`] for a later format, [`Code::DAMAGED_STATE`] if it is not understood, or the directory is half restored.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, &error)),
        };
        let damaged = |message: String| Error::new(Code::DAMAGED_STATE, message).hint("put a backup back with `rwasm state restore`");
        let found: Self =
            serde_json::from_slice(&json).map_err(|error| damaged(format!("{} is not understood: {error}", path.display())))?;
        if found.format > FORMAT {
            let message = format!("{} has format {}, and this version of rwasm reads formats up to {FORMAT}", dir.display(), found.format);
            return Err(Error::new(Code::NEWER_STATE, message).hint("start it with the version that wrote it, or a later one"));
        }
        if found.restoring {
            return Err(Error::new(Code::DAMAGED_STATE, format!("{} is half restored", dir.display()))
                .hint("empty it, and restore the backup again"));
        }
        Ok(Some(found))
    }

    /// What a directory has; one that does not say becomes one of this version.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        if let Some(known) = Self::read(dir)? {
            return Ok(known);
        }
        Self::NEW.write(dir)?;
        Ok(Self::NEW)
    }

    /// Writes it, durably.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let json = serde_json::to_vec(self).map_err(|error| Error::internal(format!("a format has no JSON: {error}")))?;
        write_private(&path, &json).map_err(|error| io_error(&path, &error))
    }
}
