//! Clients, made once per process.

pub use aws_config::SdkConfig;
use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use std::time::Duration;

/// How long one call may take. A publish holds its aggregates back, so the shim's lease outlasts this by far.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The client's HTTPS, with ring for its cryptography, as towards the database. The SDK's default is aws-lc, which gathers entropy from the
/// jitter of the clock before the first handshake of a process (`docs/decisions/0014-secrets-at-the-start-over-ring.md`).
#[must_use]
pub fn https_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The settings of every client: the environment's region, credentials and endpoint; no retries inside the SDK (the callers own them), a
/// deadline for each call.
pub async fn settings() -> SdkConfig {
    settings_at(None).await
}

/// The same with a named endpoint: it wins over the environment's, which one that is set afterwards does not.
pub async fn settings_at(endpoint_url: Option<&str>) -> SdkConfig {
    let timeouts =
        TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).connect_timeout(Duration::from_secs(2)).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some(url) = endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}
