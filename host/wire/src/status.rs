//! Errors on the wire: our error travels whole inside gRPC's status, and what the transport says by itself gets a code of ours.

use std::{
    error::{self, Error as _},
    io::ErrorKind,
};

use prost::Message;
use rwasm_types::{Code, Error};
use tonic::Status;

use crate::{connect, convert, generated as proto};

/// The nearest gRPC code, for tools that know only those.
fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::NOT_FOUND | Code::NO_SUCH_ARTIFACT | Code::NO_SUCH_EXPORT => tonic::Code::NotFound,
        Code::TOKEN_REFUSED | Code::TOKEN_MALFORMED | Code::TOKEN_EXPIRED | Code::TOKEN_REVOKED | Code::TOKEN_KIND => {
            tonic::Code::Unauthenticated
        }
        Code::FORBIDDEN | Code::POLICY_REFUSED => tonic::Code::PermissionDenied,
        Code::CANCELLED => tonic::Code::Cancelled,
        Code::DEADLINE | Code::TIMEOUT => tonic::Code::DeadlineExceeded,
        Code::QUEUE_FULL | Code::NO_CAPACITY | Code::DISK_FULL | Code::LIMIT => tonic::Code::ResourceExhausted,
        Code::PROTOCOL_MISMATCH => tonic::Code::FailedPrecondition,
        Code::INTERNAL => tonic::Code::Internal,
        _ => tonic::Code::InvalidArgument,
    }
}

pub(crate) fn from_error(error: &Error) -> Status {
    let details = proto::Error::from(error).encode_to_vec();
    Status::with_details(grpc_code(error.code()), error.message(), details.into())
}

/// The deepest cause that the transport knows: what lies above says no more than that there is one.
fn cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(error::Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) if is_gone(cause) => "the other side is gone".to_owned(),
        Some(cause) => cause.to_string(),
        None => status.message().to_owned(),
    }
}

/// Whether a connection ended without a word. What the transport says then depends on what it was about to do, and on TLS.
fn is_gone(cause: &(dyn error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>();
    let io = io.or_else(|| cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io));
    io.is_some_and(|error| matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset))
}

pub(crate) fn to_error(status: &Status) -> Error {
    let carried = (!status.details().is_empty()).then(|| proto::Error::decode(status.details()).ok()).flatten();
    if let Some(error) = carried.and_then(|error| convert::error(error).ok()) {
        return error;
    }
    if let Some(error) = connect::ours(status) {
        return error;
    }
    let message = cause(status);
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => {
            Error::new(Code::CONNECTION_LOST, format!("the connection ended: {message}"))
        }
        tonic::Code::DeadlineExceeded => Error::new(Code::DEADLINE, "the other side did not answer in time"),
        tonic::Code::OutOfRange => Error::new(Code::MALFORMED_MESSAGE, format!("a message is too large: {message}")),
        tonic::Code::Unimplemented => Error::new(Code::PROTOCOL_MISMATCH, "the other side does not know this request")
            .hint("check that the address is rwasm's and its version"),
        _ => Error::new(Code::MALFORMED_MESSAGE, format!("the transport refused a message: {message}"))
            .hint("check that the address is a gateway's, and not that of another program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_whole() {
        for info in Code::ALL {
            let error = Error::new(info.code, "what happened").hint("what to do").with("line", 7);
            assert_eq!(to_error(&from_error(&error)), error);
        }
        let newer = Error::new(Code::from_number(9999), "of a newer version");
        assert_eq!(to_error(&from_error(&newer)), newer);
    }

    #[test]
    fn what_the_transport_says_gets_a_code() {
        assert_eq!(to_error(&Status::unavailable("x")).code(), Code::CONNECTION_LOST);
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset] {
            let mut status = Status::unavailable("x");
            status.set_source(std::sync::Arc::new(std::io::Error::new(kind, "in the transport's words")));
            assert_eq!(to_error(&status).message(), "the connection ended: the other side is gone");
        }
        assert_eq!(to_error(&Status::with_details(tonic::Code::Internal, "x", vec![0xff, 0xff].into())).code(), Code::MALFORMED_MESSAGE);
    }
}
