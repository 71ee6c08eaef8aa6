//! Answers: JSON as it is, and errors with the status that HTTP has for them.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use rwasm_types::{Class, Code, Error};
use serde::Serialize;

/// JSON that something else has written.
#[derive(Debug)]
pub(crate) struct Json(pub(crate) Bytes);

impl Json {
    /// The JSON of a value.
    pub(crate) fn of<T: Serialize>(value: &T) -> Result<Self, Failure> {
        let json = serde_json::to_vec(value).map_err(|error| Error::internal(format!("an answer has no JSON: {error}")))?;
        Ok(Self(json.into()))
    }
}

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        with_type("application/json", self.0)
    }
}

/// A body with its type.
pub(crate) fn with_type(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    error: &'a Error,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let document = serde_json::to_vec(&Document { error: &self.0 }).unwrap_or_default();
        let mut response = with_type("application/json", document);
        *response.status_mut() = status(self.0.code());
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer realm=\"rwasm\""));
        }
        response
    }
}

/// The status of a code: who has to act, and where HTTP has a word for it, that word.
fn status(code: Code) -> StatusCode {
    match code {
        Code::TOKEN_REFUSED | Code::TOKEN_MALFORMED | Code::TOKEN_EXPIRED | Code::TOKEN_REVOKED | Code::TOKEN_KIND => {
            StatusCode::UNAUTHORIZED
        }
        Code::HOST_REFUSED => StatusCode::MISDIRECTED_REQUEST,
        Code::ORIGIN_REFUSED | Code::FORBIDDEN => StatusCode::FORBIDDEN,
        Code::NOT_FOUND | Code::NO_SUCH_ARTIFACT => StatusCode::NOT_FOUND,
        Code::METHOD_REFUSED => StatusCode::METHOD_NOT_ALLOWED,
        Code::BODY_TOO_LARGE | Code::ARTIFACT_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        Code::QUEUE_FULL => StatusCode::TOO_MANY_REQUESTS,
        Code::UNREACHABLE | Code::CONNECTION_LOST | Code::NODE_LOST => StatusCode::BAD_GATEWAY,
        Code::DEADLINE => StatusCode::GATEWAY_TIMEOUT,
        Code::DISK_FULL => StatusCode::INSUFFICIENT_STORAGE,
        _ => match code.class() {
            Class::Refused => StatusCode::BAD_REQUEST,
            Class::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}
