#![doc = include_str!("../README.md")]

mod agent_queues;
pub mod aws;
mod directory;
mod error;
mod functions;
mod keys;
mod kind;
mod mappings;
mod message;
mod moves;
mod queue;
mod queues;
mod secrets;
mod topic;

pub use agent_queues::{AgentQueues, Destination};
pub use directory::{AgentPlaces, Directory, Express, LambdaDirectory, MemoryDirectory, Places};
pub use error::BusError;
pub use functions::{Functions, LambdaFunctions, MemoryFunctions};
pub use keys::Keys;
pub use kind::Kind;
pub use mappings::{LambdaMappings, MappingState, Mappings, MemoryMappings};
pub use message::{BATCH_ENTRIES, MAX_ATTRIBUTES, Message, QUEUE_BYTES, TOPIC_BYTES, pack};
pub use moves::{MOVES_PER_SECOND, MemoryMoves, Move, MoveStatus, Moves, SqsMoves};
pub use queue::{Depth, MemoryQueue, Queue, Received, SqsQueue};
pub use queues::{DeadLetter, MemoryQueues, Queues, SqsQueues, Visibility};
pub use secrets::{SecretText, Secrets};
pub use topic::{MemoryTopic, Published, Refused, SnsTopic, Topic};
