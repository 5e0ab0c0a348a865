//! Shards and who holds them, by the database's clock.

use switchyard_store::{SHARDS, Shards, Share, Sharer, Type};
use uuid::Uuid;

use super::directly_and_pooled;
use super::scene::Scene;

const ALL: usize = SHARDS as usize;

fn sharer(at_once: u16) -> Sharer {
    Sharer { name: "test", holder: Uuid::new_v4(), at_once, lasts_ms: 30_000 }
}

/// Asks, and gives back what is over the fair share, as who holds it does.
async fn share(scene: &Scene, sharer: &Sharer) -> Share {
    let share = scene.store.share(sharer, Shards::NONE).await.unwrap();
    let over = share.held.highest(share.held.len().saturating_sub(share.fair));
    if over.is_empty() { share } else { scene.store.share(sharer, over).await.unwrap() }
}

/// As if so much time had passed.
async fn seconds_pass(scene: &Scene, seconds: u32) {
    for table in ["lease", "participant"] {
        scene.run_sql(&format!("update switchyard.{table} set until = until - interval '{seconds} s'")).await;
    }
}

directly_and_pooled! {
    async fn a_single_shim_holds_every_shard(scene: Scene) {
        let share = scene.store.share(&sharer(1), Shards::NONE).await.unwrap();
        assert_eq!((share.held, share.fair, share.stays, share.alone), (Shards::ALL, ALL, true, true));
        assert!((29_000..=30_000).contains(&share.until_ms_left), "{share:?}");
    }

    async fn a_newcomer_gets_its_fair_share_once_it_is_given_back_and_not_before(scene: Scene) {
        let [one, two] = [sharer(4), sharer(4)];
        share(&scene, &one).await;
        let early = scene.store.share(&two, Shards::NONE).await.unwrap();
        assert_eq!((early.held, early.fair, early.alone), (Shards::NONE, ALL / 2, false));
        let still = scene.store.share(&one, Shards::NONE).await.unwrap();
        assert_eq!((still.held, still.fair), (Shards::ALL, ALL / 2), "it is told, and keeps them until it gives them back");
        let kept = share(&scene, &one).await.held;
        let given = share(&scene, &two).await.held;
        assert_eq!((kept.len(), given), (ALL / 2, Shards::ALL.without(kept)));
    }

    async fn any_number_that_is_allowed_comes_to_share_all_shards_evenly(scene: Scene) {
        let sharers: Vec<Sharer> = (0..5).map(|_| sharer(8)).collect();
        for _ in 0..3 {
            for sharer in &sharers { share(&scene, sharer).await; }
        }
        let mut free = Shards::ALL;
        for sharer in &sharers {
            let share = share(&scene, sharer).await;
            assert!(matches!(share.held.len(), 3 | 4) && free.contain(share.held), "{share:?}");
            free = free.without(share.held);
        }
        assert!(free.is_empty());
    }

    async fn where_too_many_are_there_the_oldest_hands_over_and_leaves(scene: Scene) {
        let [one, two] = [sharer(1), sharer(1)];
        share(&scene, &one).await;
        assert!(scene.store.share(&two, Shards::NONE).await.unwrap().stays);
        let old = share(&scene, &one).await;
        assert_eq!((old.stays, old.fair, old.held), (false, 0, Shards::NONE));
        assert_eq!(share(&scene, &two).await.held, Shards::ALL);
    }

    async fn a_leaving_shim_frees_its_shards_at_once(scene: Scene) {
        let [one, two] = [sharer(2), sharer(2)];
        share(&scene, &one).await;
        share(&scene, &two).await;
        assert!(scene.store.leave(&one, false).await.unwrap());
        let share = share(&scene, &two).await;
        assert_eq!((share.held, share.alone), (Shards::ALL, true));
    }

    async fn the_shards_of_one_that_died_are_free_when_its_lease_has_run_out_and_not_before(scene: Scene) {
        let [dead, other] = [sharer(2), sharer(2)];
        share(&scene, &dead).await;
        share(&scene, &other).await;
        share(&scene, &dead).await;
        seconds_pass(&scene, 29).await;
        assert_eq!(share(&scene, &other).await.held.len(), ALL / 2);
        seconds_pass(&scene, 2).await;
        let share = share(&scene, &other).await;
        assert_eq!((share.held, share.alone), (Shards::ALL, true));
        let late = scene.store.share(&dead, Shards::NONE).await.unwrap();
        assert_eq!(late.held, Shards::NONE, "what it thinks that it has is another's");
    }

    async fn no_two_shims_hold_the_same_shard(scene: Scene) {
        let mut askers = Vec::new();
        for _ in 0..8 {
            let store = scene.store.clone();
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

    async fn a_notification_reaches_only_a_running_shim(scene: Scene) {
        let one = sharer(1);
        assert!(!scene.store.notify("test").await.unwrap(), "nobody is there");
        share(&scene, &one).await;
        assert!(scene.store.notify("test").await.unwrap());
        assert!(scene.store.notify("test").await.unwrap());
        assert!(!scene.store.leave(&one, false).await.unwrap(), "it is to look once more");
        assert_eq!(share(&scene, &one).await.held, Shards::ALL);
        assert!(scene.store.leave(&one, false).await.unwrap());
        assert!(!scene.store.notify("test").await.unwrap());
        share(&scene, &one).await;
        scene.store.notify("test").await.unwrap();
        assert!(scene.store.leave(&one, true).await.unwrap(), "one whose time is up leaves all the same");
        share(&scene, &one).await;
        seconds_pass(&scene, 31).await;
        assert!(!scene.store.notify("test").await.unwrap(), "the dead hear nothing");
    }

    async fn the_database_and_the_shim_agree_on_every_aggregate_s_shard(scene: Scene) {
        let ids: Vec<String> = ["", "p", "\u{fc}ber", "\u{1f600}", "\\x41", "'"].map(str::to_owned).into_iter()
            .chain((0..200).map(|n| Uuid::from_u128(n).to_string())).collect();
        for id in &ids {
            let row = scene.one("select switchyard.shard_of($1)::int", &[(id, Type::TEXT)]).await;
            let shard = u8::try_from(row.get::<_, i32>(0)).unwrap();
            assert_eq!(Shards::of(id), [shard].into_iter().collect(), "{id}");
        }
    }

    async fn a_read_sees_its_own_shards_and_no_others(scene: Scene) {
        for _ in 0..40 { scene.event("thing.made").await; }
        let all = scene.pending(100).await;
        let mine: Shards = (0..8).collect();
        let mut seen = 0;
        for shards in [mine, Shards::ALL.without(mine)] {
            for full in [Vec::new(), vec!["nobody".to_owned()]] {
                let known = switchyard_store::Known { seqs: Vec::new(), full };
                let page = switchyard_store::Page { shards, ..switchyard_store::Page::of(100) };
                let pending = scene.store.pending(&known, page).await.unwrap();
                assert!(pending.iter().all(|p| shards.contain(Shards::of(&p.aggregate_id))));
                seen += pending.len();
            }
        }
        assert_eq!((all.len(), seen), (40, 80));
    }
}
