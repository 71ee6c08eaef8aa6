//! What the compile cache keeps: entries by their last use, up to so many bytes.
//!
//! ```text
//! <key>.json    its modification time is the entry's last use
//! ```

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// An entry that was used so lately may be about to be loaded, here or in another process, and stays.
const FRESH: Duration = Duration::from_secs(60);

/// An entry, or machine code without one, as a crash leaves it.
#[derive(Debug)]
struct Entry {
    code: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Says that an entry is used now. What cannot be said makes the entry look older than it is, and no more.
pub(super) fn touch(code: &Path) {
    let entry = code.with_extension("json");
    let touched = fs::File::options().write(true).open(&entry).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %entry.display(), %error, "a compile cache entry's use is not noted");
    }
}

/// Bytes of an entry's files.
pub(super) fn size(code: &Path) -> u64 {
    [code.to_owned(), code.with_extension("json")].iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum()
}

/// Removes an entry; gives the bytes that it had. Whoever has mapped it keeps it.
pub(super) fn remove(code: &Path) -> io::Result<u64> {
    let bytes = size(code);
    // The entry first: code without one is never used.
    for path in [code.with_extension("json"), code.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(bytes)
}

/// Removes the entries that were not used for longest until the rest has at most `bytes_max`. Entries that are kept or were used in the
/// last minute stay, however much they are.
pub(super) fn evict(dir: &Path, bytes_max: u64, kept: &HashSet<PathBuf>) {
    let mut entries = entries(dir);
    let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    if total <= bytes_max {
        return;
    }
    let now = SystemTime::now();
    entries.retain(|entry| !kept.contains(&entry.code) && now.duration_since(entry.used).is_ok_and(|age| age > FRESH));
    entries.sort_by_key(|entry| entry.used);
    for entry in entries {
        if total <= bytes_max {
            return;
        }
        match remove(&entry.code) {
            Ok(bytes) => {
                tracing::info!(code = %entry.code.display(), bytes, "a compile cache entry made room for others");
                total -= entry.bytes;
            }
            Err(error) => tracing::warn!(code = %entry.code.display(), %error, "a compile cache entry cannot be removed"),
        }
    }
    if total > bytes_max {
        tracing::warn!(total, bytes_max, "the compile cache is larger than it may be: all of it is in use");
    }
}

/// All entries of all tenants; directories that cannot be read have none.
fn entries(dir: &Path) -> Vec<Entry> {
    let files = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let tenants = files(dir).into_iter().filter(|path| path.is_dir() && !super::cache::is_scratch(path));
    let codes = tenants.flat_map(|tenant| files(&tenant)).filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
    codes
        .filter_map(|code| {
            let used = fs::metadata(code.with_extension("json")).or_else(|_| fs::metadata(&code)).ok()?.modified().ok()?;
            Some(Entry { bytes: size(&code), code, used })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dir: &Path, name: &str, bytes: usize, age_s: u64) -> PathBuf {
        let code = dir.join("default").join(format!("{name}.cwasm"));
        fs::create_dir_all(code.parent().unwrap()).unwrap();
        fs::write(&code, vec![0; bytes]).unwrap();
        fs::write(code.with_extension("json"), "").unwrap();
        let file = fs::File::options().write(true).open(code.with_extension("json")).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        code
    }

    #[test]
    fn the_least_recently_used_go_first_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let old = entry(dir.path(), "old", 100, 3_000);
        let kept = entry(dir.path(), "kept", 100, 4_000);
        let newer = entry(dir.path(), "newer", 100, 2_000);
        let fresh = entry(dir.path(), "fresh", 100, 0);
        let in_use = HashSet::from([kept.clone()]);
        let left = || [&old, &kept, &newer, &fresh].map(|code| code.exists());
        evict(dir.path(), 400, &in_use);
        assert_eq!(left(), [true; 4]);
        touch(&old);
        evict(dir.path(), 300, &in_use);
        assert_eq!(left(), [true, true, false, true], "what was used again is not the oldest any more");
        evict(dir.path(), 0, &in_use);
        assert_eq!(left(), [true, true, false, true], "fresh or in use");
        evict(dir.path(), 0, &HashSet::new());
        assert_eq!(left(), [true, false, false, true]);
    }

    #[test]
    fn a_removed_entry_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let code = entry(dir.path(), "a", 100, 0);
        assert_eq!((size(&code), remove(&code).unwrap(), size(&code), remove(&code).unwrap()), (100, 100, 0, 0));
        assert_eq!(fs::read_dir(dir.path().join("default")).unwrap().count(), 0);
    }
}
