//! The name of a kind of event.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// The name of a kind of event, such as `feedback.created`.
///
/// The constants are the types known at the start; any other name is as good: a type that this code does not know flows from the table
/// to the topic like every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventType(Cow<'static, str>);

impl EventType {
    /// A type by its name, usable in constants: `const SUBSCRIBES: &[EventType] = &[EventType::named("model.evaluated")]`.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for EventType {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $wire:literal;)*) => {
        impl EventType {
            $($(#[$doc])* pub const $name: Self = Self::named($wire);)*

            /// Every type known at the start, in the order of the design.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

known! {
    /// Somebody gave feedback.
    FEEDBACK_CREATED = "feedback.created";
    /// The words of a piece of feedback changed.
    FEEDBACK_UPDATED = "feedback.updated";
    /// Somebody voted for a piece of feedback.
    FEEDBACK_VOTED = "feedback.voted";
    /// Somebody commented on a piece of feedback.
    FEEDBACK_COMMENTED = "feedback.commented";
    /// The sentiment of a piece of feedback is known.
    SENTIMENT_ANALYZED = "sentiment.analyzed";
    /// A theme appeared.
    THEME_DETECTED = "theme.detected";
    /// A theme gained or lost members.
    THEME_UPDATED = "theme.updated";
    /// A theme has grown large enough to act on; once per theme.
    THEME_THRESHOLD_REACHED = "theme.threshold_reached";
    /// A piece of feedback says what another one has said already.
    DUPLICATE_FOUND = "duplicate.found";
    /// The priority of a piece of feedback is known.
    PRIORITY_CALCULATED = "priority.calculated";
    /// A specification was drafted from a theme.
    SPEC_AUTO_DRAFTED = "spec.auto_drafted";
    /// A specification was checked for quality.
    SPEC_QUALITY_CHECKED = "spec.quality_checked";
    /// A person approved a specification.
    SPEC_APPROVED = "spec.approved";
    /// A specification was linked to the feedback it answers.
    SPEC_LINKED = "spec.linked";
    /// What a specification asked for is done.
    SPEC_COMPLETED = "spec.completed";
    /// Feedback names a competitor.
    COMPETITOR_MENTIONED = "competitor.mentioned";
    /// A competitor has a feature that was not known.
    COMPETITOR_FEATURE_DETECTED = "competitor.feature_detected";
    /// Mentions of a competitor add up to a threat.
    COMPETITIVE_THREAT_IDENTIFIED = "competitive.threat_identified";
    /// A user is engaged.
    USER_ENGAGED = "user.engaged";
    /// A user may be about to leave.
    USER_AT_RISK = "user.at_risk";
    /// The roadmap changed.
    ROADMAP_UPDATED = "roadmap.updated";
    /// Something on the roadmap has not moved for too long.
    ROADMAP_STALLED = "roadmap.stalled";
    /// Somebody was told.
    NOTIFICATION_SENT = "notification.sent";
    /// Time passed; the steward says so, agents never look at a clock.
    CLOCK_TICKED = "clock.ticked";
}
