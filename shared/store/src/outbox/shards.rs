//! Shards of aggregates, by which several shims share the work.

use sha2::{Digest, Sha256};

/// How many shards there are. It is a constant: if it changed while shims run, two of them could publish one aggregate at once.
pub const SHARDS: u8 = 16;

/// A set of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shards(u16);

impl Shards {
    /// Every shard.
    pub const ALL: Self = Self(u16::MAX);
    /// No shard.
    pub const NONE: Self = Self(0);

    /// Returns the shard of an aggregate, by its id alone. It never changes, and the database computes the same (`switchyard.shard_of`). SHA-256 is
    /// the one stable hash that both have without an extension.
    #[must_use]
    pub fn of(aggregate_id: &str) -> Self {
        Self(1 << (Sha256::digest(aggregate_id.as_bytes())[0] % SHARDS))
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These without `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The `at_most` highest of these, or all of them if there are fewer.
    #[must_use]
    pub fn highest(self, at_most: usize) -> Self {
        (0..SHARDS).rev().filter(|shard| self.0 & (1 << shard) != 0).take(at_most).collect()
    }

    /// How many these are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether this is no shard at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As the database takes them.
    pub(crate) fn numbers(self) -> Vec<i32> {
        (0..SHARDS).filter(|shard| self.0 & (1 << shard) != 0).map(i32::from).collect()
    }
}

impl FromIterator<u8> for Shards {
    /// Leaves out numbers that are no shard.
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        Self(numbers.into_iter().filter(|shard| *shard < SHARDS).fold(0, |set, shard| set | (1 << shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_an_aggregate_never_changes() {
        // SHA-256 of the empty text begins with e3, of "abc" with ba (FIPS 180-4).
        assert_eq!((Shards::of(""), Shards::of("abc")), ([0x3].into_iter().collect(), [0xa].into_iter().collect()));
    }

    #[test]
    fn a_set_is_what_was_put_into_it() {
        let set: Shards = [3, 1, 15, 3, 99].into_iter().collect();
        assert_eq!((set.numbers(), set.len()), (vec![1, 3, 15], 3));
        assert_eq!(set.highest(2).numbers(), [3, 15]);
        assert_eq!(set.without(set.highest(2)).numbers(), [1]);
        assert!(Shards::ALL.contain(set) && !set.contain(Shards::ALL) && set.contain(Shards::NONE));
        assert!(Shards::NONE.is_empty() && Shards::ALL.len() == usize::from(SHARDS));
    }
}
