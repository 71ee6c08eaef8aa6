//! Writes the hostile guests that no compiler makes: those written as text, and those too large to write by hand. It is built for the
//! machine that builds, not for Wasm.
//!
//!     evil-generate text OUT_DIRECTORY PREFIX FILE.wat…
//!     evil-generate huge OUT_DIRECTORY PREFIX

mod huge;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["text", out, prefix, ref files @ ..] => files.iter().try_for_each(|file| text(Path::new(file), Path::new(out), prefix)),
        ["huge", out, prefix] => huge(Path::new(out), prefix),
        _ => Err("usage: evil-generate text|huge OUT_DIRECTORY PREFIX [FILE.wat]…".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evil-generate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Translates a text. Not one of them is validated: an invalid guest is an attack as well.
fn text(file: &Path, out: &Path, prefix: &str) -> Result<(), String> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let wasm = wat::parse_file(file).map_err(|error| error.to_string())?;
    let path = out.join(format!("{prefix}{name}.wasm"));
    if fs::read(&path).is_ok_and(|old| old == wasm) { Ok(()) } else { write(&path, &wasm) }
}

/// Makes each large guest that is not there yet, or is older than this program.
fn huge(out: &Path, prefix: &str) -> Result<(), String> {
    let made = |path: &Path| path.metadata()?.modified();
    let program = env::current_exe().and_then(|program| made(&program)).map_err(|error| error.to_string())?;
    for (name, make) in huge::ALL {
        let path: PathBuf = out.join(format!("{prefix}{name}.wasm"));
        if made(&path).is_ok_and(|time| time > program) {
            continue;
        }
        write(&path, &make())?;
    }
    Ok(())
}

/// Writes a file so that nobody ever sees a part of it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let temporary = path.with_extension("part");
    let written: io::Result<()> = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
