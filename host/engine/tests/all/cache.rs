//! The compile cache: what it has is used without a worker, and what was not written by this installation, for this artifact, tenant and
//! engine, is not used at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rwasm_engine::Engine;
use rwasm_types::{Code, Result, Tenant};

use crate::{
    common::{Lab, Task, Way, digest, lab, options},
    guests::silent,
};

/// A component whose function returns this number.
fn number(number: u32) -> String {
    silent(
        &format!(r#"(func (export "number") (result i32) (i32.const {number}))"#),
        r#"(func (export "number") (result u32) (canon lift (core func $m "number")))"#,
    )
}

/// What an engine over this cache says that has no worker, so that it can only load.
async fn load(cache: &Path, tenant: &Tenant, guest: &str) -> Result<String> {
    let mut options = options(cache);
    options.compile.worker = vec!["/nonexistent/worker".into()];
    let engine = Engine::new(options)?;
    let digest = digest(guest.as_bytes());
    let known = engine.known(tenant, digest).is_some();
    let prepared = engine.prepare(tenant, digest, guest.as_bytes()).await;
    assert_eq!(known, prepared.is_ok(), "what is known is what can be loaded");
    Ok(Task::new(&prepared?, "number()").run(Way::Thread).await.wave())
}

/// What an engine with a worker says.
async fn compile(cache: &Path, guest: &str) -> String {
    let engine = Engine::new(options(cache)).unwrap();
    let prepared = engine.prepare(&Tenant::default(), digest(guest.as_bytes()), guest.as_bytes()).await.unwrap();
    Task::new(&prepared, "number()").run(Way::Thread).await.wave()
}

/// The two files of the only entry of a tenant.
fn entry(cache: &Path, tenant: &Tenant) -> [PathBuf; 2] {
    let mut files: Vec<PathBuf> =
        fs::read_dir(cache.join("tenants").join(tenant.as_str())).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.try_into().unwrap()
}

async fn filled(guest: &str) -> (Lab, [PathBuf; 2]) {
    let lab = lab();
    lab.prepare(guest).await;
    let files = entry(lab.cache.path(), &Tenant::default());
    (lab, files)
}

#[tokio::test]
async fn what_was_compiled_is_loaded() {
    let (lab, _) = filled(&number(7)).await;
    assert_eq!(load(lab.cache.path(), &Tenant::default(), &number(7)).await.unwrap(), "7");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.cache.path().join("secret")), 0o600);
    assert_eq!(mode(&lab.cache.path().join("tenants").join(Tenant::default().as_str())), 0o700);
}

#[tokio::test]
async fn what_is_damaged_is_compiled_anew() {
    let flip = |at: fn(usize) -> usize| {
        move |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            let at = at(bytes.len());
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    };
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    type Damage = Box<dyn Fn(&Path)>;
    let damages: [(&str, Damage); 7] = [
        ("the first byte", Box::new(flip(|_| 0))),
        ("a byte in the middle", Box::new(flip(|len| len / 2))),
        ("the last byte but one", Box::new(flip(|len| len - 2))),
        ("cut off", Box::new(cut)),
        ("emptied", Box::new(|path: &Path| fs::write(path, "").unwrap())),
        ("longer", Box::new(|path: &Path| fs::write(path, [fs::read(path).unwrap(), b"x".to_vec()].concat()).unwrap())),
        ("removed", Box::new(|path: &Path| fs::remove_file(path).unwrap())),
    ];
    let guest = number(7);
    let (lab, files) = filled(&guest).await;
    let cache = lab.cache.path();
    for (name, damage) in damages {
        for file in &files {
            damage(file);
            let loaded = load(cache, &Tenant::default(), &guest).await;
            assert_eq!(loaded.unwrap_err().code(), Code::COMPILE_FAILED, "{name} of {}", file.display());
            assert_eq!(compile(cache, &guest).await, "7", "{name} of {}", file.display());
            assert_eq!(load(cache, &Tenant::default(), &guest).await.unwrap(), "7", "{name}: what was made anew is kept");
        }
    }
}

/// Entries that are whole and were written here, but for another artifact or tenant.
#[tokio::test]
async fn an_entry_is_good_under_its_own_name_only() {
    let (theirs, their_files) = filled(&number(13)).await;
    let (lab, files) = filled(&number(7)).await;
    let cache = lab.cache.path();
    // Another artifact's of the same installation: both were written with one secret.
    fs::copy(theirs.cache.path().join("secret"), cache.join("secret")).unwrap();
    let copy = |to: &[PathBuf; 2]| their_files.iter().zip(to).for_each(|(from, to)| assert!(fs::copy(from, to).unwrap() > 0));
    copy(&files);
    assert_eq!(load(cache, &Tenant::default(), &number(7)).await.unwrap_err().code(), Code::COMPILE_FAILED);
    assert_eq!(compile(cache, &number(7)).await, "7");
    // Under its own name it would be good, also in another directory with the same secret.
    copy(&their_files.each_ref().map(|file| files[0].with_file_name(file.file_name().unwrap())));
    assert_eq!(load(cache, &Tenant::default(), &number(13)).await.unwrap(), "13");
    // Another tenant's, who may have had the same bytes compiled.
    let other: Tenant = "other".parse().unwrap();
    fs::create_dir(cache.join("other")).unwrap();
    copy(&their_files.each_ref().map(|file| cache.join("other").join(file.file_name().unwrap())));
    assert_eq!(load(cache, &other, &number(13)).await.unwrap_err().code(), Code::COMPILE_FAILED);
}

/// Entries of another installation, and of another version that had another key.
#[tokio::test]
async fn a_foreign_entry_is_compiled_anew() {
    let guest = number(7);
    let (lab, files) = filled(&guest).await;
    let cache = lab.cache.path();
    fs::remove_file(cache.join("secret")).unwrap();
    assert_eq!(load(cache, &Tenant::default(), &guest).await.unwrap_err().code(), Code::COMPILE_FAILED, "another installation's");
    assert_eq!(compile(cache, &guest).await, "7");
    // A secret that others could read is none.
    fs::set_permissions(cache.join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(cache, &Tenant::default(), &guest).await.unwrap_err().code(), Code::COMPILE_FAILED);
    assert_eq!(compile(cache, &guest).await, "7");
    // What another version wrote lies under another name, and does not become ours by being renamed.
    for file in &files {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let old =
            file.with_file_name(format!("{}.{}", stem.chars().rev().collect::<String>(), file.extension().unwrap().to_str().unwrap()));
        fs::rename(file, old).unwrap();
    }
    assert_eq!(load(cache, &Tenant::default(), &guest).await.unwrap_err().code(), Code::COMPILE_FAILED);
    assert_eq!(compile(cache, &guest).await, "7");
    assert_eq!(fs::read_dir(cache.join("tenants").join(Tenant::default().as_str())).unwrap().count(), 4);
}

/// A crash leaves scratch directories; those of the living stay.
#[tokio::test]
async fn scratch_of_the_dead_is_removed() {
    let (lab, _) = filled(&number(7)).await;
    let cache = lab.cache.path();
    // No process has this number: it is above the kernel's largest.
    for owner in ["99999999", &std::process::id().to_string()] {
        fs::create_dir(cache.join(format!("scratch-{owner}-x"))).unwrap();
        fs::write(cache.join(format!("scratch-{owner}-x/in.wasm")), "x").unwrap();
    }
    assert_eq!(load(cache, &Tenant::default(), &number(7)).await.unwrap(), "7");
    assert!(!cache.join("scratch-99999999-x").exists());
    assert!(cache.join(format!("scratch-{}-x", std::process::id())).exists());
}

#[test]
fn a_directory_that_cannot_be_used_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Engine::new(options(&file.path().join("cache"))).unwrap_err();
    assert_eq!(error.code(), Code::IO);
    assert!(error.to_string().contains("RWASM_CACHE_DIR"), "{error}");
}
