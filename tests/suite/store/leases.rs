//! Shards and who holds them, by the database's clock.

use switchyard_store::{SHARDS, Shards, Share, Sharer, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::world::LedgerWorld;

const ALL: usize = SHARDS as usize;

fn sharer(at_once: u16) -> Sharer {
    Sharer { name: "test", holder: Uuid::new_v4(), at_once, lasts_ms: 30_000 }
}

/// Asks, and gives back what is over the fair share, as who holds it does.
async fn share(world: &LedgerWorld, sharer: &Sharer) -> Share {
    let share = world.store.share(sharer, Shards::NONE).await.unwrap();
    let over = share.held.highest(share.held.len().saturating_sub(share.fair));
    if over.is_empty() { share } else { world.store.share(sharer, over).await.unwrap() }
}

/// As if so much time had passed.
async fn seconds_pass(world: &LedgerWorld, seconds: u32) {
    for table in ["lease", "participant"] {
        world.run_sql(&format!("update switchyard.{table} set until = until - interval '{seconds} s'")).await;
    }
}

directly_and_pooled! {
    async fn a_single_shim_holds_every_shard(world: LedgerWorld) {
        let share = world.store.share(&sharer(1), Shards::NONE).await.unwrap();
        assert_eq!((share.held, share.fair, share.stays, share.alone), (Shards::ALL, ALL, true, true));
        assert!((29_000..=30_000).contains(&share.until_ms_left), "{share:?}");
    }

    async fn a_newcomer_gets_its_fair_share_once_it_is_given_back_and_not_before(world: LedgerWorld) {
        let [one, two] = [sharer(4), sharer(4)];
        share(&world, &one).await;
        let early = world.store.share(&two, Shards::NONE).await.unwrap();
        assert_eq!((early.held, early.fair, early.alone), (Shards::NONE, ALL / 2, false));
        let still = world.store.share(&one, Shards::NONE).await.unwrap();
        assert_eq!((still.held, still.fair), (Shards::ALL, ALL / 2), "it is told, and keeps them until it gives them back");
        let kept = share(&world, &one).await.held;
        let given = share(&world, &two).await.held;
        assert_eq!((kept.len(), given), (ALL / 2, Shards::ALL.without(kept)));
    }

    async fn any_number_that_is_allowed_comes_to_share_all_shards_evenly(world: LedgerWorld) {
        let sharers: Vec<Sharer> = (0..5).map(|_| sharer(8)).collect();
        for _ in 0..3 {
            for sharer in &sharers { share(&world, sharer).await; }
        }
        let mut free = Shards::ALL;
        for sharer in &sharers {
            let share = share(&world, sharer).await;
            assert!(matches!(share.held.len(), 3 | 4) && free.contain(share.held), "{share:?}");
            free = free.without(share.held);
        }
        assert!(free.is_empty());
    }

    async fn where_too_many_are_there_the_oldest_hands_over_and_leaves(world: LedgerWorld) {
        let [one, two] = [sharer(1), sharer(1)];
        share(&world, &one).await;
        assert!(world.store.share(&two, Shards::NONE).await.unwrap().stays);
        let old = share(&world, &one).await;
        assert_eq!((old.stays, old.fair, old.held), (false, 0, Shards::NONE));
        assert_eq!(share(&world, &two).await.held, Shards::ALL);
    }

    async fn a_leaving_shim_frees_its_shards_at_once(world: LedgerWorld) {
        let [one, two] = [sharer(2), sharer(2)];
        share(&world, &one).await;
        share(&world, &two).await;
        assert!(world.store.leave(&one, false).await.unwrap());
        let share = share(&world, &two).await;
        assert_eq!((share.held, share.alone), (Shards::ALL, true));
    }

    async fn the_shards_of_one_that_died_are_free_when_its_lease_has_run_out_and_not_before(world: LedgerWorld) {
        let [dead, other] = [sharer(2), sharer(2)];
        share(&world, &dead).await;
        share(&world, &other).await;
        share(&world, &dead).await;
        seconds_pass(&world, 29).await;
        assert_eq!(share(&world, &other).await.held.len(), ALL / 2);
        seconds_pass(&world, 2).await;
        let share = share(&world, &other).await;
        assert_eq!((share.held, share.alone), (Shards::ALL, true));
        let late = world.store.share(&dead, Shards::NONE).await.unwrap();
        assert_eq!(late.held, Shards::NONE, "what it thinks that it has is another's");
    }

    async fn no_two_shims_hold_the_same_shard(world: LedgerWorld) {
        let mut askers = Vec::new();
        for _ in 0..8 {
            let store = world.store.clone();
            askers.push(tokio::spawn(async move { store.share(&sharer(8), Shards::NONE).await.unwrap().held }));
        }
        let mut free = Shards::ALL;
        for asker in askers {
            let held = asker.await.unwrap();
            assert!(free.contain(held));
            free = free.without(held);
        }
        assert!(free.is_empty(), "the first to come took all");
    }

    async fn a_notification_reaches_only_a_running_shim(world: LedgerWorld) {
        let one = sharer(1);
        assert!(!world.store.notify("test").await.unwrap(), "nobody is there");
        share(&world, &one).await;
        assert!(world.store.notify("test").await.unwrap());
        assert!(world.store.notify("test").await.unwrap());
        assert!(!world.store.leave(&one, false).await.unwrap(), "it is to look once more");
        assert_eq!(share(&world, &one).await.held, Shards::ALL);
        assert!(world.store.leave(&one, false).await.unwrap());
        assert!(!world.store.notify("test").await.unwrap());
        share(&world, &one).await;
        world.store.notify("test").await.unwrap();
        assert!(world.store.leave(&one, true).await.unwrap(), "one whose time is up leaves all the same");
        share(&world, &one).await;
        seconds_pass(&world, 31).await;
        assert!(!world.store.notify("test").await.unwrap(), "the dead hear nothing");
    }

    async fn the_database_and_the_shim_agree_on_every_aggregate_s_shard(world: LedgerWorld) {
        let ids: Vec<String> = ["", "p", "\u{fc}ber", "\u{1f600}", "\\x41", "'"].map(str::to_owned).into_iter()
            .chain((0..200).map(|n| Uuid::from_u128(n).to_string())).collect();
        for id in &ids {
            let row = world.one("select switchyard.shard_of($1)::int", &[(id, Type::TEXT)]).await;
            let shard = u8::try_from(row.get::<_, i32>(0)).unwrap();
            assert_eq!(Shards::of(id), [shard].into_iter().collect(), "{id}");
        }
    }

    async fn a_read_sees_its_own_shards_and_no_others(world: LedgerWorld) {
        for _ in 0..40 { world.event("thing.made").await; }
        let all = world.pending(100).await;
        let mine: Shards = (0..8).collect();
        let mut seen = 0;
        for shards in [mine, Shards::ALL.without(mine)] {
            for full in [Vec::new(), vec!["nobody".to_owned()]] {
                let known = switchyard_store::Known { seqs: Vec::new(), full };
                let page = switchyard_store::Page { shards, ..switchyard_store::Page::of(100) };
                let pending = world.store.pending(&known, page).await.unwrap();
                assert!(pending.iter().all(|p| shards.contain(Shards::of(&p.aggregate_id))));
                seen += pending.len();
            }
        }
        assert_eq!((all.len(), seen), (40, 80));
    }
}
