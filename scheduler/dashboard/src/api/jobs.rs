//! Jobs: listed, submitted, stopped; their results and output.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use rwasm_runtime::OnEnd;
use rwasm_types::{
    ArtifactDigest, Code, Error, Grants, JobId, Priority, Quantity, ResourceSet, Result, TaskLimits, TaskOptions,
    api::{Ask, JobRecord, Listing, Order, Query},
    view::JobPage,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{ask, logs::lines, pass, stream_permit};
use crate::{
    app::{Admitted, App, JSON_BYTES_MAX, read},
    cluster::{LogRequest, Running, Work},
    page::{Page, Params, id},
    reply::{Failure, Json},
};

/// Calls of one submit.
const CALLS_MAX: usize = 10_000;

/// `GET /api/v1/jobs`
pub(crate) async fn list(Admitted { visitor, .. }: Admitted, mut params: Params) -> Result<Json, Failure> {
    let state = params.take("state")?;
    let page = JobPage { name: params.text("name")?, after: params.take("after")? };
    let limit = params.limit()?;
    params.done()?;
    let jobs: Listing<JobRecord> = ask(&visitor, Query::Jobs { state, limit: limit + 1, page }).await?;
    Json::of(&Page::of(jobs, limit, |job| job.cursor().to_string()))
}

/// `GET /api/v1/jobs/{job}`
pub(crate) async fn one(Admitted { visitor, .. }: Admitted, Path(job): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    Ok(pass(&visitor, Query::Job { job: id(&job)? }).await?)
}

/// `POST /api/v1/jobs/{job}/stop`
pub(crate) async fn stop(Admitted { visitor, .. }: Admitted, Path(job): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    Ok(visitor.access.ask(Ask::Order(Order::StopJob { job: id(&job)? })).await.map(Json)?)
}

/// What a submit says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit {
    artifact: ArtifactDigest,
    /// The export to call; absent for a command.
    #[serde(default)]
    export: Option<String>,
    /// The arguments of each task.
    #[serde(default)]
    calls: Vec<Box<RawValue>>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    options: Options,
    /// Arguments of a command.
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    stdin: String,
}

/// How tasks are run, in the units of JSON.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    cpus: Option<Quantity>,
    memory_bytes: Option<Whole<u64>>,
    timeout_ms: Option<Whole<u64>>,
    cpu_time_ms: Option<Whole<u64>>,
    retries_max: Option<Whole<u32>>,
    priority: Whole<i8>,
}

/// A whole number, of which JSON has two ways of writing: `3` and `3.0` are the same.
#[derive(Clone, Copy, Default)]
struct Whole<T>(T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Positive(u64),
            Negative(i64),
            Decimal(f64),
        }
        let number = match Form::deserialize(deserializer)? {
            Form::Positive(number) => Some(number.into()),
            Form::Negative(number) => Some(number.into()),
            // Beyond that, its neighbours are not whole numbers either.
            Form::Decimal(number) if number.fract() == 0.0 && number.abs() <= (1_u64 << f64::MANTISSA_DIGITS) as f64 => {
                Some(number as i128)
            }
            Form::Decimal(_) => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        number.map(Self).ok_or_else(|| serde::de::Error::custom("a number is not whole, or too small or too large"))
    }
}

impl Options {
    fn read(self) -> Result<TaskOptions> {
        let Self { cpus, memory_bytes, timeout_ms, cpu_time_ms, retries_max, priority: Whole(priority) } = self;
        let [memory_bytes, timeout_ms, cpu_time_ms] =
            [memory_bytes, timeout_ms, cpu_time_ms].map(|whole| whole.map(|Whole(number)| number));
        let retries_max = retries_max.map(|Whole(number)| number);
        let default = TaskLimits::default();
        let limits = TaskLimits {
            memory_bytes: memory_bytes.unwrap_or(default.memory_bytes),
            wall: timeout_ms.map_or(default.wall, Duration::from_millis),
            cpu: cpu_time_ms.map_or(default.cpu, Duration::from_millis),
            ..default
        };
        let out_of_range = || Error::new(Code::INVALID_ARGUMENT, format!("a priority is from -{max} to {max}", max = Priority::MAX));
        Ok(TaskOptions {
            resources: ResourceSet { cpu: cpus.unwrap_or(Quantity::ONE), memory: memory_bytes.unwrap_or(0), ..ResourceSet::default() },
            limits: limits.checked()?,
            retries_max,
            priority: Priority::new(priority).ok_or_else(out_of_range)?,
            ..TaskOptions::default()
        })
    }
}

impl Submit {
    fn read(self) -> Result<Work> {
        let Self { artifact, export, calls, name, options, args, env, stdin } = self;
        if calls.len() > CALLS_MAX {
            return Err(
                Error::new(Code::LIMIT, format!("a submit may have {CALLS_MAX} calls")).hint("submit more with `rwasm submit --map`")
            );
        }
        if export.is_some() == calls.is_empty() {
            let message = if calls.is_empty() { "a function is called with no calls" } else { "calls are made to no function" };
            return Err(Error::new(Code::INVALID_ARGUMENT, message).hint("give `export` and `calls` together, or neither for a command"));
        }
        let grants = Grants { args, env: env.into_iter().collect(), stdin: stdin.into_bytes().into(), ..Grants::default() };
        grants.check()?;
        let calls = calls.iter().map(|call| call.get().to_owned()).collect();
        Ok(Work { artifact, export, calls, name, options: options.read()?, grants })
    }
}

#[derive(Serialize)]
struct Submitted {
    job: JobId,
    tasks: u64,
}

/// `POST /api/v1/jobs`
pub(crate) async fn submit(State(app): State<Arc<App>>, admitted: Admitted, params: Params, body: Body) -> Result<Response, Failure> {
    params.done()?;
    let body = read(body, JSON_BYTES_MAX).await?;
    let submit: Submit = serde_json::from_slice(&body).map_err(|error| {
        let code = if error.is_data() { Code::INVALID_ARGUMENT } else { Code::MALFORMED_JSON };
        Error::new(code, format!("the submit is not understood: {error}"))
    })?;
    let work = submit.read()?;
    let tasks = work.calls.len().max(1) as u64;
    app.results.make_room()?;
    let Running { job, results } = admitted.visitor.access.run(work).await?;
    app.results.open(job, admitted.visitor.tenant);
    keep(&app, job, results);
    Ok((StatusCode::CREATED, [("location", format!("/api/v1/jobs/{job}"))], Json::of(&Submitted { job, tasks })?).into_response())
}

/// Reads a job's results to their end, whoever asks for them.
fn keep(app: &Arc<App>, job: JobId, mut results: futures_util::stream::BoxStream<'static, Result<Vec<crate::cluster::TaskResult>>>) {
    let keeper = Arc::clone(app);
    app.scope.spawn("rest-results", OnEnd::Continue, async move {
        while let Some(came) = results.next().await {
            match came {
                Ok(came) => keeper.results.put(job, came),
                Err(error) => {
                    tracing::warn!(%job, %error, "results of a job that was submitted through REST are lost");
                    break;
                }
            }
        }
        keeper.results.end(job);
    });
}

/// `GET /api/v1/jobs/{job}/results`
pub(crate) async fn results(
    State(app): State<Arc<App>>,
    Admitted { visitor, .. }: Admitted,
    Path(job): Path<String>,
    mut params: Params,
) -> Result<Json, Failure> {
    let limit = params.limit()?;
    params.done()?;
    let job: JobId = id(&job)?;
    match app.results.of(job, &visitor.tenant, limit) {
        Some(answer) => Json::of(&answer),
        None => Err(Error::new(Code::NOT_FOUND, format!("no results of job {job} are kept"))
            .hint("results go to whoever submits; those of jobs that were submitted through REST are kept for a while")
            .into()),
    }
}

/// `GET /api/v1/jobs/{job}/logs`
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    Admitted { visitor, .. }: Admitted,
    Path(job): Path<String>,
    mut params: Params,
) -> Result<Response, Failure> {
    let (sequence, follow, search) = (params.take("task")?, params.take("follow")?.unwrap_or_default(), params.text("search")?);
    params.done()?;
    let request = LogRequest { job: id(&job)?, sequence, follow };
    let permit = stream_permit(&app)?;
    Ok(lines(visitor.access.logs(request).await?, search, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_however_json_writes_them() {
        let read = |text: &str| serde_json::from_str::<Whole<i8>>(text).ok().map(|Whole(number)| number);
        assert_eq!(["3", "3.0", "-3", "-3.0", "3e1", "-128"].map(read), [3, 3, -3, -3, 30, -128].map(Some));
        assert_eq!(["3.5", "128", "128.0", "-129", "1e30", "null", "\"3\"", "[3]"].map(read), [None; 8]);
        assert_eq!(serde_json::from_str::<Whole<u64>>("18446744073709551615").ok().map(|Whole(number)| number), Some(u64::MAX));
    }
}
