//! The handlers: each reads a request, asks the cluster, and answers.

pub(crate) mod artifacts;
pub(crate) mod jobs;
mod logs;
pub(crate) mod session;
pub(crate) mod state;

use std::sync::Arc;

use rwasm_types::{
    Code, Error, Result,
    api::{Ask, Query},
};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::{app::App, cluster::Visitor, reply::Json};

/// Asks a question and reads the answer.
pub(crate) async fn ask<T: DeserializeOwned>(visitor: &Visitor, query: Query) -> Result<T> {
    let answer = visitor.access.ask(Ask::Query(query)).await?;
    serde_json::from_slice(&answer).map_err(|error| Error::internal(format!("an answer is not understood: {error}")))
}

/// Asks a question and passes the answer on as it is.
async fn pass(visitor: &Visitor, query: Query) -> Result<Json> {
    visitor.access.ask(Ask::Query(query)).await.map(Json)
}

/// A place for one more stream.
fn stream_permit(app: &App) -> Result<OwnedSemaphorePermit> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Error::new(Code::QUEUE_FULL, "as many streams are open as the dashboard serves").hint("close pages that are not looked at")
    })
}
