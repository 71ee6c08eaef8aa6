//! What all requests share, and how a request becomes a visitor.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use rwasm_runtime::Scope;
use rwasm_types::{Code, Error, Result};
use tokio::sync::Semaphore;

use crate::{
    DashboardOptions, Source,
    cluster::{Cluster, Visitor},
    metrics::Served,
    reply::Failure,
    results::Results,
    session::Sessions,
};

/// Streams of events and output that are open at once.
const STREAMS_MAX: usize = 128;
/// Artifacts that are in memory at once, on their way into the cluster.
const UPLOADS_MAX: usize = 2;
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(120);
/// The most bytes of a body of JSON.
pub(crate) const JSON_BYTES_MAX: usize = 16 << 20;
/// The most bytes of a sign-in.
pub(crate) const SIGN_IN_BYTES_MAX: usize = 8 << 10;

/// What all requests share.
pub(crate) struct App {
    pub(crate) cluster_id: String,
    /// Whether browsers speak TLS with it, so that cookies stay on encrypted connections.
    pub(crate) secure: bool,
    cluster: Arc<dyn Cluster>,
    pub(crate) artifact_bytes_max: u64,
    pub(crate) sources: Vec<Source>,
    pub(crate) scope: Scope,
    pub(crate) sessions: Sessions,
    pub(crate) results: Results,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) uploads: Semaphore,
    pub(crate) served: Arc<Served>,
}

/// What a request shows for itself.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// `Authorization: Bearer`.
    Bearer(String),
    /// The cookie of a session.
    Session(String),
}

impl App {
    pub(crate) fn new(options: DashboardOptions, secure: bool, scope: Scope) -> Self {
        let DashboardOptions { cluster_id, cluster, artifact_bytes_max, metrics } = options;
        Self {
            cluster_id,
            secure,
            cluster,
            artifact_bytes_max,
            sources: metrics,
            scope,
            sessions: Sessions::default(),
            results: Results::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            uploads: Semaphore::new(UPLOADS_MAX),
            served: Arc::default(),
        }
    }

    /// The name of the cookie; ports of one host share cookies, so clusters must not share a name.
    pub(crate) fn cookie(&self) -> String {
        format!("rwasm-session-{}", self.cluster_id)
    }

    /// What a request shows for itself; a header goes before a cookie.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_REFUSED`] if it shows nothing.
    pub(crate) fn credentials(&self, headers: &HeaderMap) -> Result<Credentials> {
        if let Some(token) = bearer(headers)? {
            return Ok(Credentials::Bearer(token));
        }
        let name = self.cookie();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let id = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, id)| id.to_owned());
        id.map(Credentials::Session)
            .ok_or_else(|| Error::new(Code::TOKEN_REFUSED, "there is no token").hint("sign in, or send `Authorization: Bearer TOKEN`"))
    }

    /// Whom credentials stand for, now: a token that was revoked since opens nothing any more.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_REFUSED`].
    pub(crate) fn admit(&self, credentials: &Credentials) -> Result<Visitor> {
        match credentials {
            Credentials::Bearer(token) => self.cluster.enter(token),
            Credentials::Session(id) => match self.sessions.token(id) {
                Some(token) => self.cluster.enter(&token).inspect_err(|_| self.sessions.close(id)),
                None => Err(Error::new(Code::TOKEN_REFUSED, "the session has ended").hint("sign in again")),
            },
        }
    }
}

/// The bearer token that a request shows.
///
/// # Errors
///
/// [`Code::TOKEN_REFUSED`] if its authorization is another.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = authorization.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let none = || Error::new(Code::TOKEN_REFUSED, "the authorization is no bearer token").hint("send `Authorization: Bearer TOKEN`");
    token.map(Some).ok_or_else(none)
}

/// A request's visitor, with what it showed.
pub(crate) struct Admitted {
    pub(crate) visitor: Visitor,
    pub(crate) credentials: Credentials,
}

impl FromRequestParts<Arc<App>> for Admitted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let credentials = app.credentials(&parts.headers)?;
        // A browser sends its cookie with whatever page asks it to; a change must come from a page of ours, which `guard` has checked
        // wherever the browser says where it comes from.
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        if changes && matches!(credentials, Credentials::Session(_)) && !parts.headers.contains_key(header::ORIGIN) {
            let error = Error::new(Code::ORIGIN_REFUSED, "a change that a cookie stands for does not say where it comes from");
            return Err(error.hint("send `Authorization: Bearer TOKEN` from programs").into());
        }
        let visitor = app.admit(&credentials)?;
        Ok(Self { visitor, credentials })
    }
}

/// A request's method and headers, where nothing else is wanted of it.
pub(crate) struct Headers(pub(crate) HeaderMap);

impl<S: Sync> FromRequestParts<S> for Headers {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

/// Reads a body whole.
///
/// # Errors
///
/// [`Code::BODY_TOO_LARGE`]; [`Code::DEADLINE`] if it does not arrive.
pub(crate) async fn read(body: Body, max: usize) -> Result<Bytes> {
    let collected = tokio::time::timeout(BODY_WITHIN, Limited::new(body, max).collect()).await;
    let collected = collected.map_err(|_elapsed| Error::new(Code::DEADLINE, "the request's body did not arrive in time"))?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::new(Code::BODY_TOO_LARGE, format!("the request's body is larger than {}", rwasm_types::format_bytes(max as u64))))
        }
        Err(error) => Err(Error::new(Code::CONNECTION_LOST, format!("the request's body ended early: {error}"))),
    }
}
