//! Moving what lies in a dead-letter queue somewhere else, at a rate: `StartMessageMoveTask` and what belongs to it.

use super::{
    Shared, State, name_of,
    queue::Queue,
    queue_arn,
    sqs::{NOT_FOUND, UNSUPPORTED, text},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A task that moves messages.
pub(super) struct Move {
    handle: String,
    from: String,
    to: String,
    per_second: u64,
    moved: usize,
    to_move: usize,
    started_ms: u64,
    status: &'static str,
}

/// How many a second by default (the most that AWS takes).
const RATE: u64 = 500;

/// Starts a task; it goes on by itself.
pub(super) fn start(shared: &Arc<Shared>, call: &Value) -> Result<Value, (&'static str, &'static str)> {
    let from = name_of(text(call, "SourceArn")).to_owned();
    let to = name_of(text(call, "DestinationArn")).to_owned();
    let mut state = shared.lock();
    // Without a destination each message goes back where it came from, which only those know that a redrive policy brought there.
    if to.is_empty() || state.moves.iter().any(|one| one.from == from && one.status == "RUNNING") {
        return Err(UNSUPPORTED);
    }
    let is_dead_letter_queue = |queue: &Queue| queue.redrive.as_ref().is_some_and(|(target, _)| *target == from);
    if !state.queues.values().any(is_dead_letter_queue) {
        return Err(UNSUPPORTED);
    }
    if !state.queues.contains_key(&to) {
        return Err(NOT_FOUND);
    }
    let to_move = state.queues.get_mut(&from).ok_or(NOT_FOUND)?.depth(Instant::now()).visible;
    let handle = format!("move-{}", state.moves.len());
    let started_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    state.moves.push(Move {
        handle: handle.clone(),
        from,
        to,
        per_second: call["MaxNumberOfMessagesPerSecond"].as_u64().unwrap_or(RATE).max(1),
        moved: 0,
        to_move,
        started_ms: u64::try_from(started_ms).unwrap_or_default(),
        status: "RUNNING",
    });
    let at = state.moves.len() - 1;
    drop(state);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Some(pause) = step(&shared, at) {
            tokio::time::sleep(shared.paced(pause)).await;
        }
    });
    Ok(json!({ "TaskHandle": handle }))
}

/// Moves one message and says how long to wait for the next; `None` when there is no next.
fn step(shared: &Shared, at: usize) -> Option<Duration> {
    let mut state = shared.lock();
    let State { moves, queues, .. } = &mut *state;
    let task = moves.get_mut(at).filter(|task| task.status == "RUNNING")?;
    let received = queues.get_mut(&task.from)?.receive(1, Duration::from_secs(30), Instant::now()).0.pop();
    let Some(received) = received else {
        task.status = "COMPLETED";
        return None;
    };
    queues.get_mut(&task.from)?.delete(&received.receipt_handle);
    // A new id, as AWS gives it: nobody may go by it.
    let sent = shared.sent(received.sent.body, received.sent.attributes);
    queues.get_mut(&task.to)?.send(sent, Duration::ZERO, false, Instant::now());
    task.moved += 1;
    let pause = Duration::from_secs_f64(1.0 / task.per_second as f64);
    drop(state);
    shared.arrived.notify_waiters();
    Some(pause)
}

pub(super) fn list(state: &State, call: &Value) -> Result<Value, (&'static str, &'static str)> {
    let from = name_of(text(call, "SourceArn"));
    if !state.queues.contains_key(from) {
        return Err(NOT_FOUND);
    }
    let most = call["MaxResults"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(1);
    let results = state.moves.iter().rev().filter(|one| one.from == from).take(most).map(|one| {
        let mut result = json!({
            "Status": one.status, "SourceArn": queue_arn(&one.from), "DestinationArn": queue_arn(&one.to),
            "MaxNumberOfMessagesPerSecond": one.per_second, "ApproximateNumberOfMessagesMoved": one.moved,
            "ApproximateNumberOfMessagesToMove": one.to_move, "StartedTimestamp": one.started_ms });
        if one.status == "RUNNING" {
            result["TaskHandle"] = one.handle.clone().into();
        }
        result
    });
    Ok(json!({ "Results": results.collect::<Vec<_>>() }))
}

pub(super) fn cancel(state: &mut State, call: &Value) -> Result<Value, (&'static str, &'static str)> {
    let handle = text(call, "TaskHandle");
    let task = state.moves.iter_mut().find(|one| one.handle == handle && one.status == "RUNNING").ok_or(NOT_FOUND)?;
    task.status = "CANCELLED";
    Ok(json!({ "ApproximateNumberOfMessagesMoved": task.moved }))
}
