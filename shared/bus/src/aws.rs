//! Clients, made once per process.

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use std::time::Duration;

/// How long one call may take. A publish holds its aggregates back, so the shim's lease outlasts this by far.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of every client: the environment's region, credentials and endpoint; no retries inside the SDK (the callers own them) and a
/// deadline for each call.
pub async fn settings() -> SdkConfig {
    settings_at(None).await
}

/// The same with a named endpoint: it wins over the environment's, which one that is set afterwards does not.
pub async fn settings_at(endpoint_url: Option<&str>) -> SdkConfig {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled()).timeout_config(
            TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).connect_timeout(Duration::from_secs(2)).build(),
        );
    if let Some(url) = endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}
