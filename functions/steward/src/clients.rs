//! The steward's clients of AWS.

/// The stack's queues and mappings, real or in memory.
pub struct Clients<D, M, Q> {
    /// Which queues and mappings there are.
    pub directory: D,
    /// What turns mappings on and off.
    pub mappings: M,
    /// A queue by its URL.
    pub queue: Box<dyn Fn(&str) -> Q>,
}
