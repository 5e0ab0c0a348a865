//! The error of a call to the bus, and whether a retry or the operator can help.

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
    /// The service's message, or why there was no answer; holds no payload.
    pub detail: String,
    /// Whether the same call may succeed later (throttling, timeouts, 5xx): costs no attempt.
    pub transient: bool,
    /// Whether no call can succeed until an operator corrects the set-up: a permission is missing, or the topic. The message is not at fault
    /// then.
    pub setup: bool,
}

impl BusError {
    /// A refusal that the set-up did not cause: `transient` where the same call may succeed later.
    pub(crate) fn refused(operation: &'static str, detail: impl Into<String>, transient: bool) -> Self {
        Self { operation, detail: detail.into(), transient, setup: false }
    }

    /// A request that the SDK could not even build.
    pub(crate) fn incomplete(operation: &'static str, error: &aws_sdk_sqs::error::BuildError) -> Self {
        Self::refused(operation, error.to_string(), false)
    }

    /// An SDK error, without its debug print: that one holds the request.
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

/// An answer without a code is not the service's own (a proxy's page, a body cut short), so a retry may succeed.
fn is_transient(code: Option<&str>, status: u16) -> bool {
    const PASSING: [&str; 6] = ["Throttl", "TooManyRequests", "Internal", "Unavailable", "Timeout", "InUse"];
    status >= 500 || status == 429 || code.is_none_or(|code| PASSING.iter().any(|part| code.contains(part)))
}

/// The codes of a call that fails whatever it holds (Amazon SNS API Reference, PublishBatch and "Common Error Types"). A topic that
/// does not exist comes as an invalid parameter, as a bad entry does; only the message differs.
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
    fn throttling_and_outages_are_transient_and_refusals_are_not() {
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
    fn a_fault_of_the_set_up_is_not_taken_for_a_bad_entry() {
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
