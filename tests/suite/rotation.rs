//! The login to the database is rotated under a stack that runs.

use switchyard_tests::World;

#[tokio::test]
async fn a_rotated_login_needs_no_deployment() {
    let world = World::at_rest().await;
    let [before, after] = ["before", "after"].map(|name| format!("{name}_{}", world.account));
    let logins = format!("create role {before} superuser login; create role {after} superuser login");
    world.database.batch_execute(&logins).await.unwrap();
    store(&world, &before).await;
    world.wake_shim();
    analyzed(&world, "The export is slow").await;
    let connected = "select count(*) from pg_stat_activity where usename = ";
    assert!(world.count(&format!("{connected} '{before}'")).await > 0, "the functions have the login of the secret");

    store(&world, &after).await;
    let revoke = format!(
        "alter role {before} nologin; select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '{before}'"
    );
    world.database.batch_execute(&revoke).await.unwrap();
    world.wake_shim();
    analyzed(&world, "The import is slow").await;
    assert!(world.count(&format!("{connected} '{after}'")).await > 0);
}

/// The secret holds the URL with this login from now on.
async fn store(world: &World, role: &str) {
    let (_, host) = world.database_url.split_once('@').unwrap();
    let secret = serde_json::json!({ "url": format!("postgresql://{role}@{host}") }).to_string();
    let secrets = aws_sdk_secretsmanager::Client::new(&world.aws);
    secrets.put_secret_value().secret_id("switchyard/database").secret_string(secret).send().await.unwrap();
}

async fn analyzed(world: &World, title: &str) {
    let post = world.post(title, "I hate it").await.to_string();
    world.event("sentiment.analyzed", &post).await;
    world.settled().await;
}
