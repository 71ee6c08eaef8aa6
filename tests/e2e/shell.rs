//! What people meet around the work: help, errors of usage, explanations, completions, inspecting, a new project.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::harness::{Home, guest};

/// How long a compiler may take where everything is busy and nothing is there yet.
const BUILD: Duration = Duration::from_secs(1200);

#[test]
fn completions_are_scripts_of_their_shells() {
    let home = Home::new();
    for (shell, first) in [("bash", "_rwasm() {"), ("zsh", "#compdef rwasm"), ("fish", "# Print an optspec")] {
        let script = home.rwasm(["completions", shell]).run().ok().quiet().has("submit").has("explain");
        assert!(script.stdout().starts_with(first), "{script:?}");
        for hidden in ["compile-worker", "--daemon", "echo-server"] {
            assert!(!script.stdout().contains(hidden), "{hidden} is not for people");
        }
        let path = home.write(shell, &script.stdout);
        // Checked by the shell itself where it is installed.
        if Path::new("/usr/bin").join(shell).exists() {
            home.command(shell, ["-n", &path]).run().ok().quiet();
        }
    }
    home.rwasm(["completions", "cmd.exe"]).run().exits(2);
}

#[test]
fn codes_are_explained() {
    let home = Home::new();
    home.rwasm(["explain", "RW0101"]).run().ok().quiet().has("# RW0101: ").has("## What to do");
    assert_eq!(home.rwasm(["explain", "206"]).run().ok().stdout(), home.rwasm(["explain", "rw0206"]).run().ok().stdout());
    let json = home.rwasm(["explain", "RW0101", "--json"]).run().ok().json();
    assert_eq!((&json["code"], json["page"].as_str().map(|page| page.starts_with("# RW0101: "))), (&json!("RW0101"), Some(true)));
    let all = home.rwasm(["explain", "--json"]).run().ok().json();
    let listed = home.rwasm(["explain"]).run().ok();
    assert_eq!(listed.stdout().lines().count(), all.as_array().unwrap().len() + 1);
    let unknown = home.rwasm(["explain", "RW9999"]).run().fails(2, "RW0003");
    insta::assert_snapshot!(unknown.stderr(), @"error[RW0003]: this version knows no RW9999; `rwasm explain` lists what it knows");
    home.rwasm(["explain", "nonsense"]).run().fails(2, "RW0002");
}

/// Whatever is wrong with a command line has a code, exit status 2, and a form for machines.
#[test]
fn errors_of_usage_look_like_all_others() {
    let home = Home::new();
    let hello = guest("hello");
    let run = |args: &[&str]| home.rwasm(["run", &hello]).args(args).run();
    let refused = run(&["--allow-net", "example.org"]).fails(2, "RW0303").prints("");
    insta::assert_snapshot!(refused.stderr(), @"error[RW0303]: --allow-net <HOST:PORT>: `example.org` is not a destination: it has no port; write HOST:PORT, as in example.org:443");
    let json = run(&["--json", "--allow-net", "example.org"]).exits(2).json_error();
    assert_eq!((&json["code"], &json["hint"]), (&json!("RW0303"), &json!("write HOST:PORT, as in example.org:443")));
    run(&["--resources", "{"]).fails(2, "RW0212");
    run(&["--resources", "{\"a b\": 1}"]).fails(2, "RW0002");
    run(&["--timeout", "3"]).fails(2, "RW0002").says("--timeout <TIME>: `3` is not a duration, which looks like 250ms, 3s or 1h30m");
    run(&["--dir", "x"]).fails(2, "RW0002").says("`x` is not HOST::GUEST[:ro]");
    run(&["--priority", "101"]).fails(2, "RW0002");
    run(&["--frobnicate"]).fails(2, "RW0002").says("unexpected argument").says("Usage: rwasm run");
    run(&["--map", "x"]).fails(2, "RW0002").says("--func");
    run(&["--call", "f()", "--", "x"]).fails(2, "RW0002").says("cannot be used with");
    let json = run(&["--json", "--frobnicate"]).exits(2).json_error();
    assert_eq!(json["code"], "RW0002");
    home.rwasm(["frobnicate"]).run().fails(2, "RW0002").says("unrecognized subcommand");
    let neither = home.rwasm(["start"]).run().fails(2, "RW0002");
    insta::assert_snapshot!(neither.stderr().lines().take(2).collect::<Vec<_>>().join("\n"), @r"
    error[RW0002]: the following required arguments were not provided:
      <--head|--address <HOST:PORT>>
    ");
    home.rwasm(["start", "--head", "--address", "x:1"]).run().fails(2, "RW0002");
    // After `--` it is the guest's.
    home.rwasm(["run", "/no/such.wasm", "--", "--json"]).run().fails(2, "RW0004");
}

#[test]
fn help_is_data_and_its_absence_is_usage() {
    let home = Home::new();
    home.rwasm(["--help"]).run().ok().quiet().has("Usage: rwasm");
    home.rwasm(["help", "submit"]).run().ok().quiet().has("--map <FILE.jsonl>");
    let version = home.rwasm(["--version"]).run().ok().quiet();
    assert_eq!(version.stdout(), concat!("rwasm ", env!("CARGO_PKG_VERSION"), "\n"));
    home.rwasm([""; 0]).run().exits(2).prints("").says("Usage: rwasm");
    home.command("bash", ["-c", &format!("{} --help | true; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_rwasm"))]).run().ok();
}

#[test]
fn an_artifact_is_inspected() {
    let home = Home::new();
    let shown = home.rwasm(["inspect", &guest("hello")]).run().ok().quiet();
    // What the compiler that built it decides is left out.
    let size = |word: &str| if word.ends_with("iB") { "SIZE".to_owned() } else { word.to_owned() };
    let line = |line: &str| line.split(' ').map(size).collect::<Vec<_>>().join(" ");
    let mut text: Vec<String> = shown.stdout().lines().filter(|line| !line.starts_with("artifact ")).map(line).collect();
    // So is the order of exports, of which each takes two lines.
    let first = text.iter().position(|line| line == "exports").unwrap() + 1;
    let mut exports: Vec<Vec<String>> = text[first..first + 12].chunks(2).map(<[String]>::to_vec).collect();
    exports.sort();
    text.splice(first..first + 12, exports.into_iter().flatten());
    insta::assert_snapshot!(text.join("\n"), @r"
    kind      component, SIZE
    profile   fast, never waits
    memory    starts with SIZE

    exports
      add: func(a: u32, b: u32) -> u32
          task
      divide: func(dividend: s64, divisor: s64) -> result<s64, string>
          task
      echo: func(bytes: list<u8>) -> list<u8>
          task
      greet: func(name: string) -> string
          task
      spread: func(values: list<f64>) -> option<tuple<f64, f64, f64>>
          task
      whereabouts: func() -> string
          task

    imports
      rwasm:core/context@0.1.0                     provided
      rwasm:core/log@0.1.0                         provided
    ");
    let json = home.rwasm(["inspect", &guest("hello"), "--json"]).run().ok().json();
    assert_eq!(json["artifact"]["exports"].as_array().unwrap().len(), 6);
    home.rwasm(["inspect", &guest("evil-resources")]).run().ok().has("actor-");
    home.rwasm(["inspect", &guest("wordcount")]).run().ok().has("needs a grant: --dir");
    home.rwasm(["inspect", "/no/such.wasm"]).run().fails(2, "RW0004");
}

/// The project that `new` makes passes its own test, builds with the command that it names, and runs.
#[test]
fn a_new_project_builds_and_runs() {
    let home = Home::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let made = home.rwasm(["new", "--lang", "rust", "my-tasks"]).run().ok();
    insta::assert_snapshot!(made.stdout(), @"made my-tasks");
    let command = "cargo build --release --target wasm32-unknown-unknown";
    assert!(made.stderr().contains(&format!("cd my-tasks && {command}")), "{made:?}");
    let project = home.work().join("my-tasks");
    assert!(std::fs::read_to_string(project.join("README.md")).unwrap().contains(command));
    let compiler = home.command(&format!("{root}/tools/setup-guests.sh"), [""; 0]).with_tools().run().ok().stdout();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-project");
    let script = format!("{compiler}\nexport RUSTC\n{command}");
    home.command("bash", ["-ec", &script]).cwd(&project).with_tools().env("CARGO_TARGET_DIR", &built).deadline(BUILD).run().ok();
    let artifact = built.join("wasm32-unknown-unknown/release/my_tasks.wasm");
    let run = home.rwasm(["run", artifact.to_str().unwrap(), "--call", "count-words(\"to be or not to be\")"]).run().ok();
    insta::assert_snapshot!(run.stdout(), @r#"[("be", 2), ("not", 1), ("or", 1), ("to", 2)]"#);
    home.rwasm(["new", "my-tasks"]).run().fails(2, "RW0002").says("my-tasks exists already");
    home.rwasm(["new", "y", "--sdk", &format!("{root}/guest-sdk/rust")]).run().ok();
    home.rwasm(["new", "x", "--sdk", "/no/such"]).run().fails(2, "RW0004");
    home.rwasm(["new", "a b"]).run().fails(2, "RW0002");
    assert!(!home.work().join("x").exists());
}
