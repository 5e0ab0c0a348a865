#![doc = include_str!("../README.md")]

mod eventually;
mod lab;
mod world;

pub use eventually::eventually;
pub use lab::Lab;
pub use world::World;
