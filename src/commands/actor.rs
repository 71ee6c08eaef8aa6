//! `actor`: instances that stay, made and called from a shell.

use std::process::ExitCode;

use rwasm_client::{Actor, Call, Client, Job, JobOptions};
use rwasm_types::{
    ActorId, ActorName, ActorOptions, Code, Error, Placement, ResourceSet, Result, TaskLimits, TaskOptions,
    api::{ActorRecord, ActorState, Listing, Order, Query},
};
use rwasm_values::wave;

use super::{
    grants, input,
    list::show,
    submit::{Collector, Files, Form, Outputs, Source, Stay, attend, end_refused},
};
use crate::{
    args::{ActorCommand, CallActorArgs, CreateActorArgs, WhichActor, access::ViewArgs},
    target, ui,
};

/// `rwasm actor …`.
pub(crate) async fn actor(command: ActorCommand, json: bool) -> Result<ExitCode> {
    match command {
        ActorCommand::Create(args) => create(*args, json).await,
        ActorCommand::Call(args) => call(&args, json).await,
        ActorCommand::List { limit, view } => list(&view, limit, json).await,
        ActorCommand::Status { actor, view } => {
            let client = target::connect_into(&view).await?;
            let record = record(&client, &actor).await?;
            tell(&record, json, &format!("actor {} is {}{}", record.id, record.state, details(&record)))
        }
        ActorCommand::Kill { actor, drain, target } => {
            let client = target::connect(&target).await?;
            let actor = id(&client, &actor).await?;
            let record: ActorRecord = client.order(&Order::EndActor { actor, drain }).await?;
            tell(&record, json, &format!("actor {} {}", record.id, if drain { "ends after the calls that it has" } else { "is ended" }))
        }
    }
}

fn tell(record: &ActorRecord, json: bool, line: &str) -> Result<ExitCode> {
    if json {
        ui::json(record)?;
    } else {
        ui::line(&ui::printable(line))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The actor that is meant.
async fn record(client: &Client, which: &WhichActor) -> Result<ActorRecord> {
    let actor = id(client, which).await?;
    client.query(&Query::Actor { actor }).await
}

async fn id(client: &Client, which: &WhichActor) -> Result<ActorId> {
    match which {
        WhichActor::Id(id) => Ok(*id),
        WhichActor::Name(name) => client.named(name).await,
    }
}

async fn create(mut args: CreateActorArgs, json: bool) -> Result<ExitCode> {
    // Read first, so that a wrong path is said at once.
    let source = Source::of(&args.file)?;
    grants::on_cluster(&mut args.grants)?;
    let client = target::connect(&args.target).await?;
    let artifact = source.send(&client).await?;
    let (creator, arguments) = wave::parse_call(&args.call)?;
    let (export, _) = artifact.creator(creator)?;
    let encoded = Call::check_only(&export).encode(&wave::parse_args(arguments, &export.signature)?)?;
    let (options, given) = (options(&args)?, grants::grants(&args.grants, &[])?);
    let name = options.actor.name.as_ref().map_or_else(|| export.name.plain_func().to_owned(), ToString::to_string);
    let mut job = client.open_job(JobOptions { name: format!("actor {name}"), detached: true, follow: false }).await?;
    let call = match job.submitter().define_actor(&artifact, creator, &options, &given).await {
        Ok(call) => call,
        Err(error) => {
            end_refused(&mut job).await;
            let there =
                error.field("actor").and_then(|id| id.parse().ok()).filter(|_| args.get_if_exists && error.code() == Code::NAME_TAKEN);
            let Some(there) = there else { return Err(error) };
            return made(&client.query(&Query::Actor { actor: there }).await?, json);
        }
    };
    let actors = job.submitter().create_actors(&artifact, &call, vec![encoded]).await?;
    job.finish().await?;
    job.arrived().await?;
    let Some(id) = actors.first().map(Actor::id) else { return Err(Error::internal("no actor was submitted")) };
    let record = if args.no_wait { client.query(&Query::Actor { actor: id }).await? } else { client.alive(id).await? };
    made(&record, json)
}

/// Shows an actor that is there.
fn made(record: &ActorRecord, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(record)?;
    } else {
        ui::line(&record.id.to_string())?;
        ui::note(&format!("call it with `rwasm actor call {id} 'METHOD(ARGS)'`, end it with `rwasm actor kill {id}`", id = record.id));
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &CreateActorArgs) -> Result<TaskOptions> {
    let memory = args.limits.memory.unwrap_or(0);
    let resources = ResourceSet { cpu: args.num_cpus, gpu: args.num_gpus, memory, custom: args.resources.clone().unwrap_or_default() };
    Ok(TaskOptions {
        resources: resources.checked()?,
        limits: grants::limits(&args.limits)?,
        retries_max: Some(args.max_restarts),
        priority: args.priority,
        placement: Placement { node: args.node, labels: args.label.clone(), group: args.placement_group.clone(), ..Placement::default() }
            .checked()?,
        actor: ActorOptions {
            name: args.name.clone().map(|name| ActorName { namespace: args.namespace.clone(), name }),
            calls_max: args.max_pending_calls,
        },
        ..TaskOptions::default()
    })
}

async fn call(args: &CallActorArgs, json: bool) -> Result<ExitCode> {
    let client = target::connect(&args.target).await?;
    let actor = client.actor(id(&client, &args.actor).await?).await?;
    let mut files = Files::default();
    let called = args.call.as_deref().map(wave::parse_call).transpose()?;
    let Some(method) = called.map(|(method, _)| method).or(args.func.as_deref()) else {
        return Err(Error::internal("a call without a method got past the command line's grammar"));
    };
    let export = actor.method(method)?;
    let check = Call::check_only(&export);
    let (lines, tasks) = match (called, &args.map) {
        (Some((_, arguments)), _) => {
            let arguments = files.in_wave(arguments)?;
            (None, vec![check.encode(&wave::parse_args(&arguments, &export.signature)?)?])
        }
        (None, Some(path)) => input::map_lines(path, &check, &mut files).map(|(numbers, tasks)| (Some(numbers), tasks))?,
        (None, None) => (None, Vec::new()),
    };
    let uploads = files.uploads(&export.signature, &tasks)?;
    let mut collector = Collector::new(check, Form { json, lines, file: None })?;
    let mut interrupt =
        rwasm_runtime::termination().map_err(|error| Error::internal(format!("signals cannot be listened for: {error}")))?;
    let name = format!("{}.{method}", actor.id());
    let mut job: Job = client.open_job(JobOptions { name, detached: false, follow: false }).await?;
    let begun = async {
        let call = job.submitter().define_method(&actor, method, &call_options(args)?).await?;
        Ok((call, uploads.store(&client, job.id(), tasks).await?))
    };
    let (call, tasks) = match begun.await {
        Ok(begun) => begun,
        Err(error) => {
            end_refused(&mut job).await;
            return Err(error);
        }
    };
    let mut outputs = Outputs::new(false, false);
    attend(&mut job, (&call, tasks), (&mut collector, &mut outputs), &mut interrupt, Stay::OnCluster).await
}

fn call_options(args: &CallActorArgs) -> Result<TaskOptions> {
    let default = TaskLimits::default();
    let limits = TaskLimits {
        wall: args.timeout.unwrap_or(default.wall),
        cpu: args.cpu_time.unwrap_or(default.cpu),
        result_bytes: args.max_result.unwrap_or(default.result_bytes),
        ..default
    };
    Ok(TaskOptions { limits: limits.checked()?, retries_max: Some(args.max_retries), ..TaskOptions::default() })
}

/// Shows actors.
pub(crate) async fn list(view: &ViewArgs, limit: usize, json: bool) -> Result<ExitCode> {
    let listing: Listing<ActorRecord> = target::connect_into(view).await?.query(&Query::Actors { limit }).await?;
    show(&listing, json, &["ACTOR", "NAME", "STATE", "CLASS", "NODE", "RESTARTS", "CALLS", "CREATED", "ERROR"], |row| {
        vec![
            row.id.to_string(),
            row.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.state.to_string(),
            class(row).to_owned(),
            row.node.map(|node| node.to_string()).unwrap_or_default(),
            row.restarts.to_string(),
            row.calls.to_string(),
            ui::time(row.created_ms),
            row.error.as_ref().map(|error| error.code().to_string()).unwrap_or_default(),
        ]
    })
}

/// The class's own name.
fn class(row: &ActorRecord) -> &str {
    row.class.rsplit_once('.').map_or(&row.class, |(_, class)| class)
}

fn details(record: &ActorRecord) -> String {
    match (record.state, &record.error, record.node) {
        (ActorState::Dead, Some(error), _) => format!(": {}", error.message()),
        (_, _, Some(node)) => {
            format!(" on {node}: a {}, {} calls wait or run, made anew {} times", class(record), record.calls, record.restarts)
        }
        _ => String::new(),
    }
}
