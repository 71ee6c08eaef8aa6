//! What one submit asks for, read and checked before a job is opened, so that what is refused leaves no trace.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rwasm_client::{Artifact, Call, Client};
use rwasm_types::{Code, Error, Grants, Result, TaskOptions};
use rwasm_values::wave;

use super::{
    files::{self, Files, Uploads},
    outcome::{Collector, Form},
};
use crate::{
    args::WorkArgs,
    commands::{grants, input, object::STDIN},
};

/// A submit that fits its artifact.
pub(crate) struct Plan {
    /// The export; `None` is the artifact's command.
    pub(crate) export: Option<String>,
    pub(crate) is_command: bool,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Grants,
    /// The encoded arguments of each task, with placeholders for files.
    pub(crate) tasks: Vec<Bytes>,
    /// What is to be stored for them first.
    pub(crate) uploads: Uploads,
    pub(crate) collector: Collector,
}

impl Plan {
    pub(crate) async fn of(client: &Client, args: &WorkArgs, artifact: &Artifact, json: bool) -> Result<Self> {
        let mut files = Files::default();
        let called = args.call.as_deref().map(wave::parse_call).transpose()?;
        let export_name = called.map(|(name, _)| name).or(args.func.as_deref());
        let (export, is_command) = (artifact.callable(export_name)?, export_name.is_none());
        artifact.info().check_imports()?;
        let call = Call::check_only(export);
        let options = grants::options(args)?;
        let called = called.map(|(_, arguments)| files.in_wave(arguments)).transpose()?;
        one_reads_stdin(args, &files)?;
        let (grant_args, guest_args) = (args.grants.clone(), args.args.clone());
        let grants = reading(move || grants::grants(&grant_args, &guest_args)).await?;
        let mut lines = None;
        let tasks = match (called, &args.map) {
            (Some(arguments), _) => vec![call.encode(&wave::parse_args(&arguments, &export.signature)?)?],
            (None, Some(path)) => {
                let (path, call) = (path.clone(), call.clone());
                let read = move || input::map_lines(&path, &call, &mut files).map(|lines| (lines, files));
                let ((numbers, tasks), named) = reading(read).await?;
                (lines, files) = (Some(numbers), named);
                tasks
            }
            (None, None) => vec![Bytes::new()],
        };
        if !is_command {
            files::check(client, &export.signature, &tasks).await?;
        }
        one_reads_stdin(args, &files)?;
        let signature = export.signature.clone();
        let (uploads, tasks) = reading(move || files.uploads(&signature, &tasks).map(|uploads| (uploads, tasks))).await?;
        let collector = Collector::new(call, Form { json, lines, file: args.output.clone() })?;
        Ok(Self { export: export_name.map(str::to_owned), is_command, options, grants, tasks, uploads, collector })
    }
}

/// Whoever reads standard input takes all of it, so one of those that may read it does at most.
fn one_reads_stdin(args: &WorkArgs, files: &Files) -> Result<()> {
    let is_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new(STDIN));
    let readers = [("--map", is_stdin(&args.map)), ("--stdin", is_stdin(&args.grants.stdin)), ("@file(-)", files.read_stdin())];
    let readers: Vec<&str> = readers.into_iter().filter_map(|(reader, reads)| reads.then_some(reader)).collect();
    if let [first, second, ..] = readers[..] {
        let message = format!("{first} and {second} cannot both read standard input");
        return Err(Error::new(Code::INVALID_ARGUMENT, message).hint("give one a file"));
    }
    Ok(())
}

/// Reads on a thread of its own: standard input may never end, and Ctrl-C has to be seen all the same.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal(format!("reading did not end: {error}")))?
}
