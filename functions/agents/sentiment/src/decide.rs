//! How a piece of feedback feels: pure.

use serde::{Deserialize, Serialize};
use switchyard_agent::{Decision, Reject};
use switchyard_event::{Event, NewEvent};
use switchyard_feedback::{SENTIMENT_ANALYZED, Sentiment};

/// A row of `posts`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Post {
    title: Option<String>,
    description: Option<String>,
}

/// One row of `sentiment_analysis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The post.
    pub post_id: String,
    /// Its project.
    pub project_id: Option<String>,
    /// What was found.
    pub sentiment: Sentiment,
}

pub(crate) fn decide(event: &Event) -> Result<Decision<Analysis>, Reject> {
    let post: Post = event.decode()?;
    let parts = [post.title, post.description].into_iter().flatten();
    let text = parts.filter(|part| !part.trim().is_empty()).collect::<Vec<_>>().join(". ");
    if text.is_empty() {
        return Err(Reject::new("no_text", "the post has neither a title nor a description"));
    }
    let sentiment = switchyard_feedback::sentiment(&text);
    let analysis =
        Analysis { post_id: event.aggregate_id.clone(), project_id: event.metadata.project_id.clone(), sentiment };
    let analyzed = NewEvent::new(
        SENTIMENT_ANALYZED,
        "post",
        &analysis.post_id,
        &serde_json::json!({
            "post_id": analysis.post_id, "label": sentiment.label, "score": sentiment.score, "confidence": sentiment.confidence,
        }),
    )?;
    Ok(Decision::nothing().effect(analysis).event(analyzed))
}

#[cfg(test)]
mod tests {
    use crate::Sentiment;
    use switchyard_agent::testing::given;
    use switchyard_event::Event;
    use switchyard_feedback::{Label, SENTIMENT_ANALYZED};

    fn created() -> Event {
        Event::parse(include_str!("../events/slow-checkout.json")).unwrap()
    }

    fn with_payload(payload: &str) -> Event {
        let event = created();
        let aggregate = (event.aggregate_type.clone(), event.aggregate_id.clone());
        Event::from_parts(event.id, event.event_type, aggregate, payload.into(), 1, event.metadata).unwrap()
    }

    #[test]
    fn a_complaint_is_written_down_as_negative_and_said() {
        let decision = given::<Sentiment>(&created(), ()).decide();
        let [analysis] = decision.effects.as_slice() else { panic!("one row for one post") };
        assert_eq!(analysis.sentiment.label, Label::Negative);
        let [said] = decision.events.as_slice() else { panic!("one event for one post") };
        assert_eq!((&said.event_type, said.payload["label"].as_str()), (&SENTIMENT_ANALYZED, Some("negative")));
    }

    #[test]
    fn a_post_without_words_is_rejected() {
        for payload in [r#"{"title":" ","description":null}"#, r#"{"title":"","description":""}"#, "{}"] {
            given::<Sentiment>(&with_payload(payload), ()).then_rejected("no_text");
        }
    }

    #[test]
    fn a_payload_that_is_no_post_is_rejected() {
        given::<Sentiment>(&with_payload(r#"{"title":7}"#), ()).then_rejected("malformed");
    }
}
