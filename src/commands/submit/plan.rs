//! What one submit asks for, read and checked before a job is opened, so that what is refused leaves no trace.

use std::path::Path;

use bytes::Bytes;
use rwasm_client::{Artifact, Call};
use rwasm_types::{Code, Error, Grants, Result, TaskOptions};
use rwasm_values::wave;

use super::outcome::{Collector, Form};
use crate::{
    args::WorkArgs,
    commands::{grants, input},
};

/// A submit that fits its artifact.
pub(crate) struct Plan {
    /// The export; `None` is the artifact's command.
    pub(crate) export: Option<String>,
    pub(crate) is_command: bool,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Grants,
    /// The encoded arguments of each task.
    pub(crate) tasks: Vec<Bytes>,
    pub(crate) collector: Collector,
}

impl Plan {
    pub(crate) async fn of(args: &WorkArgs, artifact: &Artifact, json: bool) -> Result<Self> {
        let called = args.call.as_deref().map(wave::parse_call).transpose()?;
        let export_name = called.map(|(name, _)| name).or(args.func.as_deref());
        let export = artifact.callable(export_name)?;
        artifact.info().check_imports()?;
        let call = Call::check_only(export);
        let options = grants::options(args)?;
        if [&args.map, &args.grants.stdin].iter().all(|path| path.as_deref() == Some(Path::new("-"))) {
            return Err(Error::new(Code::INVALID_ARGUMENT, "--map and --stdin cannot both read standard input").hint("give one a file"));
        }
        let (grant_args, guest_args) = (args.grants.clone(), args.args.clone());
        let grants = reading(move || grants::grants(&grant_args, &guest_args)).await?;
        let mut lines = None;
        let tasks = match (called, &args.map) {
            (Some((_, arguments)), _) => vec![call.encode(&wave::parse_args(arguments, &export.signature)?)?],
            (None, Some(path)) => {
                let (path, call) = (path.clone(), call.clone());
                let (numbers, tasks) = reading(move || input::map_lines(&path, &call)).await?;
                lines = Some(numbers);
                tasks
            }
            (None, None) => vec![Bytes::new()],
        };
        let collector = Collector::new(call, Form { json, lines, file: args.output.clone() })?;
        Ok(Self { export: export_name.map(str::to_owned), is_command: export_name.is_none(), options, grants, tasks, collector })
    }
}

/// Reads on a thread of its own: standard input may never end, and Ctrl-C has to be seen all the same.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal(format!("reading did not end: {error}")))?
}
