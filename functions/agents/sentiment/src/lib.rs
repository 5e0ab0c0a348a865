#![doc = include_str!("../README.md")]

mod decide;

pub use decide::{Analysis, Post};

use switchyard_agent::{Agent, Decision, Lanes, Refusal, Reject};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Tx, Type};

/// Says how a piece of feedback feels.
pub struct Sentiment;

impl Agent for Sentiment {
    const NAME: &'static str = "sentiment";
    const SUBSCRIBES: &'static [EventType] = &[EventType::FEEDBACK_CREATED, EventType::FEEDBACK_UPDATED];
    /// Alerts hang on what it says, and an import of old feedback is a flood: what the application marks as urgent does not wait behind one.
    const LANES: Lanes = Lanes::EXPRESS;

    type Facts = ();
    type Effect = Analysis;
    type Tx = Tx;

    async fn gather(&self, _: &Event) -> Result<(), Refusal> {
        Ok(())
    }

    fn decide(event: &Event, (): &()) -> Result<Decision<Analysis>, Reject> {
        decide::decide(event)
    }

    async fn apply(analysis: &Analysis, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        tx.newest(Self::NAME, "post", &analysis.post_id, analysis.sequence).await?;
        tx.execute(
            "insert into sentiment_analysis (post_id, project_id, score, label, confidence)
             values ($1::text::uuid, $2::text::uuid, $3, $4, $5)
             on conflict (post_id) do update
             set score = excluded.score, label = excluded.label, confidence = excluded.confidence, analyzed_at = now()",
            &[
                (&analysis.post_id, Type::TEXT),
                (&analysis.project_id, Type::TEXT),
                (&analysis.sentiment.score, Type::FLOAT8),
                (&analysis.sentiment.label.as_str(), Type::TEXT),
                (&analysis.sentiment.confidence, Type::FLOAT8),
            ],
        )
        .await?;
        Ok(Vec::new())
    }
}
