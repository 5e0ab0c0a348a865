//! The secret that webhooks are signed with, in Secrets Manager. Read at the start, and again when a signature does not match, so that a
//! rotated secret needs no deployment.

use crate::{Request, Response, signature};
use serde::Deserialize;
use std::time::{Duration, Instant};
use switchyard_bus::{SecretText, Secrets, aws::SdkConfig};
use switchyard_runtime::{ConfigError, Environment, StartError};
use tokio::sync::Mutex;

/// The secret is read no more often than this, whatever is sent to the URL.
const BETWEEN_READS: Duration = Duration::from_secs(60);

/// What `WEBHOOK_SECRET` names.
#[derive(Debug)]
pub(crate) struct WebhookSecret {
    secrets: Secrets,
    name: String,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    signed_with: signature::Secrets,
    read_at: Instant,
}

impl WebhookSecret {
    /// Reads the secret; `None` if `WEBHOOK_SECRET` is not set.
    ///
    /// # Errors
    /// [`StartError`]: the secret cannot be read, or is too short.
    pub(crate) async fn open(environment: Environment, aws: &SdkConfig) -> Result<Option<Self>, StartError> {
        let name: String = environment.or("WEBHOOK_SECRET", String::new(), "text")?;
        if name.is_empty() {
            return Ok(None);
        }
        let secrets = Secrets::new(aws);
        let signed_with = parse(&secrets.read(&name).await.map_err(StartError::Secret)?)?;
        Ok(Some(Self { secrets, name, held: Mutex::new(Held { signed_with, read_at: Instant::now() }) }))
    }

    /// Checks that the sender may wake the shim. `now` in seconds since 1970.
    ///
    /// # Errors
    /// The answer to a sender that may not.
    pub(crate) async fn admit(&self, request: &Request, now: i64) -> Result<(), Response> {
        let mut held = self.held.lock().await;
        let refused = match request.admit(Some(&held.signed_with), now) {
            Err(refused) if refused.status_code == 401 && held.read_at.elapsed() >= BETWEEN_READS => refused,
            other => return other,
        };
        held.read_at = Instant::now();
        let read = self.secrets.read(&self.name).await.map_err(|error| error.to_string());
        match read.and_then(|text| parse(&text).map_err(|error| error.to_string())) {
            Ok(signed_with) => {
                held.signed_with = signed_with;
                request.admit(Some(&held.signed_with), now)
            }
            Err(problem) => {
                tracing::error!(problem, "a signature does not match, and the secret could not be read again");
                Err(refused)
            }
        }
    }
}

fn parse(text: &SecretText) -> Result<signature::Secrets, ConfigError> {
    #[derive(Deserialize)]
    struct Secret {
        secrets: String,
    }
    let secret = serde_json::from_str(text.expose()).ok();
    secret.and_then(|Secret { secrets }| signature::Secrets::parse(&secrets)).ok_or_else(|| ConfigError::Invalid {
        name: "the secret in WEBHOOK_SECRET",
        expected: format!("JSON such as {{\"secrets\": \"...\"}} with {}", signature::Secrets::EXPECTED),
    })
}
