//! Which room may use which, and which crates of others belong to one room alone.

use std::{collections::BTreeSet, fs, process::Command};

use serde::Deserialize;

use crate::{
    no_complaints,
    tree::{self, Source},
};

/// A room and the rooms that it uses: the map of ARCHITECTURE.md, which is held against this table.
struct Room {
    package: &'static str,
    dir: &'static str,
    uses: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { package: "rwasm-types", dir: "host/types", uses: &[] },
    Room { package: "rwasm-values", dir: "host/values", uses: &["rwasm-types"] },
    Room { package: "rwasm-runtime", dir: "host/runtime", uses: &["rwasm-types"] },
    Room { package: "rwasm-tls", dir: "host/tls", uses: &["rwasm-runtime", "rwasm-types"] },
    Room { package: "rwasm-wire", dir: "host/wire", uses: &["rwasm-tls", "rwasm-types"] },
    Room { package: "rwasm-history", dir: "host/history", uses: &["rwasm-runtime", "rwasm-types"] },
    Room { package: "rwasm-objects", dir: "host/objects", uses: &["rwasm-types"] },
    Room { package: "rwasm-artifact", dir: "host/artifact", uses: &["rwasm-types", "rwasm-values"] },
    Room { package: "rwasm-engine", dir: "host/engine", uses: &["rwasm-artifact", "rwasm-objects", "rwasm-types", "rwasm-values"] },
    Room {
        package: "rwasm-node",
        dir: "host/node",
        uses: &[
            "rwasm-auth",
            "rwasm-engine",
            "rwasm-history",
            "rwasm-objects",
            "rwasm-runtime",
            "rwasm-tls",
            "rwasm-types",
            "rwasm-values",
            "rwasm-wire",
        ],
    },
    Room { package: "rwasm-core", dir: "scheduler/core", uses: &["rwasm-types"] },
    Room { package: "rwasm-sim", dir: "scheduler/sim", uses: &["rwasm-core", "rwasm-types"] },
    Room { package: "rwasm-auth", dir: "scheduler/auth", uses: &["rwasm-types"] },
    Room { package: "rwasm-journal", dir: "scheduler/journal", uses: &["rwasm-types"] },
    Room {
        package: "rwasm-head",
        dir: "scheduler/head",
        uses: &["rwasm-auth", "rwasm-core", "rwasm-history", "rwasm-journal", "rwasm-runtime", "rwasm-tls", "rwasm-types", "rwasm-wire"],
    },
    Room { package: "rwasm-dashboard", dir: "scheduler/dashboard", uses: &["rwasm-runtime", "rwasm-tls", "rwasm-types", "rwasm-values"] },
    Room { package: "rwasm-client", dir: "client", uses: &["rwasm-runtime", "rwasm-tls", "rwasm-types", "rwasm-values", "rwasm-wire"] },
    Room {
        package: "rwasm-bench",
        dir: "bench",
        uses: &[
            "rwasm-auth",
            "rwasm-client",
            "rwasm-core",
            "rwasm-engine",
            "rwasm-history",
            "rwasm-journal",
            "rwasm-node",
            "rwasm-objects",
            "rwasm-runtime",
            "rwasm-types",
            "rwasm-values",
            "rwasm-wire",
        ],
    },
    Room {
        package: "rwasm",
        dir: "src",
        uses: &[
            "rwasm-bench",
            "rwasm-client",
            "rwasm-dashboard",
            "rwasm-engine",
            "rwasm-head",
            "rwasm-journal",
            "rwasm-node",
            "rwasm-runtime",
            "rwasm-tls",
            "rwasm-types",
            "rwasm-values",
            "rwasm-wire",
        ],
    },
];

/// Rooms that tests of a room use beyond what the room itself uses.
const TESTS_USE: &[(&str, &str)] = &[];

/// Crates of others, with all whose names begin so, and the only rooms that may use them, in tests too.
const RESERVED: &[(&str, &[&str])] = &[
    ("wasmtime", &["rwasm-engine"]),
    ("cranelift", &[]),
    ("wit-component", &["rwasm-artifact"]),
    ("prost", &["rwasm-wire"]),
    ("rcgen", &["rwasm-tls"]),
    ("ring", &["rwasm-tls"]),
    ("rustls", &["rwasm-tls"]),
    ("tokio-rustls", &["rwasm-tls"]),
    ("tonic", &["rwasm-wire"]),
    ("axum", &["rwasm-dashboard"]),
    ("h2", &["rwasm-wire"]),
    ("hyper", &["rwasm-dashboard", "rwasm-wire"]),
    ("tower", &["rwasm-wire"]),
    ("clap", &["rwasm"]),
    ("redb", &["rwasm-history", "rwasm-journal"]),
    (
        "tokio",
        &[
            "rwasm",
            "rwasm-bench",
            "rwasm-client",
            "rwasm-dashboard",
            "rwasm-engine",
            "rwasm-head",
            "rwasm-journal",
            "rwasm-node",
            "rwasm-runtime",
            "rwasm-tls",
            "rwasm-wire",
        ],
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent, `dev` or `build`.
    kind: Option<String>,
}

impl Package {
    fn dependencies(&self, tests: bool) -> BTreeSet<&str> {
        let wanted = |dependency: &&Dependency| (dependency.kind.as_deref() == Some("dev")) == tests;
        self.dependencies.iter().filter(wanted).map(|dependency| dependency.name.as_str()).collect()
    }
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(tree::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata.packages
}

/// Complaints about the arrows between rooms: those that the table lacks, and those that only the table has.
fn arrows(packages: &[Package], rooms: &[Room]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some(room) = rooms.iter().find(|room| room.package == name) else {
            complaints.push(format!("{name} is a room that no table has"));
            continue;
        };
        let ours = |used: &&str| rooms.iter().any(|room| room.package == *used);
        let used: BTreeSet<&str> = package.dependencies(false).into_iter().filter(ours).collect();
        let allowed: BTreeSet<&str> = room.uses.iter().copied().collect();
        complaints.extend(used.difference(&allowed).map(|used| format!("{name} uses {used}, which the table does not allow")));
        complaints.extend(allowed.difference(&used).map(|gone| format!("{name} does not use {gone} any more, but the table says so")));
        let in_tests = package.dependencies(true).into_iter().filter(ours);
        let unknown = in_tests.filter(|used| !allowed.contains(used) && !TESTS_USE.contains(&(name, used)));
        complaints.extend(unknown.map(|used| format!("tests of {name} use {used}, which no table allows")));
    }
    let gone = rooms.iter().filter(|room| packages.iter().all(|package| package.name != room.package));
    complaints.extend(gone.map(|room| format!("the table has {}, which is no room", room.package)));
    complaints
}

/// Complaints about crates that belong to another room.
fn reserved(packages: &[Package]) -> Vec<String> {
    let begins = |name: &str, reserved: &str| name.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let mut complaints = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            let rule = RESERVED.iter().find(|(reserved, _)| begins(&dependency.name, reserved));
            if let Some((reserved, rooms)) = rule.filter(|(_, rooms)| !rooms.contains(&package.name.as_str())) {
                complaints.push(format!("{} uses {}, but {reserved} is for {rooms:?}", package.name, dependency.name));
            }
        }
    }
    let core = packages.iter().find(|package| package.name == "rwasm-core").map(|core| core.dependencies(false));
    if core.is_none_or(|used| used != BTreeSet::from(["rwasm-types"])) {
        complaints.push("rwasm-core is not there, or uses more than rwasm-types".to_owned());
    }
    complaints
}

/// What every manifest of a room takes from the workspace.
fn inherits(manifest: &Source) -> Vec<String> {
    const KEYS: &[&str] = &["version", "edition", "rust-version", "license", "publish"];
    let lines: Vec<&str> = manifest.text.lines().map(str::trim).collect();
    let missing = KEYS.iter().map(|key| format!("{key}.workspace = true")).filter(|line| !lines.contains(&line.as_str()));
    let mut complaints: Vec<String> = missing.map(|line| format!("{} lacks `{line}`", manifest.path)).collect();
    if !lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]) {
        complaints.push(format!("{} does not take its lints from the workspace", manifest.path));
    }
    complaints
}

/// Complaints about the map in ARCHITECTURE.md: a row for each room, with the rooms that it uses in the last column.
fn map(architecture: &str, rooms: &[Room]) -> Vec<String> {
    let rows: Vec<Vec<&str>> = architecture
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::trim).collect())
        .collect();
    let mut complaints = Vec::new();
    for room in rooms {
        let short = |package: &&str| package.trim_start_matches("rwasm-").to_owned();
        let uses: BTreeSet<String> = room.uses.iter().map(short).collect();
        let row = rows.iter().find(|row| row.first().is_some_and(|dir| dir.trim_end_matches('`') == room.dir));
        match row.and_then(|row| row.last()) {
            None => complaints.push(format!("the map has no row for {}", room.dir)),
            Some(told) => {
                let told: BTreeSet<String> = told.split(", ").filter(|told| *told != "–").map(str::to_owned).collect();
                if told != uses {
                    complaints.push(format!("the map says that {} uses {told:?}, but it uses {uses:?}", room.dir));
                }
            }
        }
    }
    complaints
}

#[test]
fn arrows_between_rooms_are_those_of_the_table() {
    no_complaints(&arrows(&packages(), ROOMS));
}

#[test]
fn crates_stay_in_their_rooms() {
    no_complaints(&reserved(&packages()));
}

#[test]
fn rooms_inherit_from_the_workspace() {
    let manifest = |package: &Package| {
        let text = fs::read_to_string(&package.manifest_path).expect("cargo has just read it");
        inherits(&Source::new(&package.manifest_path, &text))
    };
    no_complaints(&packages().iter().flat_map(manifest).collect::<Vec<_>>());
}

#[test]
fn the_map_is_the_table() {
    let architecture = fs::read_to_string(tree::root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    no_complaints(&map(&architecture, ROOMS));
}

fn sample(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    let dependency = |(name, kind): &(&str, Option<&str>)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) };
    Package { name: name.to_owned(), manifest_path: String::new(), dependencies: dependencies.iter().map(dependency).collect() }
}

#[test]
fn a_wrong_arrow_is_found() {
    let rooms = [
        Room { package: "a", dir: "a", uses: &["b"] },
        Room { package: "b", dir: "b", uses: &[] },
        Room { package: "c", dir: "c", uses: &["b"] },
    ];
    let packages =
        [sample("a", &[("b", None), ("c", Some("dev"))]), sample("b", &[("a", None), ("serde", None)]), sample("d", &[("a", None)])];
    let found = arrows(&packages, &rooms).join("\n");
    for expected in ["tests of a use c", "b uses a", "d is a room that no table has", "the table has c"] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
    assert_eq!(arrows(&[sample("a", &[]), sample("b", &[]), sample("c", &[("b", None)])], &rooms).len(), 1);
}

#[test]
fn a_crate_in_the_wrong_room_is_found() {
    let core = || sample("rwasm-core", &[("rwasm-types", None), ("proptest", Some("dev"))]);
    assert_eq!(reserved(&[core(), sample("rwasm-engine", &[("wasmtime-wasi", None), ("tokio", None)])]), [""; 0]);
    for bad in [
        sample("rwasm-node", &[("wasmtime", None)]),
        sample("rwasm-head", &[("tonic-prost-build", Some("dev"))]),
        sample("rwasm-values", &[("tokio-util", None)]),
    ] {
        assert_eq!(reserved(&[core(), bad]).len(), 1);
    }
    assert_eq!(reserved(&[sample("rwasm-core", &[("rwasm-types", None), ("indexmap", None)])]).len(), 1);
    assert_eq!(reserved(&[]).len(), 1);
}

#[test]
fn a_manifest_of_its_own_is_found() {
    let good = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
                publish.workspace = true\n[lints]\nworkspace = true\n";
    let complaints = |text: &str| inherits(&Source::new("Cargo.toml", text)).len();
    assert_eq!(complaints(good), 0);
    assert_eq!(complaints(&good.replace("[lints]\nworkspace = true", "")), 1);
    assert_eq!(complaints(&good.replace("edition.workspace = true", "edition = \"2021\"")), 1);
}

#[test]
fn a_wrong_map_is_found() {
    let rooms = [Room { package: "rwasm-a", dir: "host/a", uses: &["rwasm-b"] }, Room { package: "rwasm-b", dir: "host/b", uses: &[] }];
    let good = "| room | is | uses |\n| `host/a` | what | b |\n| `host/b` | what | – |\n";
    assert_eq!(map(good, &rooms), [""; 0]);
    for bad in [good.replace("| b |", "| b, c |"), good.replace("`host/b`", "`host/c`"), good.replace('–', "a"), String::new()] {
        assert!(!map(&bad, &rooms).is_empty(), "{bad}");
    }
}
