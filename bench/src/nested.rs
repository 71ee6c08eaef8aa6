//! What tasks cost that a task starts: from the guest's `submit` to its having the results, on the node that it runs on.

use bytes::Bytes;
use rwasm_client::{Client, JobEvent, JobOptions};
use rwasm_types::{Error, Grants, Result, TaskOptions};
use rwasm_values::codec::VERSION;

use crate::{Setup, timing::Suite};

/// Tasks that one task starts at once.
const FAN: u32 = 1_000;

/// Rows that need the example `parallel`; they are left out without it.
pub(crate) async fn rows(setup: &Setup, suite: &mut Suite<'_>) -> Result<()> {
    let Some(parallel) = &setup.parallel else { return Ok(()) };
    let client = Client::connect(&setup.cluster).await?;
    let artifact = client.artifact(parallel).await?;
    let job = client.open_job(JobOptions { name: "bench".to_owned(), ..JobOptions::default() }).await?;
    let call = job.define(&artifact, Some("fan"), &TaskOptions::default(), &Grants::default()).await?;
    let job = tokio::sync::Mutex::new(job);
    suite
        .time_async("guests: 1,000 tasks that a task starts and waits for", f64::from(FAN), || async {
            let mut job = job.lock().await;
            // No refs, and all arguments as values.
            let args = [&[VERSION, 0, 0][..], &FAN.to_le_bytes()].concat();
            job.submitter().submit(&call, vec![args.into()]).await?;
            loop {
                match job.next().await? {
                    Some(JobEvent::Outcomes(outcomes)) => {
                        let result = outcomes.into_iter().next().map(|outcome| outcome.result).transpose()?;
                        return answered(&result.unwrap_or_default());
                    }
                    Some(JobEvent::Outputs(_) | JobEvent::Away(_) | JobEvent::Back) => {}
                    Some(JobEvent::Ended(_)) | None => return Err(Error::internal("the benchmark's job ended")),
                }
            }
        })
        .await
}

/// `ok(1000)`, as a message.
fn answered(result: &Bytes) -> Result<()> {
    let expected = [&[VERSION, 0, 0][..], &FAN.to_le_bytes()].concat();
    if *result == expected { Ok(()) } else { Err(Error::internal(format!("a fan of tasks gave {result:?}"))) }
}
