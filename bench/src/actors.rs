//! What calls of actors cost, from a driver in another process than the cluster, and what it takes to make many.

use bytes::Bytes;
use rwasm_client::{Actor, Artifact, Call, Client, Job, JobEvent, JobOptions};
use rwasm_types::{ActorOptions, Error, Grants, ResourceSet, Result, TaskOptions};
use rwasm_values::codec::VERSION;

use crate::{Setup, timing::Suite};

/// An actor whose method does nothing.
const ACTOR: &str = include_str!("actor.wat");

/// Calls of one batch, as Ray's rows have them.
const BATCH: usize = 1_000;
/// Actors of the rows with several: as many as Ray takes on a machine with so many cores.
const SEVERAL: usize = 4;
/// Actors of the row that makes many.
const MANY: usize = 1_000;

const NO_ARGS: &[u8] = &[VERSION, 0, 0];
/// What the method returns: 7.
const ANSWER: &[u8] = &[VERSION, 0, 7, 0, 0, 0];

pub(crate) async fn rows(setup: &Setup, suite: &mut Suite<'_>) -> Result<()> {
    let client = Client::connect(&setup.cluster).await?;
    let artifact = client.artifact(&Bytes::from_static(ACTOR.as_bytes())).await?;
    let calls = Calls::open(&client, &artifact, SEVERAL).await?;
    suite.time_async("actors: 1:1 actor calls sync", 1.0, || calls.run(1, 1)).await?;
    suite.time_async("actors: 1:1 actor calls async", BATCH as f64, || calls.run(1, BATCH)).await?;
    suite.time_async("actors: 1:n actor calls async", (SEVERAL * BATCH) as f64, || calls.run(SEVERAL, BATCH)).await?;
    calls.end().await?;
    suite
        .time_async("actors: created and called, 1,000", MANY as f64, || async {
            let calls = Calls::open(&client, &artifact, MANY).await?;
            calls.run(MANY, 1).await?;
            calls.end().await
        })
        .await
}

/// A job with actors, and a call of each.
struct Calls {
    job: tokio::sync::Mutex<Job>,
    calls: Vec<Call>,
}

impl Calls {
    async fn open(client: &Client, artifact: &Artifact, actors: usize) -> Result<Self> {
        let job = client.open_job(JobOptions { name: "bench".to_owned(), ..JobOptions::default() }).await?;
        let submitter = job.submitter();
        let options = TaskOptions { resources: ResourceSet::default(), actor: ActorOptions::default(), ..TaskOptions::default() };
        let make = submitter.define_actor(artifact, "cell", &options, &Grants::default()).await?;
        let made: Vec<Actor> = submitter.create_actors(artifact, &make, vec![Bytes::from_static(NO_ARGS); actors]).await?;
        let mut calls = Vec::with_capacity(actors);
        for actor in &made {
            calls.push(submitter.define_method(actor, "value", &options).await?);
        }
        Ok(Self { job: tokio::sync::Mutex::new(job), calls })
    }

    /// Calls so many of the actors so often each, and takes all results.
    async fn run(&self, actors: usize, times: usize) -> Result<()> {
        let mut job = self.job.lock().await;
        let submitter = job.submitter();
        for call in &self.calls[..actors] {
            submitter.submit(call, vec![Bytes::from_static(NO_ARGS); times]).await?;
        }
        let mut left = actors * times;
        while left > 0 {
            match job.next().await? {
                Some(JobEvent::Outcomes(outcomes)) => {
                    left = left.saturating_sub(outcomes.len());
                    for outcome in outcomes {
                        if outcome.result? != ANSWER {
                            return Err(Error::internal("an actor gave another answer"));
                        }
                    }
                }
                Some(JobEvent::Outputs(_) | JobEvent::Away(_) | JobEvent::Back) => {}
                Some(JobEvent::Ended(_)) | None => return Err(Error::internal("the benchmark's job ended")),
            }
        }
        Ok(())
    }

    /// Ends the job, and its actors with it.
    async fn end(&self) -> Result<()> {
        let mut job = self.job.lock().await;
        job.finish().await?;
        while let Some(event) = job.next().await? {
            if matches!(event, JobEvent::Ended(_)) {
                break;
            }
        }
        Ok(())
    }
}
