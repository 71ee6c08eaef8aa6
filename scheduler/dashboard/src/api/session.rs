//! Signing in and out. The token travels once, in a body, and never in an address.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use rwasm_types::{Code, Error, Role, Tenant};
use serde::{Deserialize, Serialize};

use crate::{
    app::{Admitted, App, Credentials, SIGN_IN_BYTES_MAX, read},
    cluster::Visitor,
    reply::{Failure, Json},
    session::SESSION_LASTS,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

/// Who is signed in.
#[derive(Serialize)]
struct Who<'a> {
    cluster: &'a str,
    tenant: &'a Tenant,
    role: Role,
}

/// `POST /api/v1/session`
pub(crate) async fn sign_in(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    let body = read(body, SIGN_IN_BYTES_MAX).await?;
    // What was sent is not repeated, for it may hold a token.
    let SignIn { token } = serde_json::from_slice(&body)
        .map_err(|_| Error::new(Code::MALFORMED_JSON, "a sign-in is an object with a `token`, which is a text"))?;
    let visitor = app.admit(&Credentials::Bearer(token.trim().to_owned()))?;
    let id = app.sessions.open(token.trim())?;
    let mut response = who_is(&app, &visitor)?.into_response();
    set_cookie(&app, &mut response, &id, SESSION_LASTS.as_secs())?;
    Ok(response)
}

/// `GET /api/v1/session`
pub(crate) async fn who(State(app): State<Arc<App>>, admitted: Admitted) -> Result<Json, Failure> {
    who_is(&app, &admitted.visitor)
}

/// `DELETE /api/v1/session`
pub(crate) async fn sign_out(State(app): State<Arc<App>>, admitted: Admitted) -> Result<Response, Failure> {
    if let Credentials::Session(id) = &admitted.credentials {
        app.sessions.close(id);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, &mut response, "", 0)?;
    Ok(response)
}

fn who_is(app: &App, visitor: &Visitor) -> Result<Json, Failure> {
    Json::of(&Who { cluster: &app.cluster_id, tenant: &visitor.tenant, role: visitor.role })
}

fn set_cookie(app: &App, response: &mut Response, id: &str, seconds: u64) -> Result<(), Failure> {
    let secure = if app.secure { "; Secure" } else { "" };
    let cookie = format!("{}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", app.cookie());
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Error::internal(format!("a cookie is no header: {error}")))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(())
}
