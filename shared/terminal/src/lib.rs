#![doc = include_str!("../README.md")]

pub mod style;
pub mod when;
