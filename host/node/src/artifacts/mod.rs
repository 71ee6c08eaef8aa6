//! Artifacts on this node's disk: the bytes as submitted, by digest, and what they offer. A tenant sees its own only.
//!
//! ```text
//! STATE/artifacts/<tenant>/<digest>.wasm     the bytes; the file's time is when they were stored
//! STATE/artifacts/<tenant>/<digest>.json     what they offer; the file's time is when they were last used
//! STATE/artifacts/<tenant>/.part-…           on its way in; what a crash leaves is removed at the next start
//! ```

mod keep;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rwasm_runtime::{create_private_dir, remove_all_leftovers};
use rwasm_types::{ArtifactDigest, Code, Error, Result, Tenant, api::UnixMs};
use rwasm_values::ArtifactInfo;
use rwasm_wire::{CHUNK_BYTES, Inbound, Outbound, Sender, convert, msg};
use tempfile::NamedTempFile;

use self::keep::Held;
pub(crate) use self::keep::Hold;

/// The largest artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 256 << 20;
/// What files are called until they are whole.
const PART_PREFIX: &str = ".part-";

/// The artifacts of a node.
#[derive(Debug)]
pub(crate) struct Artifacts {
    dir: PathBuf,
    /// Bytes of all artifacts together.
    bytes_max: u64,
    /// Those that tasks of other owners use.
    held: Held,
}

/// An artifact that arrived and is what it was announced to be.
#[derive(Debug)]
pub(crate) struct Received {
    tenant: Tenant,
    digest: ArtifactDigest,
    bytes: u64,
    file: NamedTempFile,
}

/// An artifact that is stored.
#[derive(Debug)]
struct Stored {
    tenant: Tenant,
    digest: ArtifactDigest,
    bytes: u64,
    stored_ms: UnixMs,
    used_ms: UnixMs,
}

impl Artifacts {
    /// Opens the store; makes it if absent.
    ///
    /// # Errors
    ///
    /// If its directory cannot be made or belongs to somebody else.
    pub(crate) fn open(state_dir: &Path, bytes_max: u64) -> Result<Self> {
        let dir = state_dir.join("artifacts");
        create_private_dir(&dir).map_err(|error| disk(&error, &dir))?;
        remove_parts(&dir);
        Ok(Self { dir, bytes_max, held: Held::default() })
    }

    /// Holds an artifact for tasks of another owner.
    pub(crate) fn hold(&self, tenant: &Tenant, digest: ArtifactDigest) -> Hold {
        self.held.hold(tenant, digest)
    }

    fn path(&self, tenant: &Tenant, digest: ArtifactDigest, extension: &str) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(tenant.as_str()).join(format!("{}.{extension}", name.trim_start_matches("b3:")))
    }

    /// Whether an artifact is stored.
    pub(crate) fn contains(&self, tenant: &Tenant, digest: ArtifactDigest) -> bool {
        self.path(tenant, digest, "wasm").exists()
    }

    /// An artifact's bytes.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_ARTIFACT`] if the tenant has none of that digest; [`Code::DIGEST_MISMATCH`] if the file was changed.
    pub(crate) fn read(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<Bytes> {
        let path = self.path(tenant, digest, "wasm");
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => unknown(digest),
            _ => disk(&error, &path),
        })?;
        check(digest, &blake3::hash(&bytes)).inspect_err(|error| {
            tracing::error!(%tenant, path = %path.display(), %error, "a stored artifact was damaged; it is dropped");
            // Without it, the next submit brings it again. What cannot be removed is found damaged again.
            let _ = fs::remove_file(&path);
        })?;
        Ok(bytes.into())
    }

    /// What an artifact offers, if that was found out before.
    pub(crate) fn info(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Arc<ArtifactInfo>> {
        if !self.contains(tenant, digest) {
            return None;
        }
        let json = fs::read(self.path(tenant, digest, "json")).ok()?;
        serde_json::from_slice(&json).ok().map(Arc::new)
    }

    /// Keeps what an artifact offers.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn set_info(&self, tenant: &Tenant, digest: ArtifactDigest, info: &ArtifactInfo) -> Result<()> {
        let path = self.path(tenant, digest, "json");
        let json = serde_json::to_vec(info).map_err(|error| Error::internal(format!("an artifact's face has no JSON: {error}")))?;
        self.write(tenant, &path, |file| file.write_all(&json)).map_err(|error| disk(&error, &path))
    }

    fn write(&self, tenant: &Tenant, path: &Path, fill: impl FnOnce(&mut NamedTempFile) -> io::Result<()>) -> io::Result<()> {
        let dir = self.dir.join(tenant.as_str());
        create_private_dir(&dir)?;
        let mut file = part(&dir)?;
        fill(&mut file)?;
        file.persist(path)?;
        Ok(())
    }

    /// Takes an artifact as it arrives; it is stored by [`Artifacts::keep`], when all of it is there and is what it was announced to be.
    ///
    /// # Errors
    ///
    /// [`Code::ARTIFACT_TOO_LARGE`], [`Code::DIGEST_MISMATCH`], [`Code::DISK_FULL`], or what the stream says.
    pub(crate) async fn receive(&self, tenant: &Tenant, mut chunks: Inbound<msg::ArtifactChunk>) -> Result<Received> {
        let first = convert::required(chunks.next().await?, "an artifact's first chunk")?;
        let digest = convert::digest(&first.digest)?;
        if first.length > ARTIFACT_BYTES_MAX {
            return Err(too_large(first.length));
        }
        let dir = self.dir.join(tenant.as_str());
        let opened = create_private_dir(&dir).and_then(|()| part(&dir));
        let mut file = opened.map_err(|error| disk(&error, &dir))?;
        let (mut hasher, mut length, mut chunk) = (blake3::Hasher::new(), 0u64, Some(first));
        while let Some(msg::ArtifactChunk { data, .. }) = chunk {
            length += data.len() as u64;
            if length > ARTIFACT_BYTES_MAX {
                return Err(too_large(length));
            }
            hasher.update(&data);
            file.write_all(&data).map_err(|error| disk(&error, &dir))?;
            chunk = chunks.next().await?;
        }
        check(digest, &hasher.finalize())?;
        Ok(Received { tenant: tenant.clone(), digest, bytes: length, file })
    }

    /// Stores an artifact that arrived.
    ///
    /// # Errors
    ///
    /// If the disk does not take it.
    fn keep(&self, received: Received) -> Result<ArtifactDigest> {
        let Received { tenant, digest, file, .. } = received;
        let path = self.path(&tenant, digest, "wasm");
        file.persist(&path).map_err(|error| disk(&error.error, &path))?;
        Ok(digest)
    }

    /// Says that an artifact is used now. What cannot be said makes it look older than it is, and no more.
    fn touch(&self, tenant: &Tenant, digest: ArtifactDigest) {
        let path = self.path(tenant, digest, "json");
        let touched = fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(path = %path.display(), %error, "an artifact's use is not noted");
        }
    }

    /// Removes an artifact; gives the bytes that it had.
    ///
    /// # Errors
    ///
    /// If the disk does not let it go.
    fn remove(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<u64> {
        let bytes = fs::metadata(self.path(tenant, digest, "wasm")).map_or(0, |metadata| metadata.len());
        for extension in ["wasm", "json"] {
            let path = self.path(tenant, digest, extension);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(&error, &path)),
                _ => {}
            }
        }
        Ok(bytes)
    }

    /// Removes all that a tenant has.
    pub(crate) fn remove_tenant(&self, tenant: &Tenant) {
        let dir = self.dir.join(tenant.as_str());
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%tenant, path = %dir.display(), %error, "artifacts of a deleted tenant cannot be removed");
            }
            _ => {}
        }
    }

    /// What is stored, of one tenant or of all.
    fn all(&self, tenant: Option<&Tenant>) -> Vec<Stored> {
        let tenants = match tenant {
            Some(tenant) => vec![tenant.clone()],
            None => names(&self.dir).filter_map(|name| Tenant::new(&name).ok()).collect(),
        };
        let of = |tenant: Tenant| {
            let digests =
                names(&self.dir.join(tenant.as_str())).filter_map(|name| format!("b3:{}", name.strip_suffix(".wasm")?).parse().ok());
            digests.filter_map(|digest| self.stored(&tenant, digest)).collect::<Vec<_>>()
        };
        tenants.into_iter().flat_map(of).collect()
    }

    fn stored(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Stored> {
        let metadata = fs::metadata(self.path(tenant, digest, "wasm")).ok()?;
        let stored_ms = modified_ms(&metadata)?;
        let used = fs::metadata(self.path(tenant, digest, "json")).ok();
        let used_ms = used.and_then(|metadata| modified_ms(&metadata)).map_or(stored_ms, |used_ms| used_ms.max(stored_ms));
        Some(Stored { tenant: tenant.clone(), digest, bytes: metadata.len(), stored_ms, used_ms })
    }
}

/// The names in a directory; none if it cannot be read.
fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

fn modified_ms(metadata: &fs::Metadata) -> Option<UnixMs> {
    u64::try_from(metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// A file on its way in.
fn part(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PART_PREFIX).tempfile_in(dir)
}

/// Removes what was on its way in when an earlier life of this node ended; nobody else uses the directory.
fn remove_parts(dir: &Path) {
    for tenant in names(dir) {
        remove_all_leftovers(&dir.join(tenant), |name| name.starts_with(PART_PREFIX));
    }
}

/// Sends an artifact in chunks.
pub(crate) async fn send(digest: ArtifactDigest, bytes: Bytes, sender: Sender<Result<msg::ArtifactChunk>>) {
    let length = bytes.len() as u64;
    let mut rest = bytes;
    let mut first = true;
    while first || !rest.is_empty() {
        let data = rest.split_to(CHUNK_BYTES.min(rest.len()));
        let digest = if first { Bytes::copy_from_slice(&digest.0) } else { Bytes::new() };
        let chunk = msg::ArtifactChunk { digest, length: if first { length } else { 0 }, data };
        if sender.send(Ok(chunk)).await.is_err() {
            return;
        }
        first = false;
    }
}

/// An artifact as a stream.
pub(crate) fn stream(scope: &rwasm_runtime::Scope, digest: ArtifactDigest, bytes: Bytes) -> Outbound<Result<msg::ArtifactChunk>> {
    let (sender, outbound) = Outbound::channel(4);
    scope.spawn("artifact-sender", rwasm_runtime::OnEnd::Continue, send(digest, bytes, sender));
    outbound
}

fn check(digest: ArtifactDigest, found: &blake3::Hash) -> Result<()> {
    if digest.0 == *found.as_bytes() {
        return Ok(());
    }
    let message = format!("the artifact's bytes have digest {}, not {}", ArtifactDigest(*found.as_bytes()).short(), digest.short());
    Err(Error::new(Code::DIGEST_MISMATCH, message).hint("submit it again"))
}

fn unknown(digest: ArtifactDigest) -> Error {
    Error::new(Code::NO_SUCH_ARTIFACT, format!("no artifact {} is stored", digest.short())).hint("submit the file")
}

/// The error of an artifact beyond the limit.
pub fn too_large(length: u64) -> Error {
    let message =
        format!("the artifact has {}, but may have {}", rwasm_types::format_bytes(length), rwasm_types::format_bytes(ARTIFACT_BYTES_MAX));
    Error::new(Code::ARTIFACT_TOO_LARGE, message).hint("strip debug information with `wasm-tools strip`, or read large data at run time")
}

fn disk(error: &io::Error, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::DISK_FULL, format!("no space is left for artifacts in {}", path.display())).hint("free some on the node")
        }
        _ => Error::new(Code::IO, format!("cannot use {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(artifacts: &Artifacts, tenant: &Tenant, bytes: &[u8]) -> Received {
        let dir = artifacts.dir.join(tenant.as_str());
        create_private_dir(&dir).unwrap();
        let mut file = part(&dir).unwrap();
        file.write_all(bytes).unwrap();
        Received { tenant: tenant.clone(), digest: ArtifactDigest(*blake3::hash(bytes).as_bytes()), bytes: bytes.len() as u64, file }
    }

    #[test]
    fn what_is_removed_is_gone_and_what_came_in_part_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (tenant, other) = (Tenant::default(), Tenant::new("other").unwrap());
        let artifacts = Artifacts::open(dir.path(), 1 << 30).unwrap();
        let digest = artifacts.keep(received(&artifacts, &tenant, b"one")).unwrap();
        artifacts.keep(received(&artifacts, &other, b"three")).unwrap();
        let (_file, left) = received(&artifacts, &tenant, b"half").file.keep().unwrap();
        assert_eq!(artifacts.all(None).iter().map(|stored| stored.bytes).sum::<u64>(), 8);
        assert_eq!(artifacts.all(Some(&tenant)).len(), 1, "a part is no artifact");
        let artifacts = Artifacts::open(dir.path(), 1 << 30).unwrap();
        assert!(!left.exists() && artifacts.contains(&tenant, digest));
        assert_eq!((artifacts.remove(&tenant, digest).unwrap(), artifacts.remove(&tenant, digest).unwrap()), (3, 0));
        assert!(!artifacts.contains(&tenant, digest));
        assert_eq!(artifacts.all(None).len(), 1);
    }

    #[test]
    fn a_use_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = Tenant::default();
        let artifacts = Artifacts::open(dir.path(), 1 << 30).unwrap();
        let digest = artifacts.keep(received(&artifacts, &tenant, b"one")).unwrap();
        fs::write(artifacts.path(&tenant, digest, "json"), "{}").unwrap();
        let back = |extension: &str| {
            let file = fs::File::options().write(true).open(artifacts.path(&tenant, digest, extension)).unwrap();
            file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(7)).unwrap();
        };
        back("wasm");
        back("json");
        let times = || artifacts.stored(&tenant, digest).map(|stored| (stored.stored_ms, stored.used_ms)).unwrap();
        assert_eq!(times(), (7_000, 7_000));
        artifacts.touch(&tenant, digest);
        assert!(times().0 == 7_000 && times().1 > 7_000, "{:?}", times());
    }
}
