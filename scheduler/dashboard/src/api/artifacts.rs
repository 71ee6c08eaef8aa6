//! Artifacts: stored, listed, and what they offer.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rwasm_types::{
    ArtifactDigest, Code, Error, Result, Role,
    api::{ArtifactRecord, LIMIT_MAX, Listing, Query},
};
use rwasm_values::ArtifactInfo;
use serde::Serialize;

use super::ask;
use crate::{
    app::{Admitted, App, read},
    cluster::Uploaded,
    page::{Page, Params, id},
    reply::{Failure, Json},
};

/// What an artifact offers, under its name.
#[derive(Serialize)]
struct Described {
    digest: ArtifactDigest,
    info: ArtifactInfo,
}

/// `GET /api/v1/artifacts`
pub(crate) async fn list(Admitted { visitor, .. }: Admitted, mut params: Params) -> Result<Json, Failure> {
    let (after, limit): (Option<ArtifactDigest>, _) = (params.take("after")?, params.limit()?);
    params.done()?;
    // There are few, and the same one may lie on several nodes, so pages are cut here.
    let mut artifacts: Listing<ArtifactRecord> = ask(&visitor, Query::Artifacts { limit: LIMIT_MAX, digest: None }).await?;
    if let Some(after) = after {
        let place = artifacts.rows.iter().position(|row| row.digest == after);
        artifacts.rows.drain(..place.map_or(artifacts.rows.len(), |place| place + 1));
    }
    Json::of(&Page::of(artifacts, limit, |artifact| artifact.digest.to_string()))
}

/// `GET /api/v1/artifacts/{artifact}`
pub(crate) async fn one(Admitted { visitor, .. }: Admitted, Path(artifact): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    let digest = id(&artifact)?;
    Json::of(&Described { digest, info: visitor.access.describe(digest).await? })
}

/// `POST /api/v1/artifacts`
pub(crate) async fn upload(State(app): State<Arc<App>>, admitted: Admitted, params: Params, body: Body) -> Result<Response, Failure> {
    params.done()?;
    // The cluster decides; but what it is sure to refuse is not taken in first.
    if admitted.visitor.role < Role::Submitter {
        return Err(Error::new(Code::FORBIDDEN, "storing an artifact takes a submitter's token").into());
    }
    // The semaphore is never closed.
    let _permit = app.uploads.acquire().await;
    let bytes = read(body, usize::try_from(app.artifact_bytes_max).unwrap_or(usize::MAX)).await?;
    if bytes.is_empty() {
        return Err(Error::new(Code::EMPTY_FILE, "the file is empty").into());
    }
    let Uploaded { digest, info } = admitted.visitor.access.upload(bytes).await?;
    Ok((StatusCode::CREATED, Json::of(&Described { digest, info })?).into_response())
}
