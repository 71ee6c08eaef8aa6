//! Where objects go when memory runs short: a directory, or any place that the crate `object_store` has a URL for.

use std::{env, fmt, io, path::PathBuf, sync::Arc, thread};

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use rwasm_objects::{Directory, Spill, SpillTarget};
use rwasm_runtime::now_ms;
use rwasm_types::{Code, Error, NodeId, Result};
use tokio::runtime::{self, Runtime};
use url::Url;

/// What a node has to spill to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillOptions {
    /// Where to.
    pub to: SpillTo,
    /// Bytes that may be there.
    pub most_bytes: u64,
}

/// Where objects go when memory runs short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpillTo {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A place of `object_store`: `s3://bucket/prefix`, `gs://…`, `az://…`, `https://…`, `file:///…`. What it needs to be let in is in the
    /// environment, under the names that the crate knows.
    Url(Url),
}

impl SpillOptions {
    /// Opens the place.
    ///
    /// # Errors
    ///
    /// [`Code::SPILL_FAILED`] if it cannot be used.
    pub(crate) fn open(&self, cluster: &str, node: NodeId) -> Result<Spill> {
        let failed = |what: &dyn fmt::Display, error: &dyn fmt::Display| {
            Error::new(Code::SPILL_FAILED, format!("cannot spill to {what}: {error}")).hint("see --object-spill")
        };
        let target: Arc<dyn SpillTarget> = match &self.to {
            SpillTo::Directory(path) => Arc::new(Directory::open(path).map_err(|error| failed(&path.display(), &error))?),
            SpillTo::Url(url) => Arc::new(Remote::open(url, cluster, node).map_err(|error| failed(&without_secrets(url), &error))?),
        };
        Ok(Spill { target, most_bytes: self.most_bytes, threshold_percent: Spill::THRESHOLD_PERCENT })
    }
}

/// A URL as it may be shown.
fn without_secrets(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Bytes that are sent or read at once; a larger file goes in such parts, where the place takes parts.
const PART_BYTES: usize = 16 << 20;

/// A place of `object_store`, spoken to by a runtime of its own: whoever spills or restores is a thread that waits.
struct Remote {
    store: Box<dyn ObjectStore>,
    base: Path,
    /// An option, so that it can be ended without waiting where this is dropped.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    /// Each life of a node has a prefix of its own, so that none reads what another left.
    fn open(url: &Url, cluster: &str, node: NodeId) -> io::Result<Self> {
        // One that is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, path) = object_store::parse_url_opts(url, settings)?;
        let base = path.join("rwasm-spill").join(cluster).join(node.to_string()).join(now_ms().to_string());
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).thread_name("spill").enable_all().build()?;
        let remote = Self { store, base, runtime: Some(runtime) };
        // Now, and not when memory runs short, it is found out whether it can be written to.
        remote.put(0, &[b"rwasm"])?;
        remote.delete(0)?;
        Ok(remote)
    }

    fn path(&self, file: u64) -> Path {
        self.base.clone().join(file.to_string())
    }

    /// Waits for something that the place does. On a thread of its own, for the one that asks may be in the middle of another runtime.
    fn wait<T: Send>(&self, does: impl Future<Output = object_store::Result<T>> + Send) -> io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the place was closed"))?;
        let waited = thread::scope(|scope| scope.spawn(|| runtime.block_on(does)).join());
        Ok(waited.map_err(|_panicked| io::Error::other("the place's client panicked"))??)
    }
}

impl SpillTarget for Remote {
    fn put(&self, file: u64, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.path(file);
        let pieces = || parts.iter().flat_map(|part| part.chunks(PART_BYTES)).map(Bytes::copy_from_slice);
        let all: usize = parts.iter().map(|part| part.len()).sum();
        self.wait(async {
            if all > PART_BYTES {
                match self.store.put_multipart(&path).await {
                    Ok(mut upload) => {
                        let sent = async {
                            for piece in pieces() {
                                upload.put_part(piece.into()).await?;
                            }
                            upload.complete().await
                        };
                        let sent = sent.await;
                        if sent.is_err() {
                            // Nothing of it may be left; if that fails, too, there is no more to do.
                            let _ = upload.abort().await;
                        }
                        return sent.map(drop);
                    }
                    // Goes as a whole.
                    Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.store.put(&path, pieces().collect::<PutPayload>()).await.map(drop)
        })
    }

    fn get(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let path = self.path(file);
        self.wait(async {
            let mut at = offset;
            for place in into.chunks_mut(PART_BYTES) {
                let end = at + place.len() as u64;
                let bytes = self.store.get_range(&path, at..end).await?;
                let all = bytes.get(..place.len()).ok_or_else(|| object_store::Error::Generic {
                    store: "rwasm",
                    source: format!("{path} ends {} bytes too soon", place.len() - bytes.len()).into(),
                })?;
                place.copy_from_slice(all);
                at = end;
            }
            Ok(())
        })
    }

    fn delete(&self, file: u64) -> io::Result<()> {
        let path = self.path(file);
        self.wait(async { self.store.delete(&path).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_written_read_in_ranges_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(dir.path()).unwrap();
        let spill = SpillOptions { to: SpillTo::Url(url), most_bytes: 1 << 30 }.open("c", NodeId::FIRST).unwrap();
        let large = vec![7_u8; PART_BYTES + 3];
        spill.target.put(1, &[b"hello ", b"", b"world", &large]).unwrap();
        let mut bytes = [0; 5];
        spill.target.get(1, 6, &mut bytes).unwrap();
        assert_eq!(&bytes, b"world");
        let mut all = vec![0; large.len()];
        spill.target.get(1, 11, &mut all).unwrap();
        assert!(all == large);
        assert!(spill.target.get(1, 12, &mut all).is_err(), "too short");
        spill.target.delete(1).unwrap();
        assert!(spill.target.get(1, 0, &mut bytes).is_err());
    }

    /// Restores happen on threads that run guests or serve the network.
    #[tokio::test]
    async fn it_can_be_waited_for_inside_of_a_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(dir.path()).unwrap();
        let spill = SpillOptions { to: SpillTo::Url(url), most_bytes: 1 }.open("c", NodeId::FIRST).unwrap();
        spill.target.put(1, &[b"x"]).unwrap();
        spill.target.get(1, 0, &mut [0]).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_used_is_told_without_its_secrets() {
        let url = Url::parse("http://user:secret@127.0.0.1:9/spill").unwrap();
        let error = SpillOptions { to: SpillTo::Url(url), most_bytes: 1 }.open("c", NodeId::FIRST).unwrap_err();
        assert_eq!(error.code(), Code::SPILL_FAILED);
        assert!(!error.message().contains("secret"), "{error}");
    }
}
