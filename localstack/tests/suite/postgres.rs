//! The Postgres that comes with the Python package.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use switchyard_localstack::Port;
use switchyard_localstack::error::Error;
use switchyard_localstack::places::{Places, Scratch};
use switchyard_localstack::postgres::{Binaries, Options, Postgres};
use switchyard_localstack::progress::quiet;
use switchyard_localstack::python::Venv;
use switchyard_localstack::{guard, ports};

fn binaries() -> Binaries {
    Binaries::find(&Venv::ensure(&Places::of_this_checkout(), &mut quiet).unwrap()).unwrap()
}

fn scratch() -> Scratch {
    Places::of_this_checkout().scratch("tests").unwrap()
}

fn options(dir: &Path, port: Port) -> Options {
    Options {
        data: dir.join("postgres"),
        log: dir.join("postgres.log"),
        port,
        durable: false,
        max_connections: 20,
        settings: &[],
    }
}

#[tokio::test]
async fn it_starts_from_nothing_and_leaves_nothing_running() {
    let dir = scratch();
    let postgres = Postgres::start(&binaries(), &options(dir.dir(), Port::Free)).unwrap();
    postgres.create_database("lab").await.unwrap();
    let (port, pid) = (postgres.port(), i32::try_from(postgres.pid()).unwrap());
    drop(postgres);
    assert!(!guard::is_alive(pid));
    assert!(ports::is_free(port));
}

#[tokio::test]
async fn rows_and_databases_survive_a_restart() {
    let dir = scratch();
    let options = options(dir.dir(), Port::Free);
    let first = Postgres::start(&binaries(), &Options { durable: true, ..options.clone() }).unwrap();
    let url = first.create_database("lab").await.unwrap();
    query(&url, "create table kept as select 7 as n").await;
    drop(first);
    let second = Postgres::start(&binaries(), &options).unwrap();
    assert_eq!(query(&second.url("lab"), "select n::text from kept").await, ["7"]);
}

#[tokio::test]
async fn a_clone_is_a_database_of_its_own() {
    let dir = scratch();
    let postgres = Postgres::start(&binaries(), &options(dir.dir(), Port::Free)).unwrap();
    let original = postgres.create_database("original").await.unwrap();
    query(&original, "create table kept as select 7 as n").await;
    let clone = postgres.clone_database("copy", "original").await.unwrap();
    query(&clone, "delete from kept").await;
    assert_eq!(query(&original, "select n::text from kept").await, ["7"]);
    postgres.drop_database("copy").await.unwrap();
    assert!(!switchyard_localstack::postgres::has_database(&postgres.admin_url(), "copy").await.unwrap());
}

#[tokio::test]
async fn the_bundled_postgres_has_vectors_and_knows_unicode() {
    if std::env::var_os("SWITCHYARD_POSTGRES_BIN").is_some() {
        return; // somebody else's Postgres
    }
    let dir = scratch();
    let postgres = Postgres::start(&binaries(), &options(dir.dir(), Port::Free)).unwrap();
    let url = postgres.create_database("lab").await.unwrap();
    assert_eq!(query(&url, "select ('[1,2]'::vector <-> '[1,3]')::text").await, ["1"]);
    assert_eq!(query(&url, "select lower('ÄÉ')").await, ["äé"]);
}

#[test]
fn a_busy_port_is_named() {
    let dir = scratch();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    let error = Postgres::start(&binaries(), &options(dir.dir(), Port::Fixed(port))).unwrap_err();
    assert!(matches!(error, Error::PortBusy { port: busy, .. } if busy == port), "{error}");
}

#[test]
fn a_data_directory_of_another_version_is_told_with_the_way_out() {
    let dir = scratch();
    let options = options(dir.dir(), Port::Free);
    std::fs::create_dir_all(&options.data).unwrap();
    std::fs::write(options.data.join("PG_VERSION"), "9\n").unwrap();
    let error = Postgres::start(&binaries(), &options).unwrap_err();
    assert!(matches!(error, Error::PostgresVersion { .. }));
    assert!(error.to_string().contains("cargo dev reset"), "{error}");
}

async fn query(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    drop(client); // a clone wants a database without connections
    connection.await.unwrap().unwrap();
    rows
}
