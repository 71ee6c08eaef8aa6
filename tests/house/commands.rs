//! Commands in documents are commands of the program: each `rwasm …` in code names a command that there is, with flags that it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::{
    no_complaints,
    tree::{self, Source},
};

/// What a command's help says: its flags and its own commands.
#[derive(Clone, Debug, Default)]
struct Help {
    flags: BTreeSet<String>,
    commands: BTreeSet<String>,
}

impl Help {
    fn parse(text: &str) -> Self {
        let flag =
            |word: &str| word.trim_matches([',', '[', ']', '.', '`', ';', ')', '(']).split('=').next().unwrap_or_default().to_owned();
        let flags = text.split_whitespace().filter(|word| word.starts_with('-')).map(flag).collect();
        let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let commands = listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        Self { flags, commands }
    }

    /// Asks the program.
    fn of(path: &[String]) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_rwasm")).args(path).arg("--help").output().expect("rwasm runs");
        assert!(output.status.success(), "rwasm {path:?} --help: {}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Helps by the words of their commands, asked once.
struct Helps<F>(F, BTreeMap<Vec<String>, Help>);

impl<F: Fn(&[String]) -> Help> Helps<F> {
    fn get(&mut self, path: &[String]) -> Help {
        self.1.entry(path.to_vec()).or_insert_with(|| (self.0)(path)).clone()
    }
}

/// What follows `rwasm` in the code of a line, each up to the end of the command.
fn commands(line: &str) -> Vec<&str> {
    let block = line.starts_with("    ");
    let found = line.match_indices("rwasm ").filter(|(at, _)| {
        let before = line[..*at].trim_end();
        before.ends_with('`') && line[..*at].ends_with('`') || block && (before.is_empty() || before.ends_with(['$', '|', '=']))
    });
    let rest = found.map(|(at, name)| &line[at + name.len()..]);
    rest.map(|rest| rest.split(['`', '|', ';', '#', '>', '…', '"']).next().unwrap_or_default()).collect()
}

/// What is wrong with the words after `rwasm`.
fn check<F: Fn(&[String]) -> Help>(command: &str, helps: &mut Helps<F>) -> Option<String> {
    let mut path: Vec<String> = Vec::new();
    let mut help = helps.get(&path);
    for word in command.split_whitespace() {
        if word == "--" {
            break;
        }
        let word = word.trim_matches(['[', ']', ',', '.']);
        if is_flag(word) {
            let flag = word.split('=').next().unwrap_or_default();
            if !help.flags.contains(flag) {
                return Some(format!("`rwasm {}` has no {flag}", path.join(" ")));
            }
        } else if help.commands.contains(word) {
            path.push(word.to_owned());
            help = helps.get(&path);
        } else if !help.commands.is_empty() {
            let placeholder = word.chars().all(|c| c.is_uppercase());
            return (!placeholder).then(|| format!("`rwasm {}` has no command {word}", path.join(" ")));
        }
    }
    None
}

/// Numbers and a lone `-` are no flags.
fn is_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()))
}

fn complaints<F: Fn(&[String]) -> Help>(document: &Source, helps: &mut Helps<F>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(document.text.lines()) {
        let wrong = commands(line).into_iter().filter_map(|command| check(command, helps));
        complaints.extend(wrong.map(|why| format!("{}:{number}: {why}", document.path)));
    }
    complaints
}

#[test]
fn documents_give_commands_that_there_are() {
    let mut helps = Helps(Help::of, BTreeMap::new());
    let documents = tree::sources().into_iter().filter(|source| source.has_extension("md"));
    no_complaints(&documents.flat_map(|document| complaints(&document, &mut helps)).collect::<Vec<_>>());
    assert!(helps.1.len() > 10, "only {} commands were found in documents", helps.1.len());
}

#[test]
fn wrong_commands_are_found() {
    let top = "Usage: rwasm\n\nCommands:\n  run   Run\n  job   Jobs\n\nOptions:\n  -h, --help  Print help\n";
    let ask = |path: &[String]| match path.first().map(String::as_str) {
        None => Help::parse(top),
        Some("job") => Help::parse("Commands:\n  list  List\n\nOptions:\n      --json"),
        _ => Help::parse("Options:\n  -o, --output <FILE>  File\n      --json"),
    };
    let mut helps = Helps(ask, BTreeMap::new());
    let mut of = |text: &str| complaints(&Source::new("a.md", text), &mut helps).len();
    for good in [
        "    $ rwasm run a.wasm -o b --json -- --anything",
        "see `rwasm job list --json` and `rwasm COMMAND`",
        "    echo a | rwasm run --output=x > y",
        "rwasm walks, as prose may say, and `rwasm` too",
        "    a rwasm walk in what is printed",
        "    rwasm run --output - 'f(-1, -0.5)'",
    ] {
        assert_eq!(of(good), 0, "{good}");
    }
    for bad in ["    rwasm walk", "    $ rwasm run --colour", "`rwasm job follow`", "`rwasm job list --output x`", "    a | rwasm run -x"] {
        assert_eq!(of(bad), 1, "{bad}");
    }
}
