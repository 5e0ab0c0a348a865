//! The contract of [`Directory`].

use std::collections::BTreeSet;
use switchyard_bus::{AgentPlaces, Directory};

/// Every promise of a directory, given the names of the agents that there are. Returns their places, for a closer look.
pub async fn keeps_what_a_directory_promises(directory: &impl Directory, agents: &[&str]) -> Vec<AgentPlaces> {
    let found = directory.places().await.unwrap();
    assert!(found.troubles.is_empty(), "{:?}", found.troubles);
    let places = found.agents;

    let names: Vec<&str> = places.iter().map(|place| place.agent.as_str()).collect();
    assert_eq!(names, super::sorted(agents.iter().copied()), "every agent once, by name");
    let mut all = BTreeSet::new();
    for place in &places {
        let own = [&place.queue_url, &place.dead_letter_url, &place.function, &place.mapping];
        for part in own.into_iter().chain(&place.subscription_dead_letter_url) {
            assert!(!part.is_empty() && all.insert(part.clone()), "no two places are the same: {part:?}");
        }
        for (url, arn) in [(&place.queue_url, &place.queue_arn), (&place.dead_letter_url, &place.dead_letter_arn)] {
            assert!(arn.starts_with("arn:aws:sqs:"), "{arn}");
            assert_eq!(url.rsplit('/').next(), arn.rsplit(':').next(), "URL and ARN are of one queue");
        }
    }
    assert_eq!(directory.places().await.unwrap().agents, places, "the same again");
    places
}
