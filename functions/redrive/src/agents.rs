//! Finds an agent's queues by its name. The error for an unknown name lists the names there are.

use switchyard_bus::AgentPlaces;

/// The places of one agent.
///
/// # Errors
/// One line that names the agents there are, and the likely one.
pub(crate) fn named<'a>(places: &'a [AgentPlaces], agent: &str) -> Result<&'a AgentPlaces, String> {
    places.iter().find(|place| place.agent == agent).ok_or_else(|| {
        let names: Vec<&str> = places.iter().map(|place| place.agent.as_str()).collect();
        unknown(agent, &names)
    })
}

fn unknown(agent: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return format!("there is no agent {agent:?}: the stack has none at all; is it deployed?");
    }
    let nearest = names.iter().map(|name| (distance(agent, name), name)).min();
    let guess = match nearest {
        // A third of the word wrong is a slip; more is another word.
        Some((wrong, name)) if wrong * 3 <= name.chars().count() => format!(" Did you mean {name:?}?"),
        _ => String::new(),
    };
    format!("there is no agent {agent:?}.{guess} There are: {}", names.join(", "))
}

/// How many characters must be inserted, deleted or replaced to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, ours) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, theirs) in other.iter().enumerate() {
            let changed = diagonal + usize::from(ours != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_is_answered_with_the_likely_name() {
        let names = ["duplicate", "sentiment"];
        assert_eq!(
            unknown("sentimet", &names),
            "there is no agent \"sentimet\". Did you mean \"sentiment\"? There are: duplicate, sentiment"
        );
        assert_eq!(unknown("billing", &names), "there is no agent \"billing\". There are: duplicate, sentiment");
        assert!(unknown("a", &[]).contains("is it deployed?"));
    }

    proptest! {
        #[test]
        fn a_distance_is_the_same_both_ways_and_none_to_itself(one in "[a-c]{0,6}", other in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&one, &other), distance(&other, &one));
            prop_assert_eq!(distance(&one, &other) == 0, one == other);
            prop_assert!(distance(&one, &other) <= one.len().max(other.len()));
            prop_assert!(distance(&one, &other) >= one.len().abs_diff(other.len()));
        }
    }
}
