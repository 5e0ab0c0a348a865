//! steward

fn main() {}
