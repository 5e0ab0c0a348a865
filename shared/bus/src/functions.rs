//! Invoking a function and waiting for its answer: for the command line, never for an event.

use crate::BusError;
use aws_sdk_lambda::{
    config::{StalledStreamProtectionConfig, timeout::TimeoutConfig},
    primitives::Blob,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// How long an answer may take: the longest timeout of the functions that are asked (60 seconds), a cold start and the way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Functions, by their names or ARNs.
#[allow(async_fn_in_trait)]
pub trait Functions {
    /// Invokes a function with a request in JSON and returns its answer, in JSON as well. It makes one call, without retries.
    ///
    /// # Errors
    /// [`BusError`]: `setup` where there is no such function or the right to invoke it is missing. Where the function itself failed, the detail
    /// is its own message and nothing is transient. After a transient error the function may have run.
    async fn invoke(&self, function: &str, json: &str) -> Result<String, BusError>;
}

const OPERATION: &str = "Invoke";

/// Functions of Lambda.
#[derive(Debug, Clone)]
pub struct LambdaFunctions {
    client: aws_sdk_lambda::Client,
}

impl LambdaFunctions {
    /// Functions in the account and region of these settings, with a deadline of their own.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig) -> Self {
        let timeouts =
            TimeoutConfig::builder().operation_timeout(ANSWER_TIMEOUT).connect_timeout(Duration::from_secs(2));
        let config = aws_sdk_lambda::config::Builder::from(settings)
            .timeout_config(timeouts.build())
            // A function that works for a minute sends nothing meanwhile: that is no stalled stream.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: aws_sdk_lambda::Client::from_conf(config) }
    }
}

impl Functions for LambdaFunctions {
    async fn invoke(&self, function: &str, json: &str) -> Result<String, BusError> {
        let call = self.client.invoke().function_name(function).payload(Blob::new(json));
        let answer = Box::pin(call.send()).await.map_err(|error| BusError::of(OPERATION, &error))?;
        let text = answer.payload.map(Blob::into_inner).unwrap_or_default();
        let text = String::from_utf8(text)
            .map_err(|_| BusError::refused(OPERATION, format!("the answer of {function} is not text"), false))?;
        match answer.function_error {
            None => Ok(text),
            Some(kind) => Err(failed(function, &kind, &text)),
        }
    }
}

/// A function's failure for the operator: its own message where it has one.
fn failed(function: &str, kind: &str, answer: &str) -> BusError {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let message = answer.get("errorMessage").and_then(serde_json::Value::as_str).unwrap_or(kind);
    BusError::refused(OPERATION, format!("{function} failed: {message}"), false)
}

/// What a function in memory answers: JSON, or the message of its failure.
type Answer = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// Functions in memory. Clones are the same.
#[derive(Clone, Default)]
pub struct MemoryFunctions {
    functions: BTreeMap<String, Arc<Answer>>,
}

impl MemoryFunctions {
    /// The same with one more function.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        answer: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.functions.insert(name.into(), Arc::new(answer));
        self
    }
}

impl fmt::Debug for MemoryFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.functions.keys()).finish()
    }
}

impl Functions for MemoryFunctions {
    async fn invoke(&self, function: &str, json: &str) -> Result<String, BusError> {
        let missing = || BusError {
            operation: OPERATION,
            detail: format!("ResourceNotFoundException: there is no function {function}"),
            transient: false,
            setup: true,
        };
        let answer = self.functions.get(function).ok_or_else(missing)?;
        answer(json).map_err(|message| BusError::refused(OPERATION, format!("{function} failed: {message}"), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_function_s_own_message() {
        let detail = |answer| failed("redrive", "Unhandled", answer).detail;
        assert_eq!(
            detail(r#"{"errorType": "Refused", "errorMessage": "there is no agent \"x\""}"#),
            "redrive failed: there is no agent \"x\""
        );
        assert_eq!(detail("not json"), "redrive failed: Unhandled");
    }
}
