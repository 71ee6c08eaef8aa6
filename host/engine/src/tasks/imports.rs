//! The imports of `rwasm:core/tasks`. They run on the guest's fiber, for all of them may wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{Code, Error, LabelSelector, Name, ParseResourceError, Priority, Quantity, ResourceSet, Result};
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Resource, ResourceType},
};

use super::{Call, CallOptions, Task};
use crate::{
    objects::{Failure, HANDLES_MAX, Held},
    raw::GuestBytes,
    store::Host,
};

/// The interface, as this host has it.
const VERSIONED: &str = "rwasm:core/tasks@0.1.0";

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "rwasm:core/tasks";

/// The most bytes of an artifact's or an export's name.
const NAME_BYTES_MAX: usize = 4096;
/// The most custom resources, and the most conditions on labels, of one call.
const CONDITIONS_MAX: usize = 64;

/// What guests get: an answer of theirs, or a failure that they can handle.
type Answer<T> = Result<T, Failure>;

type Cx<'a> = StoreContextMut<'a, Host>;

/// A task that a guest has started; what a handle of `task` stands for.
pub(crate) struct Started(pub(crate) Arc<dyn Task>);

/// `rwasm:core/tasks.target`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Target {
    artifact: Option<String>,
    export: String,
}

/// `rwasm:core/tasks.options`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Options {
    cpus: Option<f64>,
    memory: Option<u64>,
    resources: Vec<(String, f64)>,
    labels: Vec<String>,
    spread: bool,
    priority: Option<i8>,
    retries: Option<u32>,
    #[component(name = "timeout-ms")]
    timeout_ms: Option<u64>,
}

impl Options {
    fn read(self) -> Result<CallOptions> {
        let Self { cpus, memory, resources, labels, spread, priority, retries, timeout_ms } = self;
        if resources.len().max(labels.len()) > CONDITIONS_MAX {
            return Err(Error::new(Code::LIMIT, format!("a call may name {CONDITIONS_MAX} resources, and as many labels")));
        }
        let custom = resources.into_iter().map(|(name, amount)| Ok((name_of(&name)?, quantity(&name, amount)?)));
        let priority = priority.map(Priority::try_from).transpose();
        Ok(CallOptions {
            resources: ResourceSet {
                cpu: cpus.map_or(Ok(Quantity::ONE), |cpus| quantity("cpus", cpus))?,
                memory: memory.unwrap_or_default(),
                custom: custom.collect::<Result<_>>()?,
                ..ResourceSet::default()
            }
            .checked()?,
            labels: labels.iter().map(|label| label.parse()).collect::<Result<Vec<LabelSelector>>>()?,
            spread,
            priority: priority.map_err(|error| Error::new(Code::INVALID_ARGUMENT, error.to_string()))?,
            retries,
            wall: timeout_ms.map(Duration::from_millis),
        })
    }
}

fn name_of(name: &str) -> Result<Name> {
    Name::new(name).map_err(|error| Error::new(Code::INVALID_ARGUMENT, error.to_string()))
}

fn quantity(what: &str, amount: f64) -> Result<Quantity> {
    let what: String = what.chars().take(80).collect();
    // The shortest text of an `f64` with four decimals is exact.
    amount.to_string().parse().map_err(|error: ParseResourceError| Error::new(Code::INVALID_ARGUMENT, format!("{what}: {error}")))
}

/// Adds the interface to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut linker = linker.instance(VERSIONED)?;
    linker.resource("task", ResourceType::host::<Started>(), |mut cx, rep| {
        drop(cx.data_mut().objects()?.table.delete(Resource::<Started>::new_own(rep))?);
        Ok(())
    })?;
    linker.func_wrap("[method]task.id", |cx: Cx<'_>, (task,): (Resource<Started>,)| Ok((started(&cx, &task)?.id().to_string(),)))?;
    linker.func_wrap("[method]task.output", |mut cx: Cx<'_>, (task,): (Resource<Started>,)| {
        let output = started(&cx, &task)?.output();
        // A full table is the guest's doing, and there is no error to answer with.
        Ok((cx.data_mut().objects()?.table.push(Held(output))?,))
    })?;
    linker.func_wrap("[method]task.cancel", |cx: Cx<'_>, (task,): (Resource<Started>,)| {
        started(&cx, &task)?.cancel();
        Ok(())
    })?;
    type Submit = (Target, GuestBytes, Vec<Resource<Held>>, Options);
    linker.func_wrap_async("submit", |cx: Cx<'_>, (target, args, refs, options): Submit| {
        Box::new(async move {
            let refs = refs.iter().map(|handle| cx.data().objects_ref()?.object(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
            Ok((submit(cx, target, args, refs.iter().map(|object| object.id()).collect(), options).await,))
        })
    })?;
    type Wait = (Vec<Resource<Held>>, u32, Option<u64>);
    linker.func_wrap_async("wait", |cx: Cx<'_>, (objects, count, timeout_ms): Wait| {
        Box::new(async move {
            let objects = objects.iter().map(|handle| cx.data().objects_ref()?.object(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
            let tasks = Arc::clone(&cx.data().objects_ref()?.tasks);
            let within = timeout_ms.map(Duration::from_millis);
            Ok((tasks.wait(objects, count as usize, within).await.map_err(Failure::from),))
        })
    })
}

/// The task of a handle. A handle that is none is wasmtime's fault or ours, and traps.
fn started(cx: &Cx<'_>, handle: &Resource<Started>) -> wasmtime::Result<Arc<dyn Task>> {
    Ok(Arc::clone(&cx.data().objects_ref()?.table.get(handle)?.0))
}

async fn submit(
    mut cx: Cx<'_>,
    target: Target,
    args: GuestBytes,
    refs: Vec<rwasm_types::ObjectId>,
    options: Options,
) -> Answer<Resource<Started>> {
    let Target { artifact, export } = target;
    if export.len().max(artifact.as_ref().map_or(0, String::len)) > NAME_BYTES_MAX {
        return Err(Error::new(Code::LIMIT, format!("names have at most {NAME_BYTES_MAX} bytes")).into());
    }
    if refs.len() > HANDLES_MAX {
        return Err(Error::new(Code::OBJECT_HANDLES, format!("a call may name {HANDLES_MAX} objects")).into());
    }
    let options = options.read()?;
    let args = Bytes::copy_from_slice(args.with_data(&mut cx).1);
    let tasks = Arc::clone(&cx.data().objects_ref()?.tasks);
    let task = tasks.submit(Call { artifact, export, args, refs, options }).await?;
    let table = &mut cx.data_mut().objects()?.table;
    table.push(Started(task)).map_err(|_full| Error::new(Code::OBJECT_HANDLES, "the task has as many handles open as it may").into())
}
