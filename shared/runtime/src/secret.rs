//! The database's URL: from the secret that `DATABASE_SECRET` names, and read again when the database refuses the login, so that a rotated
//! password needs no deployment. Or from `DATABASE_URL`, for a program that does not run on AWS.

use crate::{Environment, StartError, config::ConfigError};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use switchyard_bus::{SecretText, Secrets, aws::SdkConfig};
use switchyard_store::{DatabaseUrl, Store, UrlSource};

/// What the secret holds: the URL, or the fields that Secrets Manager's rotation functions write (AWS Secrets Manager User Guide, "JSON
/// structure of AWS Secrets Manager secrets").
#[derive(Deserialize)]
#[serde(untagged)]
enum Held {
    Url { url: String },
    Fields { host: String, port: Option<u16>, username: String, password: String, dbname: Option<String> },
}

const EXPECTED: &str = "JSON such as {\"url\": \"postgres://...\"}, or with host, port, username, password and dbname";

impl Held {
    /// As a connection string. The fields do not say how to connect, so they mean TLS.
    fn connection_string(self) -> String {
        let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        match self {
            Self::Url { url } => url,
            Self::Fields { host, port, username, password, dbname } => {
                let dbname = dbname.map(|name| format!(" dbname={}", quoted(&name))).unwrap_or_default();
                format!(
                    "host={} port={} user={} password={}{dbname} sslmode=require",
                    quoted(&host),
                    port.unwrap_or(5432),
                    quoted(&username),
                    quoted(&password)
                )
            }
        }
    }
}

/// The secret that holds the database's URL.
struct DatabaseSecret {
    secrets: Secrets,
    name: String,
    environment: Environment,
}

impl DatabaseSecret {
    async fn url(&self) -> Result<DatabaseUrl, StartError> {
        let text = self.secrets.read(&self.name).await.map_err(StartError::Secret)?;
        Ok(self.environment.trusting(parse(&text)?))
    }
}

impl UrlSource for DatabaseSecret {
    fn read(&self) -> BoxFuture<'_, Result<DatabaseUrl, String>> {
        Box::pin(async { self.url().await.map_err(|error| error.to_string()) })
    }
}

fn parse(text: &SecretText) -> Result<DatabaseUrl, ConfigError> {
    // No source: the parser's error may quote what it could not read.
    let held: Held = serde_json::from_str(text.expose())
        .map_err(|_| ConfigError::Invalid { name: "the secret in DATABASE_SECRET", expected: EXPECTED.to_owned() })?;
    Ok(held.connection_string().parse()?)
}

/// Opens the database of this function, with `DATABASE_CONNECTIONS` (2) connections.
///
/// # Errors
/// [`StartError`]: a setting is missing or wrong, or the secret cannot be read.
pub async fn open_store(environment: Environment, aws: &SdkConfig) -> Result<Store, StartError> {
    let connections = environment.or("DATABASE_CONNECTIONS", 2, "a whole number")?;
    let name: String = environment.or("DATABASE_SECRET", String::new(), "text")?;
    if name.is_empty() {
        return Ok(Store::open(&environment.database()?, connections)?);
    }
    let secret = DatabaseSecret { secrets: Secrets::new(aws), name, environment };
    Ok(Store::open_from(&secret.url().await?, secret, connections)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<DatabaseUrl, String> {
        parse(&text.to_owned().into()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_holds_the_url_or_the_fields_of_a_rotation() {
        let printed = |text| format!("{:?}", parsed(text).unwrap());
        let url = printed(r#"{"url": "postgres://me:hush@db.example:6543/app?sslmode=require"}"#);
        let fields = printed(
            r#"{"engine": "postgres", "host": "db.example", "port": 6543, "username": "me", "password": "a'b\\c?&", "dbname": "app"}"#,
        );
        assert_eq!(url, fields);
        assert!(url.contains("db.example") && !url.contains("hush"), "{url}");
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_never_quoted() {
        for text in [
            "hush",
            "{}",
            r#"{"url": 1, "hush": 2}"#,
            r#"{"url": "hush"}"#,
            r#"{"host": "db.example", "password": "hush"}"#,
        ] {
            let error = parsed(text).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
