//! The compile cache on disk. An entry is used only if this installation made it, whole, for exactly this engine.
//!
//! ```text
//! CACHE/secret                          32 random bytes, 0600: the key of the hashes below
//! CACHE/tenants/<tenant>/<key>.cwasm    machine code
//! CACHE/tenants/<tenant>/<key>.json     what the artifact offers, and a keyed hash over both and their name
//! CACHE/scratch-…/                      where children work; what a crash leaves is removed at the next start
//! ```
//!
//! `key` covers the artifact's digest and everything that machine code depends on: engine version, configuration, processor features.
//! A stale entry therefore has another key, and one that is truncated, changed, another installation's, or moved to the name of another
//! artifact or tenant has another hash; all are compiled anew. Machine code is never taken from the network.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rwasm_types::{ArtifactDigest, Result, Tenant};
use rwasm_values::ArtifactInfo;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Compiled, child::disk_error, evict, worker};

/// Grows when the meaning of entries changes.
const FORMAT: u32 = 2;
const SCRATCH_PREFIX: &str = "scratch-";
/// Below the cache's directory: a directory for each tenant.
const TENANTS: &str = "tenants";
const SECRET_PREFIX: &str = "secret-";
/// Writing a secret takes no longer.
const SECRET_WRITTEN_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Cache {
    dir: PathBuf,
    secret: [u8; 32],
    compatibility: blake3::Hash,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// Over the entry's name, the machine code and `info`, with the installation's secret as key.
    hash: String,
    /// [`ArtifactInfo`] as JSON text, kept as text so that the hash covers the very bytes that are read.
    info: String,
}

impl Cache {
    pub(super) fn open(dir: &Path, compatibility: blake3::Hash) -> Result<Self> {
        let open = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let dir = dir.canonicalize()?;
            remove_scratch(&dir)?;
            let secret = secret(&dir)?;
            Ok(Self { dir, secret, compatibility })
        };
        open().map_err(|error: io::Error| disk_error(&error, dir))
    }

    /// A directory for one child to work in, removed with the value.
    pub(super) fn scratch(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix(&format!("{SCRATCH_PREFIX}{}-", std::process::id()))
            .tempdir_in(&self.dir)
            .map_err(|error| disk_error(&error, &self.dir))
    }

    /// Where an entry's machine code lies, below the cache's directory.
    fn name(&self, tenant: &Tenant, digest: ArtifactDigest) -> PathBuf {
        let key = blake3::Hasher::new().update(&digest.0).update(self.compatibility.as_bytes()).update(&FORMAT.to_le_bytes()).finalize();
        of_tenant(tenant).join(format!("{}.cwasm", key.to_hex()))
    }

    /// The entry of an artifact, if there is one and it is whole and ours.
    pub(super) fn look_up(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Compiled> {
        let name = self.name(tenant, digest);
        let code = self.dir.join(&name);
        let entry = fs::read(code.with_extension("json")).ok()?;
        let read = || {
            let entry: Entry = serde_json::from_slice(&entry).ok()?;
            let hash = self.hash(&name, &code, &entry.info).ok()?;
            // Equality of two `Hash` values takes the same time whatever they hold.
            let ours = entry.format == FORMAT && blake3::Hash::from_hex(&entry.hash).is_ok_and(|expected| expected == hash);
            ours.then(|| serde_json::from_str(&entry.info).ok()).flatten()
        };
        let info = read();
        if info.is_none() {
            tracing::warn!(%tenant, artifact = %digest.short(), "a compile cache entry is not what was written, compiling anew");
        }
        let info = Arc::new(info?);
        evict::touch(&code);
        Some(Compiled { info, code })
    }

    /// Bytes of an artifact's entry; 0 if there is none.
    pub(super) fn size(&self, tenant: &Tenant, digest: ArtifactDigest) -> u64 {
        evict::size(&self.code(tenant, digest))
    }

    /// Removes an artifact's entry; gives the bytes that it had.
    pub(super) fn remove(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<u64> {
        evict::remove(&self.code(tenant, digest)).map_err(|error| disk_error(&error, &self.dir))
    }

    /// Removes what was not used for longest, beside the artifacts that are in use, until the rest has at most so many bytes.
    pub(super) fn evict(&self, bytes_max: u64, in_use: &[(Tenant, ArtifactDigest)]) {
        let kept = in_use.iter().map(|(tenant, digest)| self.code(tenant, *digest)).collect();
        evict::evict(&self.dir.join(TENANTS), bytes_max, &kept);
    }

    fn code(&self, tenant: &Tenant, digest: ArtifactDigest) -> PathBuf {
        self.dir.join(self.name(tenant, digest))
    }

    /// Makes an entry of what a child left in `scratch`.
    pub(super) fn insert(&self, tenant: &Tenant, digest: ArtifactDigest, info: ArtifactInfo, scratch: TempDir) -> Result<Compiled> {
        let name = self.name(tenant, digest);
        let code = self.dir.join(&name);
        let insert = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join(of_tenant(tenant)))?;
            let info = serde_json::to_string(&info)?;
            let hash = self.hash(&name, &scratch.path().join(worker::CODE), &info)?.to_hex().to_string();
            let entry = serde_json::to_vec(&Entry { format: FORMAT, hash, info })?;
            let written = scratch.path().join("entry.json");
            fs::write(&written, entry)?;
            // Code first: an entry without it is never seen, and code without an entry is never used.
            fs::rename(scratch.path().join(worker::CODE), &code)?;
            fs::rename(written, code.with_extension("json"))
        };
        insert().map_err(|error: io::Error| disk_error(&error, &self.dir))?;
        Ok(Compiled { info: Arc::new(info), code })
    }

    /// Removes all of a tenant's entries.
    pub(super) fn remove_tenant(&self, tenant: &Tenant) {
        let dir = self.dir.join(of_tenant(tenant));
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%tenant, path = %dir.display(), %error, "compiled code of a deleted tenant cannot be removed");
            }
            _ => {}
        }
    }

    fn hash(&self, name: &Path, code: &Path, info: &str) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update_reader(fs::File::open(code)?)?;
        for text in [info.as_bytes(), name.as_os_str().as_bytes()] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
        }
        Ok(hasher.finalize())
    }
}

/// Where a tenant's entries lie below the cache's directory: apart from our own files, whatever a tenant is called.
fn of_tenant(tenant: &Tenant) -> PathBuf {
    Path::new(TENANTS).join(tenant.as_str())
}

/// The installation's secret, made by whoever comes first.
fn secret(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join("secret");
    loop {
        match fs::read(&path) {
            Ok(bytes) if bytes.len() == 32 && is_private(&path)? => {
                let mut secret = [0; 32];
                secret.copy_from_slice(&bytes);
                return Ok(secret);
            }
            // A crash between creating and writing left it short, or others could read it; either way it vouches for nothing.
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut secret = [0; 32];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
        let written = tempfile::Builder::new()
            .prefix(SECRET_PREFIX)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .tempfile_in(dir)?;
        fs::OpenOptions::new()
            .write(true)
            .mode(0o600)
            .open(written.path())
            .and_then(|mut file| io::Write::write_all(&mut file, &secret))?;
        match written.persist_noclobber(&path) {
            Ok(_) => return Ok(secret),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
    }
}

/// Whether a file is this user's, and readable by nobody else.
fn is_private(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.mode() & 0o077 == 0 && metadata.uid() == rustix::process::geteuid().as_raw())
}

/// Whether a path is a scratch directory.
pub(super) fn is_scratch(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(SCRATCH_PREFIX.as_bytes()))
}

/// Whether a process has ended. One that nobody has waited for yet still has a number; it works until its last thread has ended.
fn has_ended(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(Path::new("/proc").join(pid).join("stat")) else { return true };
    // The name, in brackets before, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, fields)| fields.split_whitespace().collect());
    matches!(fields.first(), Some(&("Z" | "X"))) && matches!(fields.get(17), Some(&("0" | "1")))
}

/// Whether nobody can be writing a file any more.
fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > SECRET_WRITTEN_WITHIN))
}

/// Removes scratch directories of processes that are gone.
fn remove_scratch(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(SECRET_PREFIX.as_bytes()) && is_old(&entry) {
            // Of a process that was killed before it had the secret written. Whoever is late loses a race that it would have lost anyway.
            let _ = fs::remove_file(entry.path());
        }
        let owner = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(has_ended) {
            match fs::remove_dir_all(entry.path()) {
                // Another process that starts just now came first.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_waits_for_has_ended_all_the_same() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().to_string();
        while !has_ended(&pid) {
            std::thread::yield_now();
        }
        assert!(Path::new("/proc").join(&pid).exists(), "it is there until it is waited for");
        child.wait().unwrap();
        assert!(has_ended(&pid) && !has_ended("self"));
    }
}
