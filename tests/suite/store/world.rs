//! A database with one agent, and short calls for its events and deliveries.

use switchyard_store::{
    AgentSpec, Ask, ClaimAnswer, DatabaseUrl, Failed, Known, Mode, Overdue, Page, ParkReport, Pending, Reported,
    RoutedBy, Row, Settlement, Since, Store, StoreError, Tx, Type, Verdict,
};
use switchyard_tests::database::Database;
use tokio_postgres::Client;
use uuid::Uuid;

/// The agent of every world. It subscribes to `thing.made` and `thing.changed`, four attempts, by aggregate.
pub(crate) const AGENT: &str = "painter";

/// A fresh database, a store on it, and a second connection that reads what the store writes.
pub(crate) struct LedgerWorld {
    pub(crate) store: Store,
    pub(crate) side: Client,
    // Last, so that it is dropped after the connections.
    _database: Database,
}

/// A delivery row as it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) owner: String,
    pub(crate) state: String,
    pub(crate) attempts: i16,
    pub(crate) epoch: i32,
}

impl Delivery {
    pub(crate) fn is(&self, owner: &str, state: &str) -> bool {
        self.owner == owner && self.state == state
    }
}

impl LedgerWorld {
    pub(crate) async fn direct() -> Self {
        let database = Database::migrated().await;
        Self::of(database.store(), database).await
    }

    pub(crate) async fn pooled() -> Self {
        let database = Database::migrated().await;
        Self::of(database.pooled_store().await, database).await
    }

    async fn of(store: Store, database: Database) -> Self {
        let world = Self { store, side: database.connect().await, _database: database };
        world.register(&["thing.made", "thing.changed"], Mode::Full).await;
        world
    }

    /// Where its database is, without a pooler: what makes indexes needs a session.
    pub(crate) fn url(&self) -> DatabaseUrl {
        self._database.url().parse().unwrap()
    }

    pub(crate) async fn register(&self, subscribes: &[&str], mode: Mode) -> switchyard_store::Registered {
        self.store.register(&spec(subscribes), mode, Since::Now).await.unwrap()
    }

    pub(crate) async fn routing(&self, mode: Mode) {
        self.store.set_routing(AGENT, mode, "ada").await.unwrap();
    }

    /// Appends an event of an aggregate of its own.
    pub(crate) async fn event(&self, event_type: &str) -> Uuid {
        self.event_with(event_type, Uuid::new_v4(), "{}").await
    }

    pub(crate) async fn event_with(&self, event_type: &str, aggregate: Uuid, metadata: &str) -> Uuid {
        let id = Uuid::new_v4();
        self.side
            .query_typed(
                "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
                 values ($1, $2, 'thing', $3, '{}', $4::text::jsonb, 1)",
                &[(&id, Type::UUID), (&event_type, Type::TEXT), (&aggregate, Type::UUID), (&metadata, Type::TEXT)],
            )
            .await
            .unwrap();
        id
    }

    pub(crate) async fn seq(&self, event: Uuid) -> i64 {
        self.one("select seq from switchyard.event_log where event_id = $1", &[(&event, Type::UUID)]).await.get(0)
    }

    pub(crate) async fn one(&self, sql: &str, parameters: &[(&(dyn switchyard_store::ToSql + Sync), Type)]) -> Row {
        self.side.query_typed(sql, parameters).await.unwrap().into_iter().next().unwrap()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.one(&format!("select ({sql})::bigint"), &[]).await.get(0)
    }

    pub(crate) async fn run_sql(&self, sql: &str) {
        self.side.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn delivery(&self, event: Uuid, run: i32) -> Option<Delivery> {
        let rows = self
            .side
            .query_typed(
                "select d.owner::text, d.state::text, d.attempts, d.epoch from switchyard.delivery d
                   join switchyard.event_log e using (seq) where e.event_id = $1 and d.run = $2",
                &[(&event, Type::UUID), (&run, Type::INT4)],
            )
            .await
            .unwrap();
        assert!(rows.len() <= 1);
        rows.first().map(|r| Delivery { owner: r.get(0), state: r.get(1), attempts: r.get(2), epoch: r.get(3) })
    }

    /// The live row, which must exist.
    pub(crate) async fn row(&self, event: Uuid) -> Delivery {
        self.delivery(event, 0).await.expect("a delivery row")
    }

    pub(crate) async fn preview(&self, event: Uuid) -> ClaimAnswer {
        self.store.preview(AGENT, &[Ask::live(event)]).await.unwrap().answers.remove(0)
    }

    /// Claims and commits.
    pub(crate) async fn claim(&self, event: Uuid) -> Verdict {
        self.claim_run(event, 0).await
    }

    pub(crate) async fn claim_run(&self, event: Uuid, run: i32) -> Verdict {
        let mut tx = self.store.begin().await.unwrap();
        let ask = Ask { event_id: event, run, epoch: None };
        let standing = tx.claim(AGENT, &[ask]).await.unwrap().remove(0);
        tx.commit().await.unwrap();
        standing.verdict
    }

    /// Claims, settles otherwise, and commits.
    pub(crate) async fn settle(&self, event: Uuid, settlement: Settlement) {
        let mut tx = self.store.begin().await.unwrap();
        assert_eq!(tx.claim(AGENT, &[Ask::live(event)]).await.unwrap()[0].verdict, Verdict::Take);
        tx.settle(AGENT, &[Ask::live(event)], settlement, "because").await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The old system's claim, committed.
    pub(crate) async fn old_claim(&self, event: Uuid) -> String {
        let mut tx = self.store.begin().await.unwrap();
        let answer = old_claim_in(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
        answer
    }

    pub(crate) async fn fail(&self, event: Uuid) -> Reported {
        self.fail_as(event, 0, None).await
    }

    pub(crate) async fn fail_as(&self, event: Uuid, run: i32, epoch: Option<i32>) -> Reported {
        let ask = Ask { event_id: event, run, epoch };
        let failed = Failed { ask, reason: "boom".into(), error: "it went boom".into(), delay_ms: 1_000 };
        self.store.fail(AGENT, &[failed]).await.unwrap().remove(0)
    }

    pub(crate) async fn park(&self, event: Uuid) -> Reported {
        self.park_as(event, 0, None).await
    }

    pub(crate) async fn park_as(&self, event: Uuid, run: i32, epoch: Option<i32>) -> Reported {
        let ask = Ask { event_id: event, run, epoch };
        let parked = ParkReport { ask, reason: "boom".into(), error: "it went boom".into() };
        self.store.park(AGENT, &[parked]).await.unwrap().remove(0)
    }

    pub(crate) async fn resend(&self, event: Uuid, run: i32) -> switchyard_store::Resent {
        self.store.resend(AGENT, &[self.seq(event).await], run, "please").await.unwrap()
    }

    /// The first of what the shim would publish now.
    pub(crate) async fn pending(&self, rows: usize) -> Vec<Pending> {
        self.store.pending(&Known::default(), Page::of(rows)).await.unwrap()
    }

    /// What is due, as (event, run, epoch).
    pub(crate) async fn due(&self) -> Vec<(Uuid, i32, i32)> {
        self.due_when(Overdue::Now).await
    }

    pub(crate) async fn due_when(&self, overdue: Overdue) -> Vec<(Uuid, i32, i32)> {
        let due = self.store.due(AGENT, 100, overdue).await.unwrap();
        let mut named = Vec::new();
        for d in due {
            let event =
                self.one("select event_id from switchyard.event_log where seq = $1", &[(&d.seq, Type::INT8)]).await;
            named.push((event.get(0), d.run, d.epoch));
        }
        named
    }

    /// As if the shim had published everything.
    pub(crate) async fn publish_all(&self) {
        self.run_sql("delete from switchyard.outbox").await;
    }

    /// Ends every wait of the ledger: what is due some time is due now.
    pub(crate) async fn let_time_pass(&self) {
        self.run_sql(
            "update switchyard.delivery set next_attempt_at = now() - interval '1 s' where next_attempt_at is not null",
        )
        .await;
    }

    /// Sweeps with no grace, so that everything visible is looked at.
    pub(crate) async fn sweep(&self) -> i64 {
        self.store.set_grace(AGENT, 0).await.unwrap();
        self.store.tick().await.unwrap();
        self.store.sweep(AGENT).await.unwrap().written
    }

    /// Sweeps until the watermark has passed every event. Transactions of other tests, in other databases, hold it back.
    pub(crate) async fn sweep_past_everything(&self) {
        let waiting = "select count(*) from switchyard.subscription s
            where s.checked < least(coalesce(s.until_seq, switchyard.last_seq()), switchyard.last_seq())";
        let deadline = Deadline::new("the watermark");
        while self.number(waiting).await > 0 {
            deadline.check();
            self.sweep().await;
        }
    }

    /// Reassigns until that is complete.
    pub(crate) async fn reassign_completely(&self) {
        let deadline = Deadline::new("reassigning");
        while !self.store.reassign(AGENT).await.unwrap().complete {
            deadline.check();
        }
    }

    /// Returns when a session of this database waits for a lock.
    pub(crate) async fn lock_is_awaited(&self) {
        let deadline = Deadline::new("a lock being waited for");
        let waiting =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while self.number(waiting).await == 0 {
            deadline.check();
        }
    }
}

/// A deadline for a condition: longer than `eventually` waits, for as long as which a test in another database may hold a transaction open. It holds the
/// stable point of every database back.
pub(crate) struct Deadline {
    what: &'static str,
    until: std::time::Instant,
}

impl Deadline {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, until: std::time::Instant::now() + std::time::Duration::from_secs(180) }
    }

    pub(crate) fn check(&self) {
        assert!(std::time::Instant::now() < self.until, "{} did not happen within three minutes", self.what);
    }
}

pub(crate) fn spec(subscribes: &[&str]) -> AgentSpec {
    AgentSpec {
        name: AGENT.into(),
        subscribes: subscribes.iter().map(ToString::to_string).collect(),
        routed_by: RoutedBy::Aggregate,
        max_attempts: 4,
    }
}

pub(crate) async fn old_claim_in(tx: &mut Tx, event: Uuid) -> Result<String, StoreError> {
    let rows = tx.query("select switchyard.claim($1, $2)", &[(&AGENT, Type::TEXT), (&event, Type::UUID)]).await?;
    Ok(rows[0].get(0))
}
