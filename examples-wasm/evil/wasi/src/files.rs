//! Attacks on files and directories.

use std::{fs, io};

use wasip2::filesystem::{
    preopens,
    types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags},
};

/// Returns the bytes of a file.
#[rwasm::export]
fn read_file(path: &str) -> Result<Vec<u8>, io::Error> {
    fs::read(path)
}

/// Writes a file, which is made if it is not there.
#[rwasm::export]
fn write_file(path: &str, bytes: &[u8]) -> Result<(), io::Error> {
    fs::write(path, bytes)
}

/// Writes to a file without end, and returns how far it came before an error.
#[rwasm::export]
fn fill_disk(path: &str) -> Result<u64, io::Error> {
    use io::Write;

    let mut file = fs::File::create(path)?;
    let block = vec![0xa5; 1 << 20];
    let mut written = 0;
    while file.write_all(&block).is_ok() {
        written += block.len() as u64;
    }
    Ok(written)
}

/// Returns the names in a directory, in order. `/` is what a guest asks for first.
#[rwasm::export]
fn list_directory(path: &str) -> Result<Vec<String>, io::Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Returns the paths of all directories that were granted.
#[rwasm::export]
fn granted_directories() -> Vec<String> {
    preopens::get_directories().into_iter().map(|(_, path)| path).collect()
}

/// Asks the host, in every granted directory, for a path as it is: `../../etc/passwd`, `/etc/passwd`, a link to the outside. Returns what
/// it read, or the errors of all directories.
#[rwasm::export]
fn escape(path: &str) -> Result<Vec<u8>, String> {
    let mut errors = Vec::new();
    for (directory, name) in preopens::get_directories() {
        let opened = directory.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ);
        match opened.and_then(|file| file.read(1 << 20, 0)) {
            Ok((bytes, _)) => return Ok(bytes),
            Err(error) => errors.push(format!("{name}: {}", error.name())),
        }
    }
    Err(if errors.is_empty() { "no directory was granted".to_owned() } else { errors.join(", ") })
}

/// Makes a symbolic link in every granted directory to a path outside, then reads through it.
#[rwasm::export]
fn escape_by_link(target: &str) -> Result<Vec<u8>, String> {
    const LINK: &str = "evil-link";
    for (directory, name) in preopens::get_directories() {
        directory.symlink_at(target, LINK).map_err(|error| format!("{name}: {}", error.name()))?;
    }
    let read = escape(LINK);
    for (directory, _) in preopens::get_directories() {
        let _ = directory.unlink_file_at(LINK);
    }
    read
}

/// Opens the first granted directory again and again without closing it, at most so often, and returns how often it could.
#[rwasm::export]
fn hoard_files(count: u32) -> Result<u32, String> {
    let (directory, _) = preopens::get_directories().into_iter().next().ok_or("no directory was granted")?;
    let open = |_| directory.open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, DescriptorFlags::READ).ok();
    Ok((0..count).map_while(open).collect::<Vec<Descriptor>>().len() as u32)
}
