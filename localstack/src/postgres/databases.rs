//! Databases of a local server, made and dropped through its maintenance database.

use crate::Error;

/// Makes a database with its extensions through a server's maintenance database; one that exists already is an error.
///
/// # Errors
/// [`Error::DatabaseName`], [`Error::Database`].
pub async fn create_database(admin_url: &str, name: &str) -> Result<(), Error> {
    statement(admin_url, name, &format!("create database \"{}\"", plain(name)?)).await?;
    add_extensions(admin_url, name).await
}

/// Whether a server has a database of that name.
///
/// # Errors
/// [`Error::Database`], also when the server is not there.
pub async fn has_database(admin_url: &str, name: &str) -> Result<bool, Error> {
    let refused = |source| Error::Database { doing: format!("look for database {name}"), source };
    let client = connect(admin_url).await.map_err(refused)?;
    let rows = client.query("select from pg_database where datname = $1", &[&name]).await.map_err(refused)?;
    Ok(!rows.is_empty())
}

async fn add_extensions(admin_url: &str, name: &str) -> Result<(), Error> {
    let doing = || format!("add extensions to {name}");
    let refused = |source| Error::Database { doing: doing(), source };
    let url = match admin_url.rsplit_once('/') {
        Some((server, _)) => format!("{server}/{name}"),
        None => admin_url.to_owned(),
    };
    let client = connect(&url).await.map_err(refused)?;
    let found = "select name from pg_available_extensions where name in ('vector', 'pg_trgm')";
    for row in client.query(found, &[]).await.map_err(refused)? {
        let extension: &str = row.get(0);
        client.batch_execute(&format!("create extension if not exists {extension}")).await.map_err(refused)?;
    }
    Ok(())
}

pub(super) async fn statement(admin_url: &str, name: &str, sql: &str) -> Result<(), Error> {
    let verb = sql.split(' ').next().unwrap_or_default();
    let refused = |source| Error::Database { doing: format!("{verb} database {name}"), source };
    let client = connect(admin_url).await.map_err(refused)?;
    client.batch_execute(sql).await.map_err(refused)
}

async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// A name that needs no escaping anywhere, in SQL or in a URL.
pub(super) fn plain(name: &str) -> Result<&str, Error> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        return Err(Error::DatabaseName { name: name.to_owned() });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_needs_escaping_is_refused() {
        assert!(plain("lab_7").is_ok());
        for name in ["", "a b", "a\"b", "Lab", "é", "a/b", &"x".repeat(64)] {
            assert!(matches!(plain(name), Err(Error::DatabaseName { .. })), "{name}");
        }
    }
}
