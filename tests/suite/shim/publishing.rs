//! What the shim publishes, in which order, and what it parks: a real Postgres, and topics that refuse and fail.

use shim::{Publisher, Report, Settings, Times};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    rc::Rc,
    time::Duration,
};
use switchyard_bus::{BusError, Message, Published, Refused, Topic};
use switchyard_event::Event;
use switchyard_store::{Known, Page};
use switchyard_tests::{Database, eventually};
use tokio::time::Instant;
use tokio_postgres::Client;

/// Four calls at the same time, alone, and ended as soon as nothing is pending.
pub(super) fn sweeping() -> Settings {
    Settings {
        topic_arn: String::new(),
        resident: Duration::ZERO,
        publish_concurrency: 4,
        shims: 1,
        times: Times::default(),
    }
}

/// A topic that answers as a test says, and remembers what it accepted: the number of the call, and the event.
struct Told<F> {
    answer: F,
    calls: Rc<Cell<usize>>,
    taken: Rc<RefCell<Vec<(usize, Event)>>>,
}

impl<F: AsyncFn(usize, &[Event]) -> Result<Vec<Published>, BusError>> Topic for Told<F> {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Published>, BusError> {
        let call = self.calls.replace(self.calls.get() + 1);
        let events: Vec<Event> = messages.iter().map(|message| Event::parse(&message.body).unwrap()).collect();
        let answer = (self.answer)(call, &events).await;
        // An answer that is lost is no sign that nothing was published.
        let lost = answer.as_ref().is_err_and(|error| error.detail == LOST);
        for (at, event) in events.into_iter().enumerate() {
            if lost || answer.as_ref().is_ok_and(|answers| answers[at].is_ok()) {
                self.taken.borrow_mut().push((call, event));
            }
        }
        answer
    }
}

const LOST: &str = "the answer was lost";

fn error(detail: &str, transient: bool, setup: bool) -> BusError {
    BusError { operation: "PublishBatch", detail: detail.to_owned(), transient, setup }
}

fn all_accepted(events: &[Event]) -> Result<Vec<Published>, BusError> {
    Ok(vec![Ok(()); events.len()])
}

/// What a shim that drains once did, what the topic accepted in which call, and how often the shim woke.
struct Trip {
    report: Report,
    taken: Vec<(usize, Event)>,
    calls: usize,
    wakes: usize,
}

impl Trip {
    async fn through<F>(database: &Database, answer: F) -> Self
    where
        F: AsyncFn(usize, &[Event]) -> Result<Vec<Published>, BusError> + 'static,
    {
        let (calls, taken) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        let topic = Told { answer, calls: Rc::clone(&calls), taken: Rc::clone(&taken) };
        let publisher = Publisher::new(database.store(), topic, sweeping());
        let mut publishing = pin!(publisher.publish(Instant::now() + Duration::from_secs(188)));
        let mut wakes = 0;
        let report = std::future::poll_fn(|context| {
            wakes += 1;
            publishing.as_mut().poll(context)
        });
        let report = report.await.unwrap();
        Self { report, taken: taken.take(), calls: calls.get(), wakes }
    }

    /// The sequences of each aggregate in the order in which the topic first accepted them.
    fn orders(&self) -> BTreeMap<String, Vec<i64>> {
        let mut seen = BTreeSet::new();
        let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (_, event) in self.taken.iter().filter(|(_, event)| seen.insert(event.id)) {
            orders.entry(event.aggregate_id.clone()).or_default().extend(event.metadata.sequence);
        }
        orders
    }
}

/// Inserts so many events; `aggregate` and `payload` are SQL over `n`, the number of each.
pub(super) async fn insert(client: &Client, events: u32, aggregate: &str, payload: &str) {
    let sql = format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         select gen_random_uuid(), 'counted', 'thing', {aggregate}, {payload}, '{{}}', 1 from generate_series(1, {events}) n"
    );
    client.execute(&sql, &[]).await.unwrap();
}

/// An aggregate for each event.
pub(super) const OWN: &str = "gen_random_uuid()";
/// One aggregate for all of them.
pub(super) const HOT: &str = "'00000000-0000-0000-0000-000000000001'::uuid";

pub(super) async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub(super) const LEFT: &str = "select count(*) from switchyard.outbox";

#[tokio::test]
async fn events_of_one_aggregate_are_first_published_in_sequence_whatever_the_topic_refuses() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 200, "('00000000-0000-0000-0000-00000000000' || n % 5)::uuid", "'{}'").await;
    let (entries, refused) = (Cell::new(0_usize), RefCell::new(BTreeSet::new()));

    // Refuses every third entry the first time and loses the answer of every fifth call.
    let trip = Trip::through(&database, async move |call, events| {
        let answers = events.iter().map(|event| {
            entries.set(entries.get() + 1);
            let refuse = entries.get().is_multiple_of(3) && refused.borrow_mut().insert(event.id);
            if refuse { Err(Refused { code: "Throttled".into(), permanent: false }) } else { Ok(()) }
        });
        let answers = answers.collect();
        if call % 5 == 4 { Err(error(LOST, true, false)) } else { Ok(answers) }
    })
    .await;

    assert_eq!(trip.report.published, 200);
    assert!(trip.report.refused > 10, "{:?}", trip.report);
    assert_eq!(trip.orders().len(), 5);
    for order in trip.orders().values() {
        assert!(order.len() == 40 && order.is_sorted(), "{order:?}");
    }
    assert_eq!(number(&client, LEFT).await, 0);
}

#[tokio::test]
async fn an_event_committed_late_between_two_reads_is_published_before_later_inserts() {
    let database = Database::migrated().await;
    let (client, late) = (database.connect().await, database.connect().await);
    late.batch_execute("begin").await.unwrap();
    insert(&late, 1, HOT, "'{}'").await;
    // More than a page, so that the first of it is on its way while the rest is read.
    insert(&client, 700, OWN, "'{}'").await;

    let trip = Trip::through(&database, async move |call, events| {
        if call == 0 {
            late.batch_execute("commit").await.unwrap();
            insert(&late, 1, HOT, "'{}'").await;
        }
        all_accepted(events)
    })
    .await;

    assert_eq!(trip.report.published, 702);
    assert_eq!(trip.orders()["00000000-0000-0000-0000-000000000001"], [1, 702]);
}

#[tokio::test]
async fn a_page_of_large_rows_is_short_and_all_of_them_arrive() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 60, OWN, "to_jsonb(repeat('x', 250000))").await;

    let page = database.store().pending(&Known::default(), Page::of(500)).await.unwrap();
    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    let bytes: usize = page.iter().map(|row| row.payload_bytes).sum();
    assert!(page.len() > 1 && bytes < 9 * 1024 * 1024, "{} rows of {bytes} bytes", page.len());
    assert_eq!((trip.report.published, number(&client, LEFT).await), (60, 0));
}

#[tokio::test]
async fn a_payload_that_no_message_could_carry_stays_in_the_table_and_its_event_is_published_in_order() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let payload =
        "case n when 2 then to_jsonb(repeat('x', 262142)) when 3 then to_jsonb(repeat('x', 2000000)) else '{}' end";
    insert(&client, 4, HOT, payload).await;

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    assert_eq!((trip.report.published, trip.report.parked), (4, 0));
    let checks: Vec<Option<u64>> =
        trip.taken.iter().map(|(_, event)| event.metadata.claim_check.map(|check| check.bytes)).collect();
    assert_eq!(checks, [None, Some(262_144), Some(2_000_002), None]);
    assert_eq!(trip.orders().into_values().collect::<Vec<_>>(), [[1, 2, 3, 4]]);
}

#[tokio::test]
async fn an_edited_payload_is_published_as_edited() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 2, HOT, "'{\"n\": 1}'").await;
    let first = client.query_one("select event_id from switchyard.event_log where seq = 1", &[]).await.unwrap().get(0);
    for payload in [r#"{"n": 2}"#, r#"{"n": 3}"#] {
        database.store().revise(first, payload, "somebody", "it was wrong").await.unwrap();
    }

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    let taken: Vec<_> = trip.taken.iter().map(|(_, event)| (event.payload(), event.metadata.revision)).collect();
    assert_eq!(taken, [(r#"{"n": 3}"#, Some(2)), (r#"{"n": 1}"#, None)]);
}

#[tokio::test]
async fn a_delayed_event_stays_in_the_outbox_and_is_published_as_soon_as_it_is_due() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let delayed = "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         select gen_random_uuid(), 'delayed', 'thing', gen_random_uuid(), '{}',
                jsonb_build_object('deliver_at', switchyard.rfc3339(now() + interval '1 hour')), 1";
    client.execute(delayed, &[]).await.unwrap();
    insert(&client, 1, OWN, "'{}'").await;

    let first = Trip::through(&database, async |_, events| all_accepted(events)).await;
    assert_eq!((first.report.published, number(&client, LEFT).await), (1, 1), "it does not go before its time");
    let soon = "update switchyard.event_log set due_at = now() + interval '900 milliseconds' where due_at is not null;
         update switchyard.outbox o set due_at = l.due_at from switchyard.event_log l where l.seq = o.seq";
    client.batch_execute(soon).await.unwrap();

    let taken = Rc::new(Cell::new(false));
    let seen = Rc::clone(&taken);
    let answer = async move |_, events: &[Event]| {
        seen.set(true);
        all_accepted(events)
    };
    let topic = Told { answer, calls: Rc::default(), taken: Rc::default() };
    let publisher =
        Publisher::new(database.store(), topic, Settings { resident: Duration::from_secs(60), ..sweeping() });
    tokio::select! {
        ended = publisher.publish(Instant::now() + Duration::from_secs(188)) => panic!("a resident shim stays: {ended:?}"),
        () = eventually("the delayed event", async || taken.get().then_some(())) => {}
    }
    let late = "select extract(epoch from clock_timestamp() - due_at)::float8 from switchyard.event_log where due_at is not null";
    let late: f64 = client.query_one(late, &[]).await.unwrap().get(0);
    assert!((0.0..5.0).contains(&late), "{late} s after it was due");
}

#[tokio::test]
async fn a_row_that_no_queue_could_carry_is_parked_and_delays_no_other() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    let payload =
        "case n when 1 then '1' when 2 then '2' when 3 then (repeat('[', 70) || repeat(']', 70))::jsonb else '{}' end";
    insert(&client, 5, HOT, payload).await;
    client
        .batch_execute(
            "update events set metadata = '{\"hops\": \"many\", \"priority\": 0}' where payload = '{}';
             update events set metadata = jsonb_build_object('mine', repeat('x', 300000)) where payload in ('1', '2')",
        )
        .await
        .unwrap();

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    assert_eq!((trip.report.published, trip.report.parked), (2, 3));
    let reasons = "select count(*) from switchyard.outbox where parked_at is not null
                    and reason like case seq when 3 then 'too_deep: %' else 'too_large: %' end";
    assert_eq!(number(&client, reasons).await, 3);
}

#[tokio::test]
async fn metadata_larger_than_the_shim_s_memory_is_parked_and_delays_no_other() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 401, HOT, "'{}'").await;
    client
        .batch_execute(
            "update events set metadata = jsonb_build_object('mine', repeat('x', 1000000));
             update events set metadata = jsonb_build_object('mine', repeat('x', 40000000)) where id = (select event_id from switchyard.event_log where seq = 401)",
        )
        .await
        .unwrap();
    insert(&client, 2, HOT, "'{}'").await;

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    assert_eq!((trip.report.published, trip.report.parked), (2, 401));
    let reasons = "select count(*) from switchyard.outbox where parked_at is not null and reason like 'too_large: the metadata has %'";
    assert_eq!(number(&client, reasons).await, 401);
}

#[tokio::test]
async fn rows_of_deleted_events_are_removed_and_delay_no_other() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 1200, OWN, "'{}'").await;
    client.batch_execute("delete from events").await.unwrap();
    insert(&client, 3, OWN, "'{}'").await;

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    assert_eq!((trip.report.published, number(&client, LEFT).await), (3, 0));
}

#[tokio::test]
async fn one_entry_that_fails_its_whole_call_is_found_and_parked_alone() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 20, "('00000000-0000-0000-0000-0000000000' || 10 + n % 10)::uuid", "to_jsonb(n)").await;

    let trip = Trip::through(&database, async |_, events| {
        let poison = events.iter().any(|event| event.payload() == "4");
        if poison {
            Err(error("InvalidParameterValue: a control character", false, false))
        } else {
            all_accepted(events)
        }
    })
    .await;

    assert_eq!((trip.report.published, trip.report.parked), (19, 1));
    let poison = "select count(*) from switchyard.outbox where seq = 4 and parked_at is not null and reason like 'InvalidParameterValue%'";
    assert_eq!((number(&client, poison).await, number(&client, LEFT).await), (1, 1));
    assert!(trip.calls < 25, "{} calls", trip.calls);
}

#[tokio::test]
async fn a_missing_permission_parks_no_event() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 1, OWN, "'{}'").await;

    let trip = Trip::through(&database, async |call, events| {
        if call < 5 { Err(error("AuthorizationError: not yours", false, true)) } else { all_accepted(events) }
    })
    .await;

    let report = Report { published: 1, refused: 5, parked: 0 };
    assert_eq!(trip.report, report);
}

#[tokio::test]
async fn a_busy_aggregate_does_not_delay_the_others() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 2000, HOT, "'{}'").await;
    insert(&client, 50, OWN, "'{}'").await;

    let trip = Trip::through(&database, async |_, events| all_accepted(events)).await;

    assert_eq!(trip.report.published, 2050);
    let others = trip.taken.iter().filter(|(_, event)| event.metadata.sequence > Some(2000));
    let last = others.map(|(call, _)| *call).max().unwrap();
    assert!(last < 200, "the last of the others went by call {last} of {}", trip.calls);
    assert!(trip.orders().values().all(|order| order.is_sorted()));
}

#[tokio::test]
async fn the_shim_sleeps_while_the_topic_is_down() {
    let database = Database::migrated().await;
    let client = database.connect().await;
    insert(&client, 60, OWN, "'{}'").await;
    let began = Instant::now();

    let trip = Trip::through(&database, async move |_, events| {
        let down = began.elapsed() < Duration::from_secs(2);
        if down { Err(error("ThrottledException", true, false)) } else { all_accepted(events) }
    })
    .await;

    assert_eq!((trip.report.published, trip.report.parked), (60, 0));
    assert!(trip.wakes < 5 * trip.calls, "{} wakes for {} calls", trip.wakes, trip.calls);
}
