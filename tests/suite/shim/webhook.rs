//! The shim's URL, deployed: who may wake it, and what the database signs.

use std::process::Command;
use switchyard_tests::{Database, World, eventually, servers::WEBHOOK_SECRET};

/// The fenced block of a documentation page that holds `part`.
fn documented(page: &str, part: &str) -> String {
    let path = format!("{}/../docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split("```").skip(1).step_by(2).find(|block| block.contains(part)).expect("such an example");
    block.split_once('\n').unwrap().1.to_owned()
}

/// Runs a script of the documentation's against a URL. Returns the HTTP status and the body.
fn run(script: &str, url: &str) -> (String, String) {
    let script = format!("set -eu\n{}", script.replace("curl ", "curl --write-out '\\n%{http_code}' "));
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("SHIM_URL", url)
        .env("WEBHOOK_SECRET", WEBHOOK_SECRET)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_signed_webhook_wakes_it_and_an_unsigned_one_does_nothing() {
    let world = World::at_rest().await;
    let url = &world.outputs["ShimUrl"];
    let example = documented("webhook.md", "openssl dgst");
    // The schedule may have started one already; this one has gone when it has nothing more to do.
    world
        .database
        .batch_execute("delete from switchyard.participant; update switchyard.lease set holder = null")
        .await
        .unwrap();
    let post = world.post("Woken by a webhook", "").await.to_string();

    let (status, body) = run(&example.replace("$WEBHOOK_SECRET", "another secret than ours"), url);
    assert_eq!((status.as_str(), body.lines().count()), ("401", 1), "{body}");
    let (status, body) = run(&example, url);

    match status.as_str() {
        "200" => assert!(body.contains("\"published\":"), "{body}"),
        "202" => assert!(body.contains("at work"), "{body}"),
        other => panic!("{other}: {body}"),
    }
    world.event("sentiment.analyzed", &post).await;
}

#[tokio::test]
async fn the_schedule_publishes_everything_when_every_webhook_is_lost() {
    let world = World::at_rest().await;
    let unsigned = documented("webhook.md", "openssl dgst").replace("$WEBHOOK_SECRET", "another secret than ours");
    let mut posts = Vec::new();
    for number in 0..5 {
        posts.push(world.post(&format!("Nobody hears number {number}"), "").await.to_string());
        assert_eq!(run(&unsigned, &world.outputs["ShimUrl"]).0, "401", "as good as lost");
    }
    for post in posts {
        world.event("sentiment.analyzed", &post).await;
    }
    world.settled().await;
}

#[tokio::test]
async fn the_shim_accepts_the_database_s_signature() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let block = "x".repeat(64);
    for secret in ["a secret of sixteen or more", block.as_str(), &"long ".repeat(40), "\u{fc}mlaut \u{1f600} secrets"]
    {
        let secrets = shim::Secrets::parse(&serde_json::json!([secret]).to_string()).unwrap();
        for body in ["", "{}", "{\"title\": \"\u{fc}ber\"}"] {
            let now = 1_767_605_400_i64;
            let row = client.query_one("select switchyard.sign($1, $2, $3)", &[&secret, &now, &body]).await.unwrap();
            let signature: &str = row.get(0);
            let verify = |now, body: &str| secrets.verify(now, Some("1767605400"), Some(signature), body.as_bytes());
            assert_eq!(verify(now, body), Ok(()), "{signature}");
            assert_eq!(verify(now + 301, body), Err(shim::Unsigned::Time));
            assert_eq!(verify(now, "other"), Err(shim::Unsigned::Wrong));
        }
    }
}

#[tokio::test]
async fn the_documented_trigger_signs_what_it_sends_and_never_fails_the_insert() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    // Stand-ins for the two extensions that only Supabase has.
    client
        .batch_execute(
            "create schema vault; create view vault.decrypted_secrets as
               select 'switchyard_webhook'::text as name, 'a secret of sixteen or more'::text as decrypted_secret;
             create schema net; create table net.sent (url text, body jsonb, headers jsonb);
             create function net.http_post(url text, body jsonb, headers jsonb, timeout_milliseconds int) returns bigint language sql as
               $$ insert into net.sent values (url, body, headers); select 1::bigint $$",
        )
        .await
        .unwrap();
    let trigger = documented("webhook.md", "create trigger");
    client.batch_execute(&trigger).await.unwrap();
    let insert =
        "insert into events (id, type, payload) values (gen_random_uuid(), 'x', '{}'), (gen_random_uuid(), 'x', '{}')";

    client.batch_execute(insert).await.unwrap();

    let row = client
        .query_one("select headers ->> 'x-switchyard-timestamp', headers ->> 'x-switchyard-signature', body::text from net.sent", &[])
        .await
        .unwrap();
    let (timestamp, signature, body): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    let secrets = shim::Secrets::parse("a secret of sixteen or more").unwrap();
    let now = timestamp.parse().unwrap();
    assert_eq!(secrets.verify(now, Some(timestamp), Some(signature), body.as_bytes()), Ok(()));
    client.batch_execute("drop schema net cascade").await.unwrap();
    client.batch_execute(insert).await.unwrap();
    eventually("both inserts", async || {
        let row = client.query_one("select count(*) from switchyard.outbox", &[]).await.unwrap();
        (row.get::<_, i64>(0) == 4).then_some(())
    })
    .await;
}
