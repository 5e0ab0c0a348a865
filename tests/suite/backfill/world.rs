//! Short words for history and for backfills, on a world with one agent.

use crate::store::world::{AGENT, Deadline, LedgerWorld};
use switchyard_store::{BackfillPhase, BackfillProgress, BackfillSelection, BackfillState, Type};
use uuid::Uuid;

/// From the beginning of time, of everything.
pub(crate) fn all() -> BackfillSelection {
    since("2000-01-01T00:00:00Z")
}

pub(crate) fn since(time: &str) -> BackfillSelection {
    BackfillSelection { types: Vec::new(), projects: Vec::new(), since: time.into(), until: None }
}

/// A time of history: so many minutes after a moment before any installation.
pub(crate) fn minute(minutes: i64) -> String {
    format!("2020-01-01T{:02}:{:02}:00Z", minutes / 60, minutes % 60)
}

impl LedgerWorld {
    /// An event that stood in the table before the installation: no trigger has logged it.
    pub(crate) async fn history(&self, event_type: &str, minutes: i64) -> Uuid {
        self.history_of(event_type, minutes, Uuid::new_v4(), "{}").await
    }

    pub(crate) async fn history_of(&self, event_type: &str, minutes: i64, aggregate: Uuid, metadata: &str) -> Uuid {
        let id = Uuid::new_v4();
        self.run_sql("alter table events disable trigger switchyard_log").await;
        self.side
            .query_typed(
                "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at)
                 values ($1, $2, 'thing', $3, '{}', $4::text::jsonb, 1, $5::text::timestamptz)",
                &[
                    (&id, Type::UUID),
                    (&event_type, Type::TEXT),
                    (&aggregate, Type::UUID),
                    (&metadata, Type::TEXT),
                    (&minute(minutes), Type::TEXT),
                ],
            )
            .await
            .unwrap();
        self.run_sql("alter table events enable always trigger switchyard_log").await;
        id
    }

    /// Many of them, a minute apart from each other, the oldest first.
    pub(crate) async fn histories(&self, count: i64) -> Vec<Uuid> {
        let mut all = Vec::new();
        for minutes in 0..count {
            all.push(self.history("thing.made", minutes).await);
        }
        all
    }

    /// Starts a backfill at a rate that delays no other test.
    pub(crate) async fn backfill(&self, selection: &BackfillSelection) -> i32 {
        self.store.start_backfill(AGENT, selection, 1_000, "ada").await.unwrap()
    }

    /// Steps until there is something to send.
    pub(crate) async fn prepare(&self) {
        let deadline = Deadline::new("the preparation of a backfill");
        loop {
            deadline.check();
            self.store.tick().await.unwrap();
            match self.store.prepare_backfill(AGENT).await.unwrap().phase {
                BackfillPhase::Numbering | BackfillPhase::Counting => {}
                BackfillPhase::Sending | BackfillPhase::Ending => return,
            }
        }
    }

    /// Gives the bucket of tokens a minute's worth.
    pub(crate) async fn fill_bucket(&self) {
        self.run_sql("update switchyard.backfill set spent_until = clock_timestamp() - interval '1 minute'").await;
    }

    /// Takes up to so many, and names their events.
    pub(crate) async fn take(&self, limit: u32) -> Vec<Uuid> {
        self.fill_bucket().await;
        let mut events = Vec::new();
        for due in self.store.take_backfill(AGENT, limit, 10_000).await.unwrap().due {
            events.push(self.named(due.seq).await);
        }
        events
    }

    /// Takes until there is nothing left to take.
    pub(crate) async fn take_all(&self) -> Vec<Uuid> {
        let (mut events, deadline) = (Vec::new(), Deadline::new("taking everything"));
        while self.progress().await.phase == BackfillPhase::Sending {
            deadline.check();
            self.store.tick().await.unwrap();
            events.extend(self.take(100).await);
        }
        events
    }

    /// Starts, prepares, takes and claims everything, until the backfill is done.
    pub(crate) async fn backfill_done(&self, selection: &BackfillSelection) -> Vec<Uuid> {
        let run = self.backfill(selection).await;
        self.prepare().await;
        let events = self.take_all().await;
        for event in &events {
            self.claim_run(*event, run).await;
        }
        let ended = self.store.take_backfill(AGENT, 1, 1).await.unwrap();
        assert_eq!(ended.state, BackfillState::Done);
        events
    }

    pub(crate) async fn named(&self, seq: i64) -> Uuid {
        self.one("select event_id from switchyard.event_log where seq = $1", &[(&seq, Type::INT8)]).await.get(0)
    }

    pub(crate) async fn progress(&self) -> BackfillProgress {
        self.store.backfill_progress(AGENT).await.unwrap().unwrap()
    }
}
