//! The types of its events.

use switchyard_event::EventType;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $wire:literal;)*) => {
        $($(#[$doc])* pub const $name: EventType = EventType::named($wire);)*

        /// All of them: each has a frozen body for each of its versions in `fixtures/`.
        pub const TYPES: &[EventType] = &[$($name),*];
    };
}

types! {
    /// A user gave feedback.
    FEEDBACK_CREATED = "feedback.created";
    /// The words of a piece of feedback changed.
    FEEDBACK_UPDATED = "feedback.updated";
    /// A user voted for a piece of feedback.
    FEEDBACK_VOTED = "feedback.voted";
    /// A user commented on a piece of feedback.
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
    /// A notification was sent.
    NOTIFICATION_SENT = "notification.sent";
}
