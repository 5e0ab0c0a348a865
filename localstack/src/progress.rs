//! How a long step reports its progress.

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick<'a> {
    /// Units done so far: packages, crates, resources.
    pub done: u64,
    /// Units in all, as far as is known by now; 0 if unknown.
    pub of: u64,
    /// What is being worked on, in a word or two.
    pub what: &'a str,
}

/// Receives the ticks of one step. A plain callback, so that a test passes [`quiet`] and a terminal passes a bar.
pub type Progress<'a> = &'a mut dyn FnMut(Tick<'_>);

/// For callers who do not want to be told: `Venv::ensure(&places, &mut quiet)`.
pub fn quiet(_: Tick<'_>) {}
