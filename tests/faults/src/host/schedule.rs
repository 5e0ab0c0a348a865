//! A schedule: starts a function again and again.

use super::Function;
use hyper::body::Bytes;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Invokes a function with this event, and again `pause` after it has ended, however it ended. Ends when the handle is aborted.
#[must_use]
pub fn schedule(function: Function, event: &serde_json::Value, pause: Duration) -> JoinHandle<()> {
    let payload = Bytes::from(event.to_string());
    tokio::spawn(async move {
        loop {
            // A program that cannot be started shows in what is not settled, and is tried again.
            let _ = function.invoke(payload.clone()).await;
            tokio::time::sleep(pause).await;
        }
    })
}
