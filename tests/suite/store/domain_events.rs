//! Domain events from the application's own tables.

use serde_json::Value;
use switchyard_store::Type;
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::{AGENT, LedgerWorld};

const PROJECT: &str = "11111111-1111-4111-8111-111111111111";
const POST: &str = "22222222-2222-4222-8222-222222222222";

async fn with_the_application(world: &LedgerWorld) {
    // Applying it twice is part of its promise.
    for _ in 0..2 {
        world.run_sql(switchyard_feedback::TABLES).await;
    }
    world.run_sql("select switchyard.install_triggers()").await;
}

async fn with_a_post(world: &LedgerWorld) {
    with_the_application(world).await;
    world.run_sql(&format!("insert into posts (id, project_id, title) values ('{POST}', '{PROJECT}', 'Slow')")).await;
}

/// The events so far, as (type, aggregate type, aggregate id).
async fn events(world: &LedgerWorld) -> Vec<(String, String, String)> {
    let pending = world.pending(1000).await;
    pending.into_iter().map(|p| (p.event_type, p.aggregate_type, p.aggregate_id)).collect()
}

async fn types(world: &LedgerWorld) -> Vec<String> {
    events(world).await.into_iter().map(|e| e.0).collect()
}

directly_and_pooled! {
    async fn a_new_post_is_feedback_created_with_the_row_as_its_payload(world: LedgerWorld) {
        with_the_application(&world).await;
        let user = Uuid::new_v4();
        world.run_sql(&format!("insert into posts (id, project_id, user_id, title, description) values ('{POST}', '{PROJECT}', '{user}', 'Slow', 'é')")).await;
        let event = world.pending(10).await.remove(0);
        assert_eq!((event.event_type.as_str(), event.aggregate_type.as_str(), event.aggregate_id.as_str()), ("feedback.created", "post", POST));
        assert_eq!((event.version, event.project_id.as_deref()), (Some(1), Some(PROJECT)));
        let payload: Value = serde_json::from_str(event.payload.as_ref().unwrap()).unwrap();
        assert_eq!((&payload["title"], &payload["description"]), (&Value::from("Slow"), &Value::from("é")));
        let metadata: Value = serde_json::from_str(event.metadata.as_ref().unwrap()).unwrap();
        assert_eq!((metadata["project_id"].as_str(), metadata["user_id"].as_str()), (Some(PROJECT), Some(user.to_string().as_str())));
        assert!(metadata["timestamp"].is_string());
    }

    async fn an_update_counts_only_when_something_other_than_bookkeeping_changed(world: LedgerWorld) {
        with_a_post(&world).await;
        world.run_sql("update posts set vote_count = vote_count + 1, updated_at = now()").await;
        world.run_sql("update posts set title = title").await;
        assert_eq!(types(&world).await, ["feedback.created"]);
        world.run_sql("update posts set title = 'Very slow'").await;
        assert_eq!(types(&world).await, ["feedback.created", "feedback.updated"]);
    }

    async fn a_bulk_insert_gives_one_event_for_each_row(world: LedgerWorld) {
        with_the_application(&world).await;
        world.run_sql(&format!("insert into posts (project_id, title) select '{PROJECT}', 'n' || n from generate_series(1, 300) n")).await;
        assert_eq!(types(&world).await.len(), 300);
        world.run_sql("update posts set title = title || '!'; delete from posts").await;
        assert_eq!(types(&world).await.len(), 600);
    }

    async fn votes_comments_and_analyses_speak_of_their_post(world: LedgerWorld) {
        with_a_post(&world).await;
        world.run_sql(&format!("insert into votes (post_id, project_id) values ('{POST}', '{PROJECT}')")).await;
        world.run_sql(&format!("insert into comments (post_id, project_id, content) values ('{POST}', '{PROJECT}', 'yes')")).await;
        let upsert = |score: f64| format!("insert into sentiment_analysis (post_id, project_id, score, label, confidence) values ('{POST}', '{PROJECT}', {score}, 'negative', 0.9)
            on conflict (post_id) do update set score = excluded.score");
        world.run_sql(&upsert(-0.5)).await;
        world.run_sql(&upsert(-0.7)).await;
        let expected = ["feedback.created", "feedback.voted", "feedback.commented", "sentiment.analyzed", "sentiment.analyzed"];
        assert_eq!(types(&world).await, expected);
        assert!(events(&world).await.iter().all(|e| (e.1.as_str(), e.2.as_str()) == ("post", POST)));
    }

    async fn themes_are_detected_and_updated(world: LedgerWorld) {
        with_the_application(&world).await;
        world.run_sql(&format!("insert into themes (project_id, name) values ('{PROJECT}', 'speed')")).await;
        world.run_sql("update themes set feedback_count = 20").await;
        world.run_sql("update themes set name = 'performance'").await;
        assert_eq!(types(&world).await, ["theme.detected", "theme.updated"]);
    }

    async fn a_spec_speaks_when_its_status_changes_and_when_it_is_linked(world: LedgerWorld) {
        with_a_post(&world).await;
        world.run_sql(&format!("insert into specs (project_id, title, status) values ('{PROJECT}', 'draft', 'draft'), ('{PROJECT}', 'auto', 'auto_drafted')")).await;
        world.run_sql("update specs set content = 'text' where title = 'auto'").await;
        world.run_sql("update specs set status = 'approved' where title = 'auto'").await;
        world.run_sql(&format!("insert into spec_links (spec_id, post_id) select id, '{POST}' from specs where title = 'auto'")).await;
        world.run_sql("update specs set status = 'completed' where title = 'auto'").await;
        let spec: Uuid = world.one("select id from specs where title = 'auto'", &[]).await.get(0);
        let events = events(&world).await;
        assert_eq!(events[1..].iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["spec.auto_drafted", "spec.approved", "spec.linked", "spec.completed"]);
        assert!(events[1..].iter().all(|e| e.1 == "spec" && e.2 == spec.to_string()));
    }

    async fn the_chain_comes_from_the_transaction(world: LedgerWorld) {
        with_the_application(&world).await;
        let correlation = Uuid::new_v4();
        let mut tx = world.store.begin().await.unwrap();
        tx.query("select set_config('switchyard.correlation_id', $1, true)", &[(&correlation.to_string(), Type::TEXT)]).await.unwrap();
        tx.execute(&format!("insert into posts (project_id, title) values ('{PROJECT}', 'a')"), &[]).await.unwrap();
        tx.commit().await.unwrap();
        world.run_sql(&format!("insert into posts (project_id, title) values ('{PROJECT}', 'b')")).await;
        let events = world.pending(10).await;
        assert!(events[0].metadata.as_ref().unwrap().contains(&correlation.to_string()));
        assert!(!events[1].metadata.as_ref().unwrap().contains("correlation_id"));
    }

    async fn the_triggers_are_silent_while_an_agent_writes(world: LedgerWorld) {
        with_a_post(&world).await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[]).await.unwrap();
        tx.execute(&format!("insert into sentiment_analysis (post_id, score, label, confidence) values ('{POST}', 0, 'neutral', 1)"), &[]).await.unwrap();
        tx.execute("update posts set title = 'other'", &[]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(types(&world).await, ["feedback.created"]);
        world.run_sql("update posts set title = 'third'").await;
        assert_eq!(types(&world).await, ["feedback.created", "feedback.updated"]);
    }

    async fn no_role_can_silence_the_triggers_by_the_mark_of_an_agent(world: LedgerWorld) {
        with_the_application(&world).await;
        let mut tx = world.store.begin().await.unwrap();
        tx.claim(AGENT, &[]).await.unwrap();
        let seen: String = tx.query("select current_setting('switchyard.agent')", &[]).await.unwrap()[0].get(0);
        tx.commit().await.unwrap();
        let role = format!("application_{}", Uuid::new_v4().simple());
        world.run_sql(&format!("create role {role}; grant insert on posts to {role}")).await;
        for (mark, title) in [(AGENT, "guessed"), (&seen, "of another transaction")] {
            world
                .run_sql(&format!(
                    "begin; set local role {role}; select set_config('switchyard.agent', '{mark}', true);
                     insert into posts (project_id, title) values ('{PROJECT}', '{title}'); commit"
                ))
                .await;
        }
        world.run_sql(&format!("drop owned by {role}; drop role {role}")).await;
        assert_eq!(types(&world).await, ["feedback.created", "feedback.created"]);
    }

    async fn a_trigger_that_cannot_write_its_event_never_fails_the_application(world: LedgerWorld) {
        with_the_application(&world).await;
        world.run_sql("alter table events add constraint nothing_more check (type <> 'feedback.created')").await;
        world.run_sql(&format!("insert into posts (project_id, title) values ('{PROJECT}', 'kept')")).await;
        assert_eq!(world.number("select count(*) from posts").await, 1);
        assert!(types(&world).await.is_empty());
        assert_eq!(world.number("select count(*) from switchyard.audit where action = 'domain_event_failed'").await, 1, "and says so");
    }

    async fn a_table_with_other_keys_is_left_alone(world: LedgerWorld) {
        world.run_sql("create table posts (id bigint primary key, title text); create view votes as select gen_random_uuid() as post_id").await;
        world.run_sql("select switchyard.install_triggers()").await;
        world.run_sql("insert into posts values (1, 'x')").await;
        assert!(types(&world).await.is_empty());
    }
}
