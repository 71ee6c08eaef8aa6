//! What is wrong with a command line, told as every other error is: with a code, as JSON where that is asked for, with exit status 2.
//!
//! The grammar's own errors keep their usage and suggestions; what a value's reader refuses keeps its code and its hint.

use std::{error::Error as _, process::ExitCode};

use clap::error::{ContextKind, ErrorKind};
use rwasm_types::{Code, Error};

use crate::{exit, ui};

/// Prints help, the version or what is wrong, and gives the status.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Whoever does not read the help does not need it.
        let _ = error.print();
        return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    // The command line could not be read, so this is a guess; it errs only where `--json` is the value of another option.
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    match of_value(error) {
        Some(error) => exit::report(&error, json),
        None if json => exit::report(&first_paragraph(&error.render().to_string()), json),
        None => {
            let text = if ui::fancy() { error.render().ansi().to_string() } else { error.render().to_string() };
            ui::err(text.replacen("error:", &format!("error[{}]:", Code::INVALID_ARGUMENT), 1).as_bytes());
            2.into()
        }
    }
}

/// The error of a value that its reader refused.
fn of_value(error: &clap::Error) -> Option<Error> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let source = error.source()?;
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (arg, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    // An option has its name before the brackets, an argument has nothing but them.
    let arg = arg.trim_start_matches(['<', '[']).trim_end_matches(if arg.starts_with('-') { &[][..] } else { &['>', ']', '.'] });
    if let Some(ours) = source.downcast_ref::<Error>() {
        return Some(ours.clone().context(arg));
    }
    let why = source.to_string();
    let why = if why.contains(&value) { why } else { format!("`{value}`: {why}") };
    Some(Error::new(Code::INVALID_ARGUMENT, why).context(arg))
}

/// What the grammar says, in one line and without the usage.
fn first_paragraph(text: &str) -> Error {
    let lines: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let message = lines.join(" ");
    Error::new(Code::INVALID_ARGUMENT, message.strip_prefix("error: ").unwrap_or(&message)).hint("--help lists what there is")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn refused(args: &[&str]) -> clap::Error {
        Cli::try_parse_from(["rwasm"].iter().chain(args)).unwrap_err()
    }

    #[test]
    fn what_a_reader_of_values_refuses_keeps_its_code() {
        let told = |args: &[&str]| of_value(&refused(args)).map(|error| (error.code(), error.to_string())).unwrap();
        let (code, text) = told(&["run", "x", "--allow-net", "example.org"]);
        assert_eq!(code, Code::BAD_DESTINATION);
        assert_eq!(
            text,
            "--allow-net <HOST:PORT>: `example.org` is not a destination: it has no port; write HOST:PORT, as in example.org:443"
        );
        assert_eq!(told(&["run", "x", "--resources", "{"]).0, Code::MALFORMED_JSON);
        assert_eq!(told(&["run", "x", "--resources", "{\"gpu\": -1}"]).0, Code::INVALID_ARGUMENT);
        let (code, text) = told(&["start", "--head", "--port", "70000"]);
        assert_eq!((code, text.as_str()), (Code::INVALID_ARGUMENT, "--port <PORT>: 70000 is not in 0..=65535"));
        assert_eq!(told(&["run", "x", "--timeout", "3"]).1, "--timeout <TIME>: `3` is not a duration, which looks like 250ms, 3s or 1h30m");
        assert_eq!(told(&["explain", "x"]).1, "CODE: `x` is not an error code; write it as in RW0101");
        assert_eq!(told(&["start", "--head", "--num-cpus", "x"]).1, "--num-cpus <N>: `x`: invalid digit found in string");
    }

    #[test]
    fn the_grammars_own_errors_fit_in_a_line() {
        let error = first_paragraph(&refused(&["start"]).to_string());
        assert_eq!(
            error.to_string(),
            "the following required arguments were not provided: <--head|--address <HOST:PORT>>; --help lists what there is"
        );
        assert!(of_value(&refused(&["frobnicate"])).is_none());
    }
}
