#![doc = include_str!("../README.md")]

mod decide;

pub use decide::{Analysis, Post};

use switchyard_agent::{Agent, Applied, Change, Decision, ExpressQueue, Refusal, Reject, State, last_of_each};
use switchyard_event::{Event, EventType};
use switchyard_feedback::{FEEDBACK_CREATED, FEEDBACK_UPDATED};
use switchyard_runtime::{Tx, Type};

/// Says how a piece of feedback feels.
pub struct Sentiment;

impl Agent for Sentiment {
    const NAME: &'static str = "sentiment";
    const SUBSCRIBES: &'static [EventType] = &[FEEDBACK_CREATED, FEEDBACK_UPDATED];
    /// Alerts hang on what it says, and an import of old feedback is a flood: what the application marks as urgent does not wait behind one.
    const EXPRESS_QUEUE: ExpressQueue = ExpressQueue::DEFAULT;

    type Facts = ();
    type Effect = Analysis;
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        Ok(())
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Analysis>, Reject> {
        decide::decide(event)
    }

    fn overwrites(analysis: &Analysis) -> Option<State> {
        Some(State::new("post", &analysis.post_id))
    }

    /// One statement, however many posts: two events of one post are one row, and the newer one's. A post of another project than the event's is left
    /// alone, and the event is rejected.
    async fn apply_batch(changes: &[Change<'_, Analysis>], tx: &mut Tx) -> Result<Applied, Refusal> {
        let rows = last_of_each(changes, |analysis| (&analysis.post_id, &analysis.project_id));
        let effects = rows.iter().map(|change| change.effect);
        let posts: Vec<&str> = effects.clone().map(|row| row.post_id.as_str()).collect();
        let projects: Vec<Option<&str>> = effects.clone().map(|row| row.project_id.as_deref()).collect();
        let scores: Vec<f64> = effects.clone().map(|row| row.sentiment.score).collect();
        let labels: Vec<&str> = effects.clone().map(|row| row.sentiment.label.as_str()).collect();
        let confidences: Vec<f64> = effects.map(|row| row.sentiment.confidence).collect();
        let written = tx
            .execute(
                "insert into sentiment_analysis (post_id, project_id, score, label, confidence)
             select p.id, p.project_id, u.score, u.label, u.confidence
               from unnest($1, $2, $3, $4, $5) u (post_id, project_id, score, label, confidence)
               join posts p on p.id = u.post_id::uuid and p.project_id = u.project_id::uuid
             on conflict (post_id) do update
             set score = excluded.score, label = excluded.label, confidence = excluded.confidence, analyzed_at = now()",
                &[
                    (&posts, Type::TEXT_ARRAY),
                    (&projects, Type::TEXT_ARRAY),
                    (&scores, Type::FLOAT8_ARRAY),
                    (&labels, Type::TEXT_ARRAY),
                    (&confidences, Type::FLOAT8_ARRAY),
                ],
            )
            .await?;
        if usize::try_from(written).is_ok_and(|written| written < rows.len()) {
            return Err(Reject::new("not_in_project", "the event's project has no such post").into());
        }
        Ok(Applied::all())
    }
}
