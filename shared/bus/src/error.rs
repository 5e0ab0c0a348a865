//! What a call to the bus can end in, and whose fault it is.

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use thiserror::Error;

/// The bus did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operation} failed: {detail}")]
pub struct BusError {
    /// The call, in AWS's words.
    pub operation: &'static str,
    /// The service's answer or what kept it from answering; holds no payload.
    pub detail: String,
    /// Whether the same call may succeed later (throttling, timeouts, 5xx): costs no attempt.
    pub transient: bool,
    /// Whether no call at all can succeed until somebody mends the set-up: a right is missing, or the topic. Nothing in the call is at
    /// fault then.
    pub setup: bool,
}

impl BusError {
    /// A refusal that is no entry's fault and none of the set-up's: `transient` where the same may pass later.
    pub(crate) fn refused(operation: &'static str, detail: impl Into<String>, transient: bool) -> Self {
        Self { operation, detail: detail.into(), transient, setup: false }
    }

    /// A request that the SDK could not even build.
    pub(crate) fn incomplete(operation: &'static str, error: &aws_sdk_sqs::error::BuildError) -> Self {
        Self::refused(operation, error.to_string(), false)
    }

    /// What an SDK error says, without its debug print: that one holds the request.
    pub(crate) fn of<E: std::error::Error + ProvideErrorMetadata + 'static>(
        operation: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self {
        let Some(service) = error.as_service_error() else {
            let detail = aws_sdk_sqs::error::DisplayErrorContext(error).to_string();
            return Self { operation, detail, transient: true, setup: false };
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let (code, message) = (service.code(), service.message().unwrap_or("no message"));
        Self {
            operation,
            detail: format!("{}: {message}", code.unwrap_or("unknown error")),
            transient: is_transient(code, status),
            setup: is_setup(code.unwrap_or_default(), message),
        }
    }
}

/// An answer without a code is no service's own word (a proxy's page, a body cut short), so it may pass as well.
fn is_transient(code: Option<&str>, status: u16) -> bool {
    const PASSING: [&str; 6] = ["Throttl", "TooManyRequests", "Internal", "Unavailable", "Timeout", "InUse"];
    status >= 500 || status == 429 || code.is_none_or(|code| PASSING.iter().any(|part| code.contains(part)))
}

/// The codes of a call that fails whatever it holds (Amazon SNS API Reference, PublishBatch and "Common Error Types"). A topic's name that
/// is none comes as an invalid parameter, like a fault of an entry; only its message tells.
pub(crate) fn is_setup(code: &str, message: &str) -> bool {
    const SETUP: [&str; 12] = [
        "Access",
        "Auth",
        "Credential",
        "Disabled",
        "Expired",
        "KMS",
        "NonExistent",
        "NotFound",
        "OptIn",
        "Security",
        "Signature",
        "Token",
    ];
    SETUP.iter().any(|part| code.contains(part)) || message.contains("TopicArn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for (code, status, transient) in [
            (Some("ThrottledException"), 400, true),
            (Some("InternalError"), 500, true),
            (Some("SomethingNew"), 503, true),
            (None, 400, true),
            (Some("InvalidParameterValue"), 400, false),
            (Some("NotFound"), 404, false),
        ] {
            assert_eq!(is_transient(code, status), transient, "{code:?} {status}");
        }
    }

    #[test]
    fn a_fault_of_the_set_up_is_no_entry_s_fault() {
        for code in [
            "AuthorizationError",
            "AccessDenied",
            "NotFound",
            "InvalidClientTokenId",
            "KMSDisabled",
            "ExpiredToken",
            "InvalidSecurity",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "EndpointDisabled",
        ] {
            assert!(is_setup(code, "no message"), "{code}");
        }
        assert!(is_setup("InvalidParameter", "Invalid parameter: TopicArn Reason: no valid ARN"));
        for code in ["InvalidParameter", "InvalidParameterValue", "ValidationError", "BatchRequestTooLong"] {
            assert!(!is_setup(code, "Invalid parameter: Message attribute value"), "{code}");
        }
    }
}
