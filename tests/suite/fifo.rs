//! The topology `fifo`: what belongs to one aggregate is handled in its order, one after the other.

mod deployed;
mod runtime;
