//! The database's address, which is a secret. It accepts the parameters of other clients.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::StoreError;

/// A Postgres URL or key-value string, parsed. Printing it shows no password.
///
/// `sslmode=require` (and `verify-ca`, `verify-full`: we always verify) asks for TLS against the web's roots, plus those in
/// the PEM file that `sslrootcert` names or that [`DatabaseUrl::trusting`] adds. Without it the connection is plain, which is refused unless
/// the host is this machine or the URL says `sslmode=disable`. Parameters that other clients put there (`pgbouncer`, `connection_limit`,
/// `pool_timeout`, `schema`) are ignored.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    root_certificate_file: Option<String>,
    root_certificates: Option<String>,
}

const OF_OTHER_CLIENTS: [&str; 4] = ["pgbouncer", "connection_limit", "pool_timeout", "schema"];

impl DatabaseUrl {
    /// The parsed configuration, with the limits of time that every connection of ours has.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("switchyard");
        }
        config.connect_timeout(Duration::from_secs(5));
        config.keepalives_idle(Duration::from_secs(30));
        // A function that was frozen wakes up with connections that died meanwhile: notice within seconds.
        config.tcp_user_timeout(Duration::from_secs(10));
        config
    }

    pub(crate) fn wants_tls(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    pub(crate) fn root_certificate_file(&self) -> Option<&str> {
        self.root_certificate_file.as_deref()
    }

    /// Trusts these authorities too, given as PEM text: for a database whose certificate comes from its provider's own authority,
    /// where there is no file to name.
    #[must_use]
    pub fn trusting(mut self, pem: impl Into<String>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    pub(crate) fn root_certificates(&self) -> Option<&str> {
        self.root_certificates.as_deref()
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    /// Fails with [`StoreError::Config`], which names DATABASE_URL and never the value.
    fn from_str(given: &str) -> Result<Self, StoreError> {
        // No source: the parser's error may quote what it could not read.
        let unreadable = || {
            StoreError::config(
                "DATABASE_URL is not a Postgres URL such as postgresql://user:password@host:5432/database",
            )
        };
        let mut root_certificate_file = None;
        let is_url = given.starts_with("postgres://") || given.starts_with("postgresql://");
        let text = match given.split_once('?').filter(|_| is_url) {
            None => given.to_owned(),
            Some((address, parameters)) => {
                let mut kept = Vec::new();
                for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
                    match parameter.split_once('=').unwrap_or((parameter, "")) {
                        (name, _) if OF_OTHER_CLIENTS.contains(&name) => {}
                        ("sslrootcert", file) => root_certificate_file = Some(file.to_owned()),
                        ("sslmode", "verify-ca" | "verify-full") => kept.push("sslmode=require"),
                        _ => kept.push(parameter),
                    }
                }
                if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
            }
        };
        let config: Config = text.parse().map_err(|_| unreadable())?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(unreadable());
        }
        // libpq's default, `prefer`, takes a plain connection without a word where somebody on the way has taken TLS out of the answer.
        if config.get_ssl_mode() == SslMode::Prefer && !is_this_machine(&config) {
            return Err(StoreError::config(
                "DATABASE_URL has no sslmode: add sslmode=require, or sslmode=disable if the network itself is encrypted",
            ));
        }
        Ok(Self { config, root_certificate_file, root_certificates: None })
    }
}

/// Whether every host is a socket of this machine, or its loopback.
fn is_this_machine(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_shows_no_password() {
        let url: DatabaseUrl =
            "postgresql://me:hush@db.example:6543/app?pgbouncer=true&sslmode=verify-full".parse().unwrap();
        let printed = format!("{url:?}");
        assert!(printed.contains("db.example") && printed.contains("app"));
        assert!(!printed.contains("hush"));
        assert!(url.wants_tls());
    }

    #[test]
    fn an_unreadable_url_is_named_by_its_variable_and_never_quoted() {
        for given in
            ["", "mysql://me:hush@h/db", "postgresql://me:hush@h:port/db", "postgresql://me:hush@h/db?sslmode=hush"]
        {
            let error = given.parse::<DatabaseUrl>().unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(printed.contains("DATABASE_URL"), "{printed}");
            assert!(!printed.contains("hush"), "{printed}");
        }
    }

    #[test]
    fn a_plain_connection_stays_on_this_machine_or_is_asked_for() {
        for (given, tls) in [
            ("postgresql://me@127.0.0.1/db", false),
            ("postgresql://me@localhost:6543/db?pgbouncer=true", false),
            ("postgresql://me@[::1]/db", false),
            ("postgresql://me@%2Fvar%2Frun%2Fpostgresql/db", false),
            ("host=/var/run/postgresql user=me", false),
            ("postgresql://me@db.example/db?sslmode=disable", false),
            ("postgresql://me@db.example/db?sslmode=require", true),
            ("host=db.example user=me password='a?b' sslmode=require", true),
            ("postgresql://me@127.0.0.1/db?sslmode=verify-ca", true),
        ] {
            assert_eq!(given.parse::<DatabaseUrl>().map(|url| url.wants_tls()).ok(), Some(tls), "{given}");
        }
        for given in [
            "postgresql://me:hush@db.example/db",
            "postgresql://me:hush@db.example/db?sslmode=prefer",
            "postgresql://me:hush@127.0.0.1,db.example/db",
            "host=localhost hostaddr=10.0.0.1 user=me password=hush",
        ] {
            let error = given.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("sslmode=require") && !error.contains("hush"), "{error}");
        }
    }
}
