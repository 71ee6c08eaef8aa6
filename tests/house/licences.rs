//! Licences of what is built in: each crate must offer one that deny.toml allows, and deny.toml must allow no other.

use std::{collections::BTreeSet, fs, process::Command};

use serde::Deserialize;

use crate::{no_complaints, tree};

/// The platform that deny.toml names.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", PLATFORM])
        .current_dir(tree::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata.packages
}

/// The licences between the brackets of `allow = [ … ]` below `[licenses]`.
fn allowed(deny: &str) -> BTreeSet<String> {
    let list = deny.split_once("[licenses]").and_then(|(_, rest)| rest.split_once("allow = [")).and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.expect("deny.toml has a list of licences");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The licences that are taken of an expression of SPDX, the first of those that are allowed; `None` if none of the choices is.
///
/// `OR` binds less than `AND`, and the old form `A/B` means `A OR B`.
fn taken(expression: &str, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "\u{1}");
    let tokens: Vec<String> = spaced.split_whitespace().map(|token| token.replace('\u{1}', " WITH ")).collect();
    let mut at = 0;
    let found = either(&tokens, &mut at, allowed);
    assert_eq!(at, tokens.len(), "`{expression}` is no licence expression");
    found
}

fn either(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut found = both(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        let other = both(tokens, at, allowed);
        found = found.or(other);
    }
    found
}

fn both(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut found = one(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        let other = one(tokens, at, allowed);
        found = found.zip(other).map(|(a, b)| a.union(&b).cloned().collect());
    }
    found
}

fn one(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let token = tokens.get(*at)?;
    *at += 1;
    if token != "(" {
        return allowed.contains(token).then(|| BTreeSet::from([token.clone()]));
    }
    let found = either(tokens, at, allowed);
    // The closing bracket.
    *at += 1;
    found
}

fn complaints(packages: &[Package], allowed: &BTreeSet<String>) -> Vec<String> {
    let mut unused = allowed.clone();
    let mut complaints = Vec::new();
    for package in packages {
        let licence = package.license.as_deref().unwrap_or("none");
        match taken(licence, allowed) {
            Some(taken) => unused.retain(|licence| !taken.contains(licence)),
            None => complaints.push(format!("{} has the licence {licence}, which deny.toml does not allow", package.name)),
        }
    }
    complaints.extend(unused.iter().map(|licence| format!("deny.toml allows {licence}, which nothing needs")));
    complaints
}

#[test]
fn licences_are_those_that_are_allowed() {
    let deny = fs::read_to_string(tree::root().join("deny.toml")).expect("deny.toml is there");
    no_complaints(&complaints(&packages(), &allowed(&deny)));
}

#[test]
fn a_wrong_licence_is_found() {
    let list = allowed("[licenses]\nallow = [\n \"MIT\",\n \"A WITH B\",\n \"Z\",\n]\n");
    let ok = |expression: &str| taken(expression, &list).is_some();
    for good in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND Z", "A WITH B", "MIT AND Z OR GPL-3.0"] {
        assert!(ok(good), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "A", "A WITH C", "none", "(MIT AND GPL-3.0) OR A"] {
        assert!(!ok(bad), "{bad}");
    }
    let package = |licence: Option<&str>| Package { name: "x".to_owned(), license: licence.map(str::to_owned) };
    assert_eq!(complaints(&[package(Some("MIT AND Z")), package(Some("A WITH B"))], &list), [""; 0]);
    assert_eq!(complaints(&[package(None), package(Some("MIT"))], &list).len(), 3);
}
