//! Rows that are larger than the store reads: an inserter cannot exhaust the store's memory.

use super::directly_and_pooled;
use super::world::LedgerWorld;
use switchyard_store::{Known, Page, Pending};

const MIB: usize = 1024 * 1024;

/// Inserts so many events; the columns are SQL.
async fn insert(
    world: &LedgerWorld,
    events: usize,
    event_type: &str,
    aggregate_type: &str,
    payload: &str,
    metadata: &str,
) {
    let sql = format!(
        "insert into events (id, type, aggregate_type, aggregate_id, payload, metadata, version)
         select gen_random_uuid(), {event_type}, {aggregate_type}, gen_random_uuid(), {payload}, {metadata}, 1 from generate_series(1, {events})"
    );
    world.run_sql(&sql).await;
}

/// A metadata of so many bytes as SQL.
fn metadata(bytes: usize) -> String {
    format!("jsonb_build_object('mine', repeat('x', {bytes}))")
}

/// What a row holds in memory.
fn bytes(row: &Pending) -> usize {
    let texts = [&row.payload, &row.metadata, &row.project_id, &row.excess];
    let names = [&row.event_type, &row.aggregate_type, &row.aggregate_id];
    texts.into_iter().flatten().chain(names).map(String::len).sum()
}

directly_and_pooled! {
    async fn a_page_is_bounded_whatever_its_rows_consist_of(world: LedgerWorld) {
        insert(&world, 100, "'a'", "'a'", "'{}'", &metadata(200 * 1024)).await;
        insert(&world, 40, "'a'", "'a'", "'{}'", &metadata(MIB)).await;
        insert(&world, 1, "'a'", "'a'", "'{}'", &metadata(40 * MIB)).await;
        insert(&world, 40, "'a'", "'a'", "jsonb_build_object('project_id', repeat('p', 1048576))", "'{}'").await;

        let mut known = Known::default();
        let (mut pages, mut excessive) = (0, 0);
        loop {
            let page = world.store.pending(&known, Page::of(500)).await.unwrap();
            let bytes: usize = page.iter().map(bytes).sum();
            assert!(bytes <= 9 * MIB, "{bytes} bytes");
            if page.is_empty() {
                break;
            }
            pages += 1;
            excessive += page.iter().filter(|row| row.excess.is_some()).count();
            known.seqs.extend(page.iter().map(|row| row.seq));
        }
        assert_eq!((excessive, known.seqs.len()), (81, 181));
        assert!(pages <= 5, "{pages} pages");
    }

    async fn a_row_that_is_larger_than_is_read_says_what_of_it_and_nothing_else(world: LedgerWorld) {
        insert(&world, 1, "'a'", "'a'", "'{}'", &metadata(262_144)).await;
        insert(&world, 1, "'a'", "'a'", "'{}'", &metadata(40 * MIB)).await;
        let random = "jsonb_build_object('mine', (select string_agg(md5(n::text), '') from generate_series(1, 30000) n))";
        insert(&world, 1, "'a'", "'a'", "'{}'", random).await;
        insert(&world, 1, "repeat('t', 1025)", "'a'", "'{}'", "'{}'").await;
        insert(&world, 1, "'a'", "repeat('t', 1025)", "'{}'", "'{}'").await;
        insert(&world, 1, "'a'", "'a'", "jsonb_build_object('project_id', repeat('p', 1025))", "'{}'").await;
        // The most that there may be: the key and what is around it are 12 bytes.
        insert(&world, 1, "repeat('t', 1024)", "repeat('t', 1024)", "'{}'", &metadata(262_132)).await;

        let page = world.store.pending(&Known::default(), Page::of(500)).await.unwrap();

        let (whole, excessive) = page.split_last().unwrap();
        assert_eq!((&whole.excess, whole.metadata.as_deref().map(str::len)), (&None, Some(262_144)));
        for (row, what) in excessive.iter().zip(["the metadata has 262156 bytes", "the metadata has 41943052 bytes", "the metadata has more than 262144 bytes", "the type has 1025 bytes", "the aggregate type has 1025 bytes", "the project has 1025 bytes"]) {
            let excess = row.excess.as_deref().unwrap();
            assert!(excess.starts_with(what), "{excess}");
            assert_eq!((bytes(row), row.payload.is_none()), (excess.len(), true));
        }
        let seqs: Vec<i64> = page.iter().map(|row| row.seq).collect();
        assert_eq!(world.store.events(&seqs).await.unwrap(), page, "who sends again reads as little");
    }

    async fn payloads_that_are_fetched_together_are_no_more_than_one_may_be(world: LedgerWorld) {
        insert(&world, 5, "'a'", "'a'", "to_jsonb(repeat('x', 400))", "'{}'").await;
        insert(&world, 1, "'a'", "'a'", "to_jsonb(repeat('x', 40000000))", "'{}'").await;
        let ids: Vec<_> = world.pending(10).await.iter().map(|row| row.id).collect();

        let payloads = world.store.payloads(&ids, 1_000).await.unwrap();

        let told: Vec<_> = payloads.iter().flatten().map(|payload| (payload.bytes, payload.text.is_some())).collect();
        assert_eq!(told, [(402, true), (402, true), (402, false), (402, false), (402, false), (40_000_002, false)]);
    }
}
