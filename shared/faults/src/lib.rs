#![doc = include_str!("../README.md")]

#[cfg(feature = "faults")]
mod armed;
#[cfg(feature = "faults")]
mod plan;

/// A place where a test may kill, stop or delay this process. Here, without the feature `faults`, it is nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn point(_name: &str) {}

/// Whether a test has switched this mistake on. Here, without the feature `faults`, it never has.
#[cfg(not(feature = "faults"))]
#[inline(always)]
#[must_use]
pub const fn bug(_name: &str) -> bool {
    false
}

#[cfg(feature = "faults")]
pub use armed::{bug, point};

#[cfg(all(test, not(feature = "faults")))]
mod tests {
    #[test]
    fn without_the_feature_a_mistake_is_off_before_the_program_runs() {
        const OFF: bool = super::bug("no_claim");
        const { assert!(!OFF) };
        const { super::point("shim.after_publish") };
    }
}
