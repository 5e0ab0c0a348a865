//! One suite for every implementation of the bus: what its traits promise, the ones in memory and AWS's own keep.

mod in_memory;
mod on_localstack;
