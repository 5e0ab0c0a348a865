//! Which earlier post says the same: pure.

use serde::{Deserialize, Serialize};
use switchyard_agent::{Decision, Reject};
use switchyard_event::{Event, NewEvent};
use switchyard_feedback::{DUPLICATE_FOUND, similarity};

/// From here on two posts say the same. Chosen by hand on the sample feedback: below it, posts share a subject but not a complaint.
const SAME: f64 = 0.6;

/// A row of `posts`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Post {
    /// The post.
    pub id: String,
    title: Option<String>,
    description: Option<String>,
}

/// A post that was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// The post.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its text.
    pub description: String,
}

/// One row of `feedback_duplicates`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// The later post.
    pub post_id: String,
    /// The earlier one that says the same.
    pub duplicate_of: String,
    /// How much it is the same, from 0 to 1.
    pub similarity: f64,
}

pub(crate) fn decide(event: &Event, earlier: &[Earlier]) -> Result<Decision<Match>, Reject> {
    let post: Post = event.decode()?;
    let text = words(post.title.as_deref(), post.description.as_deref());
    let nearest = earlier
        .iter()
        .map(|other| (similarity(&text, &words(Some(&other.title), Some(&other.description))), other))
        .max_by(|(one, first), (other, second)| one.total_cmp(other).then_with(|| second.id.cmp(&first.id)));
    let Some((similarity, other)) = nearest.filter(|(similarity, _)| *similarity >= SAME) else {
        return Ok(Decision::nothing());
    };
    let found = Match {
        post_id: post.id,
        duplicate_of: other.id.clone(),
        similarity: (similarity * 1_000.0).round() / 1_000.0,
    };
    let said = NewEvent::new(DUPLICATE_FOUND, "post", &found.post_id, &found)?;
    Ok(Decision::nothing().effect(found).event(said))
}

/// The title counts twice: it says what the post is about.
fn words(title: Option<&str>, description: Option<&str>) -> String {
    let title = title.unwrap_or_default();
    format!("{title} {title} {}", description.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Duplicate;
    use switchyard_agent::testing::given;

    fn created() -> Event {
        Event::parse(include_str!("../events/slow-checkout.json")).unwrap()
    }

    fn earlier(id: &str, title: &str, description: &str) -> Earlier {
        Earlier { id: id.into(), title: title.into(), description: description.into() }
    }

    #[test]
    fn the_nearest_of_those_that_say_the_same_is_named() {
        let posts = vec![
            earlier("a", "Export drops the last row", "CSV only"),
            earlier("b", "Checkout slow", "Takes long to pay"),
            earlier("c", "Checkout is slow", "It takes ten seconds to pay on Wi-Fi"),
        ];
        let decision = given::<Duplicate>(&created(), posts).decide();
        assert_eq!(decision.effects[0].duplicate_of, "c");
        assert_eq!(decision.events[0].event_type, DUPLICATE_FOUND);
    }

    #[test]
    fn no_duplicate_is_emitted_without_an_earlier_post() {
        given::<Duplicate>(&created(), vec![]).then(Decision::nothing());
        given::<Duplicate>(&created(), vec![earlier("a", "Dark mode", "")]).then(Decision::nothing());
    }

    #[test]
    fn of_two_equals_the_lower_id_wins_whatever_their_order() {
        let (a, b) = (earlier("a", "Checkout is slow", ""), earlier("b", "Checkout is slow", ""));
        let one = given::<Duplicate>(&created(), vec![a.clone(), b.clone()]).decide();
        let other = given::<Duplicate>(&created(), vec![b, a]).decide();
        assert_eq!((&one, one.effects[0].duplicate_of.as_str()), (&other, "a"));
    }

    #[test]
    fn a_payload_that_is_no_post_is_rejected() {
        let event = created();
        let aggregate = (event.aggregate_type.clone(), event.aggregate_id.clone());
        let other = Event::from_parts(event.id, event.event_type, aggregate, "[]".into(), 1, event.metadata).unwrap();
        given::<Duplicate>(&other, vec![]).then_rejected("malformed");
    }
}
