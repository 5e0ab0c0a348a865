//! The old system: an application that appends its events itself, and a job that analyses feedback and has done so for years.

use switchyard_tests::Servers;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use uuid::Uuid;

/// What every analysis was written by is not told by its row, so it is counted when it is written.
const TABLES: &str = "
    create table events (id uuid primary key default gen_random_uuid(), type text not null, aggregate_type text not null, aggregate_id uuid not null,
      payload jsonb not null, metadata jsonb not null default '{}', version int not null default 1, created_at timestamptz not null default now());
    create index on events (created_at, id);
    create table written (post_id uuid not null);
    create function count_it() returns trigger language plpgsql as $$ begin insert into public.written values (new.post_id); return new; end $$;
    create trigger count_it after insert or update on sentiment_analysis for each row execute function count_it();";

/// A user gives feedback: what the application does in one transaction.
const FEEDBACK: &str = "
    with post as (
      insert into posts (project_id, title, description, created_at) values ('00000000-0000-0000-0000-000000000007', $1, 'It crashes, I hate it', now() - $2::int * interval '1 day')
      returning id, project_id, title, description, created_at)
    insert into events (type, aggregate_type, aggregate_id, payload, metadata, created_at)
    select 'feedback.created', 'post', id, jsonb_build_object('id', id, 'project_id', project_id, 'title', title, 'description', description),
           jsonb_build_object('project_id', project_id), created_at
      from post returning id";

const ANALYSIS: &str = "insert into sentiment_analysis (post_id, project_id, score, label, confidence)
    select aggregate_id, (payload ->> 'project_id')::uuid, -0.9, 'negative', 0.5 from events where id = $1";

pub(super) struct OldSystem {
    pub(super) url: String,
    client: Client,
    /// Whether its code asks before it works.
    pub(super) asks: bool,
}

impl OldSystem {
    /// With some years behind it.
    pub(super) async fn new(posts: i32) -> Self {
        let servers = Servers::get().await;
        let url = servers.postgres.create_database(&format!("guide_{}", Uuid::new_v4().simple())).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(switchyard_feedback::TABLES).await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let old = Self { url, client, asks: false };
        for days in 0..posts {
            old.feedback(&format!("Old {days}"), 300 + days).await;
        }
        old.job_of_its_own().await;
        old
    }

    /// One number.
    pub(super) async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(super) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// A statement of the page, in a message of its own. What it answers, if that is one number.
    pub(super) async fn ask(&self, statement: &str) -> Option<i64> {
        let answer = self.client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        let mut rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|value| value.parse().ok()),
            _ => None,
        });
        rows.next()
    }

    /// Users say so much, and whatever handles a post handles it.
    pub(super) async fn users_write(&self, posts: u32) {
        for _ in 0..posts {
            let event = self.feedback("Checkout is slow", 0).await;
            if self.asks {
                self.route(event).await;
            }
        }
        if self.asks {
            self.job().await;
        } else {
            self.job_of_its_own().await;
        }
    }

    async fn feedback(&self, title: &str, days_ago: i32) -> Uuid {
        self.client.query_one(FEEDBACK, &[&title, &days_ago]).await.unwrap().get(0)
    }

    /// The job as it was: what has no analysis.
    async fn job_of_its_own(&self) {
        let sql = "insert into sentiment_analysis (post_id, project_id, score, label, confidence)
                   select p.id, p.project_id, -0.9, 'negative', 0.5 from posts p
                    where not exists (select from sentiment_analysis a where a.post_id = p.id)";
        self.client.execute(sql, &[]).await.unwrap();
    }

    /// The job as the page wants it: what the ledger has left to it.
    pub(super) async fn job(&self) {
        for row in self.client.query("select switchyard.todo_old('sentiment', 1000)", &[]).await.unwrap() {
            self.route(row.get(0)).await;
        }
    }

    /// The route as the page wants it.
    async fn route(&self, event: Uuid) {
        self.run("begin").await;
        let answer = self.client.query_one("select switchyard.claim('sentiment', $1)", &[&event]).await.unwrap();
        if answer.get::<_, &str>(0) == "take" {
            self.client.execute(ANALYSIS, &[&event]).await.unwrap();
        }
        self.run("commit").await;
    }
}
