//! `/api/v1/events`: what changed, once a second, as server-sent events.
//!
//! ```text
//! event: summary   data: Summary             each second
//! event: nodes     data: [NodeRecord, …]     when one of them changed
//! event: jobs      data: [JobRecord, …]      those of the newest that are new or changed
//! event: error     data: Error               what could not be asked; the stream goes on
//! event: end       data: Error               the last: the token opens nothing any more
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use rwasm_types::{
    Error, JobId, Result,
    api::{JobRecord, Listing, NodeRecord, Query},
    view::{JobPage, Summary},
};
use serde::Serialize;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    api::ask,
    app::{App, Credentials},
    cluster::Visitor,
    reply::with_type,
};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many of the newest jobs are looked at.
const JOBS: usize = 100;

/// A stream of events.
pub(crate) fn events(app: Arc<App>, credentials: Credentials, permit: OwnedSemaphorePermit) -> Response {
    let mut ticks = interval(LOOK_EVERY);
    // Whoever reads slowly gets the newest, not all that was missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        app,
        credentials,
        ticks,
        waiting: VecDeque::new(),
        ended: false,
        nodes: Vec::new(),
        jobs: BTreeMap::new(),
        _permit: permit,
    };
    let frames = stream::unfold(watch, |mut watch| async move {
        let frame = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), watch))
    });
    with_type("text/event-stream", Body::from_stream(frames))
}

/// One reader, and what it has been told.
struct Watch {
    app: Arc<App>,
    credentials: Credentials,
    ticks: Interval,
    waiting: VecDeque<Bytes>,
    ended: bool,
    nodes: Vec<NodeRecord>,
    jobs: BTreeMap<JobId, JobRecord>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.ticks.tick().await;
            // Each time anew: a session that ended or a token that was revoked sees no more.
            match self.app.admit(&self.credentials) {
                Ok(visitor) => {
                    if let Err(error) = self.look(&visitor).await {
                        self.tell("error", &error);
                    }
                }
                Err(error) => {
                    self.ended = true;
                    self.tell("end", &error);
                }
            }
        }
    }

    async fn look(&mut self, visitor: &Visitor) -> Result<()> {
        let summary: Summary = ask(visitor, Query::Summary).await?;
        self.tell("summary", &summary);
        let nodes: Listing<NodeRecord> = ask(visitor, Query::Nodes).await?;
        if nodes.rows != self.nodes {
            self.tell("nodes", &nodes.rows);
            self.nodes = nodes.rows;
        }
        let jobs: Listing<JobRecord> = ask(visitor, Query::Jobs { state: None, limit: JOBS, page: JobPage::default() }).await?;
        let changed: Vec<&JobRecord> = jobs.rows.iter().filter(|job| self.jobs.get(&job.id) != Some(*job)).collect();
        if !changed.is_empty() {
            let frame = frame("jobs", &changed);
            self.waiting.push_back(frame);
            self.jobs = jobs.rows.into_iter().map(|job| (job.id, job)).collect();
        }
        Ok(())
    }

    fn tell<T: Serialize>(&mut self, event: &str, data: &T) {
        self.waiting.push_back(frame(event, data));
    }
}

/// An event, as it travels: JSON has no line breaks of its own.
fn frame<T: Serialize>(event: &str, data: &T) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|error| {
        let error = Error::internal(format!("an event has no JSON: {error}"));
        serde_json::to_string(&error).unwrap_or_default()
    });
    format!("event: {event}\ndata: {data}\n\n").into()
}
