//! `new`: a project that builds with one command.

use std::{fs, path::Path, process::ExitCode};

use include_dir::{Dir, DirEntry, include_dir};
use rwasm_types::{Code, Error, Result};

use crate::{
    args::{Language, NewArgs},
    ui,
};

static RUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/guest-sdk/rust/template");

/// `rwasm new`.
pub(crate) fn new(args: &NewArgs) -> Result<ExitCode> {
    let target = Path::new(args.name.as_str());
    if target.exists() {
        return Err(Error::new(Code::INVALID_ARGUMENT, format!("{} exists already", target.display())).hint("choose another name"));
    }
    let template = match args.lang {
        Language::Rust => &RUST,
    };
    // The SDK is in no registry yet, but beside the source that this program was built from.
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk/rust");
    let sdk = match args.sdk.as_deref().or_else(|| beside.is_dir().then_some(beside.as_path())) {
        None => {
            let error = Error::new(Code::NOT_FOUND, "the SDK is not where this program was built");
            return Err(error.hint("name its directory, guest-sdk/rust of rwasm's source, with --sdk"));
        }
        Some(dir) => {
            let dir = fs::canonicalize(dir)
                .map_err(|error| Error::new(Code::IO, format!("cannot find the SDK in {}: {error}", dir.display())))?;
            format!("{{ path = {:?} }}", dir.display().to_string())
        }
    };
    write(template, target, &|text| text.replace("{{name}}", args.name.as_str()).replace("{{sdk}}", &sdk))?;
    ui::line(&format!("made {}", target.display()))?;
    let build = "cargo build --release --target wasm32-unknown-unknown";
    ui::note(&format!("  cd {} && {build}, then `rwasm run` what it built; README.md has the details", target.display()));
    Ok(ExitCode::SUCCESS)
}

fn write(template: &Dir<'_>, target: &Path, fill: &dyn Fn(&str) -> String) -> Result<()> {
    let bad = |path: &Path, error: std::io::Error| Error::new(Code::IO, format!("cannot write {}: {error}", path.display()));
    for entry in template.entries() {
        let path = target.join(entry.path());
        match entry {
            DirEntry::Dir(dir) => write(dir, target, fill)?,
            DirEntry::File(file) => {
                let parent = path.parent().unwrap_or(target);
                fs::create_dir_all(parent).map_err(|error| bad(parent, error))?;
                let text = String::from_utf8_lossy(file.contents());
                fs::write(&path, fill(&text)).map_err(|error| bad(&path, error))?;
            }
        }
    }
    Ok(())
}
