//! Secrets, read from AWS Secrets Manager.

use crate::BusError;
use std::fmt;

/// What a secret holds. Printing it shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

const OPERATION: &str = "GetSecretValue";

/// Secrets Manager, for reading.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: aws_sdk_secretsmanager::Client,
}

impl Secrets {
    /// The secrets of the account and region of these settings.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig) -> Self {
        Self { client: aws_sdk_secretsmanager::Client::new(settings) }
    }

    /// The current version of a secret, by its name or ARN. One call, without retries.
    ///
    /// # Errors
    /// [`BusError`]: `setup` where there is no such secret, or the right to read or decrypt it is missing. It names the secret, never its text.
    pub async fn read(&self, secret: &str) -> Result<SecretText, BusError> {
        let call = self.client.get_secret_value().secret_id(secret);
        let answer = Box::pin(call.send()).await.map_err(|error| {
            let error = BusError::of(OPERATION, &error);
            BusError { detail: format!("{secret}: {}", error.detail), ..error }
        })?;
        answer
            .secret_string
            .map(SecretText)
            .ok_or_else(|| BusError::refused(OPERATION, format!("{secret} holds bytes, and no text"), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_a_secret_shows_nothing() {
        assert_eq!(format!("{:?}", SecretText::from("hush".to_owned())), "SecretText(..)");
    }
}
