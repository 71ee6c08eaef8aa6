//! The output of all jobs on disk: where each job's is, and how much of it is kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rwasm_types::{JobId, Tenant};

/// Where jobs' output is, below the state directory.
const JOBS_DIR: &str = "jobs";

/// The directories of jobs' output.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    dir: PathBuf,
    /// Bytes of all output together, beyond which the oldest is removed.
    bytes_max: u64,
    /// How long output is kept after its last piece.
    age: Duration,
}

impl Kept {
    /// The output of a node.
    pub(crate) fn new(state_dir: &Path, bytes_max: u64, age: Duration) -> Self {
        Self { dir: state_dir.join(JOBS_DIR), bytes_max, age }
    }

    /// Where a job's output is, if it wrote any.
    pub(crate) fn path(&self, tenant: &Tenant, job: JobId) -> PathBuf {
        self.dir.join(tenant.as_str()).join(job.to_string()).join("output.log")
    }

    /// Removes a job's output.
    pub(crate) fn remove(&self, tenant: &Tenant, job: JobId) {
        if let Some(dir) = self.path(tenant, job).parent() {
            remove(tenant, dir);
        }
    }

    /// Removes the output of all of a tenant's jobs.
    pub(crate) fn remove_tenant(&self, tenant: &Tenant) {
        remove(tenant, &self.dir.join(tenant.as_str()));
    }

    /// Removes the output of jobs that are not known, and the oldest where there is too much; never that of jobs that go on.
    pub(crate) fn sweep(&self, known: impl Fn(&Tenant, JobId) -> bool, goes_on: impl Fn(JobId) -> bool) {
        let mut outputs = Vec::new();
        for tenant in entries(&self.dir) {
            let Some(name) = name(&tenant).and_then(|name| Tenant::new(&name).ok()) else { continue };
            for dir in entries(&tenant.path()) {
                let Some(job) = self::name(&dir).and_then(|name| name.parse().ok()) else { continue };
                let file = fs::metadata(dir.path().join("output.log"));
                let (bytes, written) =
                    file.map_or((0, SystemTime::UNIX_EPOCH), |file| (file.len(), file.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
                match job {
                    job if !known(&name, job) => remove(&name, &dir.path()),
                    job if !goes_on(job) => outputs.push((written, bytes, dir.path(), name.clone())),
                    _ => {}
                }
            }
        }
        outputs.sort_unstable();
        let mut bytes: u64 = outputs.iter().map(|(_, bytes, ..)| bytes).sum();
        for (written, size, dir, tenant) in outputs {
            let old = written.elapsed().is_ok_and(|age| age > self.age);
            if bytes <= self.bytes_max && !old {
                break;
            }
            bytes -= size;
            remove(&tenant, &dir);
        }
    }
}

fn entries(dir: &Path) -> Vec<fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten().collect()
}

fn name(entry: &fs::DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}

fn remove(tenant: &Tenant, dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%tenant, path = %dir.display(), %error, "output of jobs cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::NodeId;

    use super::*;

    #[test]
    fn the_oldest_output_goes_and_that_of_jobs_that_go_on_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path(), 250, Duration::MAX);
        let (tenant, id) = (Tenant::default(), |session| JobId { owner: NodeId::FIRST, session });
        for session in 1..=5 {
            let path = kept.path(&tenant, id(session));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(session.into())).unwrap();
        }
        kept.sweep(|_, job| job != id(5), |job| job == id(1));
        let left: Vec<u32> = (1..=5).filter(|session| kept.path(&tenant, id(*session)).exists()).collect();
        assert_eq!(left, [1, 3, 4], "2 is the oldest that ended, 5 is known to nobody");
        kept.remove(&tenant, id(3));
        assert!(!kept.path(&tenant, id(3)).exists());
    }
}
