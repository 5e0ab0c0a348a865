//! The runner against real programs, as far as it needs no LocalStack.

#![allow(clippy::unwrap_used)] // a helper of a test may fail like the test

mod command_line;
mod postgres;
