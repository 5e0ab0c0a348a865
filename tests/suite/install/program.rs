//! The program `switchyard-setup`, run as a person runs it.

use super::shop::{FULL, FULL_MAPPING, empty};
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};
use switchyard_tests::{database::Database, program::program};

struct Output {
    code: i32,
    out: String,
    err: String,
}

fn setup(database: &Database, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program("switchyard-setup"))
        .env_clear()
        .env("DATABASE_URL", database.url())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A file for the length of a test.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchyard-mapping-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const DECLARED: &str =
    r#"{"name": "packer", "subscribes": ["order.placed"], "routed_by": "aggregate", "max_attempts": 4}"#;

#[tokio::test]
async fn a_database_is_set_up_with_its_mapping_and_its_agents_and_cleared_again() {
    let (database, client) = empty(FULL).await;
    let file = File::with(FULL_MAPPING);
    let first = setup(&database, &["--events", file.name(), "--lock-timeout", "500ms"], DECLARED);
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    for line in [
        "applied tables/events",
        "events are in shop.Order Events (id as event id",
        "; the domain is none",
        "registered packer: order.placed added",
    ] {
        assert!(first.out.contains(line), "{line}: {}", first.out);
    }
    let again = setup(&database, &[], DECLARED);
    assert!(again.code == 0 && again.out.contains("up to date") && again.out.contains("known packer"), "{}", again.out);

    let index = r#"select to_regclass('shop.switchyard_history') is not null"#;
    assert!(setup(&database, &["--index-history"], "").out.contains("has such an index already"), "the table's own");
    client.batch_execute("drop index shop.\"Order Events_happened_event id_idx\"").await.unwrap();
    assert!(setup(&database, &["--index-history"], "").out.contains("created the index"));
    assert!(client.query_one(index, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(setup(&database, &["--drop-history-index"], "").code, 0);
    assert!(!client.query_one(index, &[]).await.unwrap().get::<_, bool>(0));

    let asked = setup(&database, &["--remove"], "");
    assert_eq!(asked.code, 1);
    assert!(asked.err.contains("nothing was removed") && asked.err.contains("--yes"), "{}", asked.err);
    for line in [
        "removes: trigger switchyard_log on shop.\"Order Events\"",
        "the ledger of 1 agents and 0 events, for good",
        "keeps:",
    ] {
        assert!(asked.out.contains(line), "{line}: {}", asked.out);
    }
    let removed = setup(&database, &["--remove", "--yes"], "");
    assert!(removed.code == 0 && removed.out.contains("removed schema switchyard"), "{}{}", removed.out, removed.err);
    assert!(setup(&database, &["--remove", "--yes"], "").out.contains("not installed"));
}

#[tokio::test]
async fn the_domain_is_the_sample_until_a_file_gives_another_one_which_stays() {
    let (database, client) =
        empty("create table posts (id uuid primary key); create table orders (id uuid primary key)").await;
    let sample = setup(&database, &[], "");
    assert!(
        sample.out.contains("applied posts insert") && sample.out.contains("the domain is feedback"),
        "{}",
        sample.out
    );
    assert!(
        !sample.out.contains("note: no trigger"),
        "the application need not have all of its tables: {}",
        sample.out
    );

    let file = File::with(
        r#"{"name": "shop", "tables": [{"table": "orders", "aggregate_type": "order", "insert": "order.placed"},
            {"table": "parcels", "aggregate_type": "order", "insert": "order.packed"}]}"#,
    );
    let shop = setup(&database, &["--domain", file.name()], "");
    for line in [
        "applied orders insert",
        "applied posts insert (dropped)",
        "the domain is shop",
        "note: no trigger for parcels insert",
    ] {
        assert!(shop.out.contains(line), "{line}: {}{}", shop.out, shop.err);
    }

    client.batch_execute("create table parcels (id uuid primary key)").await.unwrap();
    let later = setup(&database, &[], "");
    assert!(later.out.contains("applied parcels insert") && later.out.contains("the domain is shop"), "{}", later.out);
    assert!(!later.out.contains("posts"), "{}", later.out);
}

#[tokio::test]
async fn an_error_is_one_line_and_nothing_is_created() {
    let (database, client) = empty(FULL).await;
    let wrong =
        File::with(r#"{"schema": "shop", "table": "Order Events", "columns": {"id": "subject", "kind": "kind"}}"#);
    let unfit = File::with(&FULL_MAPPING.replace(r#""id": "event id""#, r#""id": "subject""#));
    for (arguments, code, words) in [
        (vec!["--events", wrong.name()], 1, "unknown field `kind`"),
        (vec!["--events", unfit.name()], 1, "subject is int8, and for our id it must be uuid"),
        (vec!["--events", "/nowhere.json"], 1, "/nowhere.json"),
        (vec!["--domain", wrong.name()], 1, "unknown field `schema`"),
        (vec!["--lock-timeout", "soon"], 2, "500ms or 2s"),
    ] {
        let said = setup(&database, &arguments, "");
        assert!(
            said.code == code && said.err.contains(words) && said.out.is_empty(),
            "{arguments:?}: {}{}",
            said.out,
            said.err
        );
    }
    let ours = client.query_one("select to_regnamespace('switchyard') is null", &[]).await.unwrap();
    assert!(ours.get::<_, bool>(0));
}
