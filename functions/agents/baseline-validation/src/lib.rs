#![doc = include_str!("../README.md")]

mod decide;

pub use decide::{Baseline, Evaluation, Validation};

use switchyard_agent::{Agent, Change, Decision, Refusal, Reject, State};
use switchyard_event::{Event, EventType, NewEvent};
use switchyard_runtime::{Database, Tx, Type};

/// A model was evaluated.
pub const MODEL_EVALUATED: EventType = EventType::named("model.evaluated");

/// A model is better than its baseline.
pub const MODEL_READY_TO_DEPLOY: EventType = EventType::named("model.ready_to_deploy");

/// Says which model is better than what it is to beat.
pub struct BaselineValidation {
    database: Database,
}

impl BaselineValidation {
    /// The agent, reading from this database.
    #[must_use]
    pub const fn new(database: Database) -> Self {
        Self { database }
    }
}

impl Agent for BaselineValidation {
    const NAME: &'static str = "baseline-validation";
    const SUBSCRIBES: &'static [EventType] = &[MODEL_EVALUATED];

    /// `None` if no baseline is set.
    type Facts = Option<Baseline>;
    type Effect = Validation;
    type Tx = Tx;

    async fn gather(&self, event: &Event) -> Result<Option<Baseline>, Refusal> {
        let evaluation: Evaluation = event.decode()?;
        let rows = self
            .database
            .query(
                "select baseline, higher_is_better from model_baselines where token_symbol = $1 and metric = $2",
                &[(&evaluation.token_symbol, Type::TEXT), (&evaluation.metric, Type::TEXT)],
            )
            .await?;
        Ok(rows.first().map(|row| Baseline::new(row.get(0), row.get(1))))
    }

    fn decide(event: &Event, baseline: &Option<Baseline>) -> Result<Decision<Validation>, Reject> {
        decide::decide(event, *baseline)
    }

    fn overwrites(validation: &Validation) -> Option<State> {
        Some(State::new("model and metric", validation.key()))
    }

    async fn apply(change: Change<'_, Validation>, tx: &mut Tx) -> Result<Vec<NewEvent>, Refusal> {
        let validation = change.effect;
        tx.execute(
            "insert into model_validations (model_id, metric, token_symbol, value, baseline, passed)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (model_id, metric) do update
             set token_symbol = excluded.token_symbol, value = excluded.value, baseline = excluded.baseline,
                 passed = excluded.passed, validated_at = now()",
            &[
                (&validation.model_id, Type::TEXT),
                (&validation.metric, Type::TEXT),
                (&validation.token_symbol, Type::TEXT),
                (&validation.value, Type::FLOAT8),
                (&validation.baseline, Type::FLOAT8),
                (&validation.passed, Type::BOOL),
            ],
        )
        .await?;
        Ok(Vec::new())
    }
}
