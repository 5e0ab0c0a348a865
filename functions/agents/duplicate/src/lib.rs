#![doc = include_str!("../README.md")]

mod decide;

pub use decide::{Earlier, Match, Post};

use switchyard_agent::{Agent, Applied, Change, Decision, Refusal, Reject, RoutedBy};
use switchyard_event::{Event, EventType};
use switchyard_feedback::FEEDBACK_CREATED;
use switchyard_runtime::{Database, Tx, Type};

/// How many earlier posts of a project are compared.
const CANDIDATES: i64 = 500;

/// Finds the earlier post that says the same.
pub struct Duplicate {
    database: Database,
}

impl Duplicate {
    /// The agent, reading from this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }
}

impl Agent for Duplicate {
    const NAME: &'static str = "duplicate";
    const SUBSCRIBES: &'static [EventType] = &[FEEDBACK_CREATED];
    const ROUTED_BY: RoutedBy = RoutedBy::Project;

    type Facts = Vec<Earlier>;
    type Effect = Match;
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<Vec<Earlier>, Refusal> {
        let post: Post = event.decode()?;
        let rows = self
            .database
            .query(
                "select other.id::text, coalesce(other.title, ''), coalesce(other.description, '')
                   from posts this
                   join posts other on other.project_id = this.project_id and (other.created_at, other.id) < (this.created_at, this.id)
                  where this.id = $1::text::uuid and this.project_id = $2::text::uuid
                  order by other.created_at desc, other.id desc
                  limit $3",
                &[(&post.id, Type::TEXT), (&event.metadata.project_id, Type::TEXT), (&CANDIDATES, Type::INT8)],
            )
            .await?;
        Ok(rows.iter().map(|row| Earlier { id: row.get(0), title: row.get(1), description: row.get(2) }).collect())
    }

    fn decide(event: &Event, earlier: &Vec<Earlier>) -> Result<Decision<Match>, Reject> {
        decide::decide(event, earlier)
    }

    /// One statement for the batch.
    async fn apply_batch(changes: &[Change<'_, Match>], tx: &mut Tx) -> Result<Applied, Refusal> {
        let found = changes.iter().map(|change| change.effect);
        let posts: Vec<&str> = found.clone().map(|found| found.post_id.as_str()).collect();
        let originals: Vec<&str> = found.clone().map(|found| found.duplicate_of.as_str()).collect();
        let similarities: Vec<f64> = found.map(|found| found.similarity).collect();
        let projects: Vec<Option<&str>> =
            changes.iter().map(|change| change.event.metadata.project_id.as_deref()).collect();
        tx.execute(
            "insert into feedback_duplicates (post_id, duplicate_of, similarity)
             select this.id, other.id, u.similarity
               from unnest($1, $2, $3, $4) u (post_id, duplicate_of, similarity, project_id)
               join posts this on this.id = u.post_id::uuid and this.project_id = u.project_id::uuid
               join posts other on other.id = u.duplicate_of::uuid and other.project_id = this.project_id
             on conflict do nothing",
            &[
                (&posts, Type::TEXT_ARRAY),
                (&originals, Type::TEXT_ARRAY),
                (&similarities, Type::FLOAT8_ARRAY),
                (&projects, Type::TEXT_ARRAY),
            ],
        )
        .await?;
        Ok(Applied::all())
    }
}
