//! redrive

fn main() {}
