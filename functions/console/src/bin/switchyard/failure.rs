//! Why a command could not do its work: one line, with the way out.

use switchyard_bus::BusError;
use thiserror::Error;

/// The one line of a command that failed.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    /// What kept a function of a stack from answering, and what to do about it.
    pub(crate) fn of_bus(error: &BusError, function: &str, stack: &str) -> Self {
        Self(explain(&error.detail, function, stack))
    }
}

/// The way out for what goes wrong before a function is reached. AWS has no codes for these that are the same everywhere, so words decide;
/// where none is known, the service's own line stands.
fn explain(detail: &str, function: &str, stack: &str) -> String {
    if let Some(own_words) = detail.strip_prefix(&format!("{function} failed: ")) {
        return first_line(own_words);
    }
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if says(&["ResourceNotFound", "Function not found"]) {
        format!(
            "there is no stack {stack:?} here (no function {function}): name it with --stack, and check AWS_REGION and the account"
        )
    } else if says(&["Missing Region", "missing signing region", "MissingSigningRegion"]) {
        "no region is set: export AWS_REGION".into()
    } else if says(&["CredentialsNotLoaded", "no providers in chain", "credentials provider", "MissingCredentials"]) {
        "no credentials were found: log in, or export AWS_PROFILE or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY"
            .into()
    } else if says(&["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient", "InvalidSignature"]) {
        format!("the credentials are not accepted (expired?): {}", first_line(detail))
    } else if says(&["AccessDenied"]) {
        format!("you may not invoke {function}: ask for lambda:InvokeFunction on it")
    } else if says(&["ConnectorError", "dispatch failure", "Connection refused", "dns error", "timed out", "timeout"]) {
        format!(
            "{function} cannot be reached: check the network, AWS_REGION and --endpoint-url ({})",
            first_line(detail)
        )
    } else {
        first_line(detail)
    }
}

/// The first line, without the internals that an SDK appends to it in parentheses.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" (DispatchFailure(").next().unwrap_or_default();
    if line.chars().count() <= 300 { line.to_owned() } else { line.chars().take(299).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_what_to_do_in_one_line() {
        for (detail, way_out) in [
            ("ResourceNotFoundException: Function not found: arn:aws:lambda:x", "--stack"),
            ("dispatch failure: other: Invalid Configuration: Missing Region", "AWS_REGION"),
            (
                "dispatch failure: other: missing signing region (DispatchFailure(DispatchFailure { .. }))",
                "export AWS_REGION",
            ),
            ("an error occurred while loading credentials: CredentialsNotLoaded", "AWS_PROFILE"),
            ("ExpiredTokenException: the token is too old", "expired"),
            ("AccessDeniedException: not authorized", "lambda:InvokeFunction"),
            ("dispatch failure: io error: Connection refused", "--endpoint-url"),
            (
                "switchyard-redrive failed: there is no agent \"x\": timed out\nand more",
                "there is no agent \"x\": timed out",
            ),
        ] {
            let line = explain(detail, "switchyard-redrive", "switchyard");
            assert!(line.contains(way_out), "{detail}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
