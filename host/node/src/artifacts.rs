//! Artifacts on this node's disk: the bytes as submitted, by digest, and what they offer. A tenant sees its own only.
//!
//! ```text
//! STATE/artifacts/<tenant>/<digest>.wasm     the bytes
//! STATE/artifacts/<tenant>/<digest>.json     what they offer
//! ```

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rwasm_runtime::create_private_dir;
use rwasm_types::{
    ArtifactDigest, Code, Error, Result, Tenant,
    api::{ArtifactRecord, Listing},
};
use rwasm_values::ArtifactInfo;
use rwasm_wire::{CHUNK_BYTES, Inbound, Outbound, Sender, convert, msg};
use tempfile::NamedTempFile;

/// The largest artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 256 << 20;

/// The artifacts of a node.
#[derive(Debug)]
pub(crate) struct Artifacts {
    dir: PathBuf,
}

impl Artifacts {
    /// Opens the store; makes it if absent.
    ///
    /// # Errors
    ///
    /// If its directory cannot be made or belongs to somebody else.
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let dir = state_dir.join("artifacts");
        create_private_dir(&dir).map_err(|error| disk(&error, &dir))?;
        Ok(Self { dir })
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
            tracing::error!(path = %path.display(), %error, "a stored artifact was damaged; it is dropped");
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
        let mut file = NamedTempFile::new_in(dir)?;
        fill(&mut file)?;
        file.persist(path)?;
        Ok(())
    }

    /// Stores an artifact as it arrives; it is there when all of it is, and is what it was announced to be.
    ///
    /// # Errors
    ///
    /// [`Code::ARTIFACT_TOO_LARGE`], [`Code::DIGEST_MISMATCH`], [`Code::DISK_FULL`], or what the stream says.
    pub(crate) async fn receive(&self, tenant: &Tenant, mut chunks: Inbound<msg::ArtifactChunk>) -> Result<ArtifactDigest> {
        let first = convert::required(chunks.next().await?, "an artifact's first chunk")?;
        let digest = convert::digest(&first.digest)?;
        if first.length > ARTIFACT_BYTES_MAX {
            return Err(too_large(first.length));
        }
        let dir = self.dir.join(tenant.as_str());
        let opened = create_private_dir(&dir).and_then(|()| NamedTempFile::new_in(&dir));
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
        let path = self.path(tenant, digest, "wasm");
        file.persist(&path).map_err(|error| disk(&error.error, &path))?;
        Ok(digest)
    }

    /// The tenant's artifacts, newest first.
    pub(crate) fn list(&self, tenant: &Tenant, limit: usize) -> Listing<ArtifactRecord> {
        let entries = fs::read_dir(self.dir.join(tenant.as_str())).into_iter().flatten().flatten();
        let record = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let digest = format!("b3:{}", name.to_str()?.strip_suffix(".wasm")?).parse().ok()?;
            let metadata = entry.metadata().ok()?;
            let stored = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            let stored_ms = u64::try_from(stored.as_millis()).ok()?;
            Some(ArtifactRecord { digest, tenant: tenant.clone(), size_bytes: metadata.len(), stored_ms })
        };
        let mut rows: Vec<ArtifactRecord> = entries.filter_map(record).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.stored_ms), row.digest));
        let total = rows.len() as u64;
        rows.truncate(limit);
        Listing { rows, total, missing: Vec::new() }
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
