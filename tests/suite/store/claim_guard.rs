//! `switchyard.claim` refuses to be a transaction of its own, on every version of Postgres: what tells it who called is the server's own account
//! of its calls, which no version promises to write as another does.

use std::io::Write as _;
use switchyard_localstack::postgres::Binaries;
use switchyard_tests::{
    database::connect,
    versions::{self, Server},
};
use tokio_postgres::{Client, Error, types::Type};
use uuid::Uuid;

/// What Switchyard runs on.
const VERSIONS: std::ops::RangeInclusive<u32> = 15..=18;

/// An event of the old system's, which `claim` may take.
async fn event(client: &Client) -> Uuid {
    let id = Uuid::new_v4();
    let sql = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
               values ($1, 'thing.made', 'thing', $1, '{}', '{}', 1)";
    client.execute(sql, &[&id]).await.unwrap();
    id
}

const CLAIM: &str = "select switchyard.claim('painter', $1)";

/// As a driver sends it: with parameters.
async fn with_parameters(client: &Client, sql: &str, event: Uuid) -> Result<String, Error> {
    Ok(client.query_typed(sql, &[(&event, Type::UUID)]).await?[0].get(0))
}

/// As a person sends it: as text alone.
async fn as_text(client: &Client, sql: &str, event: Uuid) -> Result<String, Error> {
    let sql = sql.replace("$1", &format!("'{event}'"));
    for message in client.simple_query(&sql).await? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            return Ok(row.get(0).unwrap().to_owned());
        }
    }
    unreachable!("a select returns a row")
}

async fn untouched(client: &Client, event: Uuid) -> bool {
    let rows = "select 1 from switchyard.delivery d join switchyard.event_log e using (seq) where e.event_id = $1 and d.state = 'd'";
    client.query(rows, &[&event]).await.unwrap().is_empty()
}

async fn is_refused(client: &Client, answer: Result<String, Error>, event: Uuid, what: &str) {
    let refused = answer.expect_err(what);
    assert_eq!(refused.code().map(|code| code.code()), Some("SY003"), "{what}: {refused:?}");
    assert!(untouched(client, event).await, "{what}");
}

/// Everything that a claim is refused for and everything that it is not, in one session with these settings.
async fn the_guard_holds(client: &Client, settings: &str) {
    client.batch_execute(settings).await.unwrap();

    let one = event(client).await;
    is_refused(client, as_text(client, CLAIM, one).await, one, "alone, as text").await;
    is_refused(client, with_parameters(client, CLAIM, one).await, one, "alone, with parameters").await;
    let prepared = client.prepare(CLAIM).await.unwrap();
    let answer = client.query(&prepared, &[&one]).await.map(|rows| rows[0].get(0));
    is_refused(client, answer, one, "alone, prepared").await;

    // What PostgREST sends: settings, then the call, then its own commit.
    client.batch_execute("begin; select set_config('request.method', 'POST', true)").await.unwrap();
    let answer = with_parameters(client, CLAIM, one).await;
    client.batch_execute("rollback").await.unwrap();
    is_refused(client, answer, one, "through an HTTP gateway").await;

    for (what, sql) in [
        ("PL/pgSQL", "select job_of_plpgsql($1)"),
        ("SQL", "select job_of_sql($1)"),
        ("PL/pgSQL with a statement of its own making", "select job_that_executes($1)"),
    ] {
        let one = event(client).await;
        assert_eq!(as_text(client, sql, one).await.unwrap(), "take", "{what}");
        let other = event(client).await;
        assert_eq!(with_parameters(client, sql, other).await.unwrap(), "take", "{what}, with parameters");
    }
    let one = event(client).await;
    client.batch_execute(&format!("do $$ begin perform switchyard.claim('painter', '{one}'); end $$")).await.unwrap();
    assert!(!untouched(client, one).await, "a DO block");

    for begin in ["begin", "start transaction read write"] {
        let one = event(client).await;
        client.batch_execute(begin).await.unwrap();
        assert_eq!(with_parameters(client, CLAIM, one).await.unwrap(), "take");
        client.batch_execute("commit").await.unwrap();
    }
}

async fn on(binaries: &Binaries) {
    let server = Server::start(binaries, &[]);
    let client = connect(&server.database("guard").await).await;
    client
        .batch_execute(
            "select switchyard.register('painter', '{thing.made}', 'aggregate', 4, 'off', 0, false);
             create function job_of_plpgsql(event uuid) returns text language plpgsql as $$
               begin return switchyard.claim('painter', event); end $$;
             create function job_that_executes(event uuid) returns text language plpgsql as $$
               declare answer text;
               begin execute 'select switchyard.claim($2, $1)' into answer using event, 'painter'; return answer; end $$;
             create function job_of_sql(event uuid) returns text language sql volatile security definer as $$
               select switchyard.claim('painter', event) $$",
        )
        .await
        .unwrap();
    for settings in [
        "reset log_parameter_max_length_on_error",
        // Then the account of the calls ends with the statement's parameters.
        "set log_parameter_max_length_on_error = -1",
    ] {
        the_guard_holds(&client, settings).await;
    }
}

#[tokio::test]
async fn a_claim_that_is_a_transaction_of_its_own_is_refused_on_every_version_of_postgres() {
    let found = versions::all();
    let missing: Vec<u32> =
        VERSIONS.filter(|version| !found.iter().any(|binaries| binaries.major() == *version)).collect();
    // Past the test harness, which keeps back what a passing test prints.
    let tested: Vec<u32> = found.iter().map(Binaries::major).filter(|version| VERSIONS.contains(version)).collect();
    let line = format!("\nthe guard of claim is tested on Postgres {tested:?}; not on this machine: {missing:?}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "tests/other-postgres installs {missing:?}");
    for binaries in found.iter().filter(|binaries| VERSIONS.contains(&binaries.major())) {
        on(binaries).await;
    }
}
