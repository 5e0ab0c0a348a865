//! Why something was not handled: the words that failures are grouped by, all of them in this one place.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $way_out:literal;)*) => {
        /// Why a record failed, was parked or could not be published. The word stands in `switchyard.failure`, in the ledger and in the attribute `reason`
        /// of a dead letter, and is a promise like any wire name. An agent's own rejections bring words
        /// of their own beside these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the way that an event takes.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What a person can do about it, in one line.
            #[must_use]
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)* }
            }
        }
    };
}

reasons! {
    /// The body, or a payload, is no JSON, lacks a field, or has one of another kind.
    Malformed = "malformed", "fix the publisher, or edit the payload and redrive";
    /// It holds the character NUL, which Postgres cannot store.
    Nul = "nul", "fix the publisher";
    /// It holds half of a surrogate pair, which is no character.
    LoneSurrogate = "lone_surrogate", "fix the publisher";
    /// It is nested deeper than 64 levels.
    TooDeep = "too_deep", "fix the publisher, or edit the payload and redrive";
    /// It has a key twice in one object, and readers disagree on which one counts.
    DuplicateKey = "duplicate_key", "fix the publisher";
    /// A row of the table that no agent could read; it stays in the outbox.
    Unreadable = "unreadable", "fix the row's metadata; its failure says which key";
    /// A row that no topic takes even without its payload; it stays in the outbox.
    TooLarge = "too_large", "make the row's metadata smaller";
    /// Its id is in the table already, with other content.
    IdConflict = "id_conflict", "publish it with an id of its own";
    /// No committed event has its id.
    NotInTable = "not_in_table", "publish through the table or the ingress topic, not to an agent's queue";
    /// What it says is not what was committed: a message that was not made from the table, or an event whose id is in the table with other content.
    Forged = "forged", "find who forged it; where the id of an event that the agent emits was taken, delete that event, then redrive";
    /// Its delivery is no longer remembered, so running it could do things twice.
    TooOld = "too_old", "it cannot be redriven; to repeat its effects, publish it again with a new id";
    /// It says that it belongs to a replay which has not selected it.
    UnknownRun = "unknown_run", "nothing: no replay waits for it";
    /// There are more events between it and the first of its chain than are allowed.
    TooManyHops = "too_many_hops", "break the loop that its chain shows, then redrive: a redriven event is not stopped";
    /// Its chain began longer ago than is allowed.
    ChainTooOld = "chain_too_old", "check its chain, then redrive: a redriven event is not stopped";
    /// Its payload is larger than an agent reads.
    Oversized = "oversized", "edit the payload, or let it name a file instead of containing one, then redrive";
    /// Its payload is of a version that the agent does not know.
    UnknownVersion = "unknown_version", "deploy an agent that knows the version, then redrive";
    /// Its payload could not be brought from an older version to the one that the agent reads.
    UpcastFailed = "upcast_failed", "fix the upcast or edit the payload, then redrive";
    /// Every attempt that it had has failed; the error is the last one's.
    AttemptsUsedUp = "attempts_used_up", "fix what the error names, then redrive";
    /// The process that handled it died, again and again, with nothing else in its hands.
    ProcessDied = "process_died", "give the agent more memory or time, or fix it, then redrive";
    /// It was sent to the agent again and again without any answer.
    Unanswered = "unanswered", "see why the agent's queue or function does not answer, then redrive";
    /// The topic refused it for its own sake, as often as it is tried; its failure has the topic's words.
    Unpublishable = "unpublishable", "fix what the error names, then publish it again";
    /// The events table refused what came through the ingress topic.
    RefusedByTheTable = "refused_by_the_table", "see what the error names, then redrive";
    /// The old system had failed or parked it before it came to the agent, and may have done half of it.
    TouchedByTheOldSystem = "touched_by_the_old_system", "see what the old system has done of it, then redrive or dismiss";
    /// The sweep found it without a delivery, so it has one.
    Missing = "missing", "nothing: the steward sends it";
    /// An operator cancelled it before its time.
    Cancelled = "cancelled", "nothing: no agent gets it";
    /// An operator dismissed it.
    Dismissed = "dismissed", "nothing: it stays as it is";
    /// The application has deleted the event.
    EventDeleted = "event_deleted", "nothing: it stays as it is";
    /// An operator ended the run that it belongs to.
    RunCancelled = "run_cancelled", "start another run";
    /// The agent could not make an event out of what it wanted to say.
    BadEvent = "bad_event", "fix the agent, then redrive";
}

impl Reason {
    /// The reason with this word; `None` for an agent's own.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }

    /// Whether the same event may succeed later with nothing mended: what an automatic redrive may take.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::AttemptsUsedUp | Self::Unanswered | Self::ProcessDied)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_its_own_word() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.as_str()), Some(*reason));
            assert!(reason.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{reason}");
        }
        assert_eq!(Reason::of("no_title"), None, "an agent's own word");
    }

    #[test]
    fn only_reasons_that_may_pass_are_redriven_automatically() {
        let passing: Vec<&str> = Reason::ALL.iter().filter(|reason| reason.may_pass()).map(|r| r.as_str()).collect();
        assert_eq!(passing, ["attempts_used_up", "process_died", "unanswered"]);
    }
}
