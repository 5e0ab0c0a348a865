//! An event source mapping: from a queue to a function, with as many batches at the same time as it has pollers.

use super::{Ended, Function, verdict};
use crate::broker::{Broker, Received};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinHandle;

/// How many messages a batch has at most.
const BATCH: usize = 10;

/// A mapping. It ends when it is dropped.
pub struct Mapping {
    work: Work,
    pollers: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Work {
    broker: Broker,
    queue: String,
    function: Function,
    delivered: Arc<AtomicU64>,
}

impl Mapping {
    /// Starts feeding a function, `pollers` batches at the same time.
    #[must_use]
    pub fn start(broker: Broker, queue: String, function: Function, pollers: usize) -> Self {
        let work = Work { broker, queue, function, delivered: Arc::default() };
        let pollers = (0..pollers).map(|_| tokio::spawn(poll(work.clone()))).collect();
        Self { work, pollers: Mutex::new(pollers) }
    }

    /// How many messages were given to the function, copies included.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.work.delivered.load(Ordering::Relaxed)
    }

    /// Kills a poller in the middle of whatever it does, and starts another. The function finishes what it was given; its answer is lost.
    pub fn kill_poller(&self, pick: impl FnOnce(usize) -> usize) {
        let mut pollers = self.pollers.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pick(pollers.len());
        if let Some(poller) = pollers.get_mut(at) {
            poller.abort();
            *poller = tokio::spawn(poll(self.work.clone()));
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        for poller in self.pollers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            poller.abort();
        }
    }
}

async fn poll(work: Work) {
    loop {
        let batch = work.broker.receive(&work.queue, BATCH).await;
        if batch.is_empty() {
            continue;
        }
        work.delivered.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // By itself, so that the function goes on when this poller is killed.
        let function = work.function.clone();
        let payload = payload(&batch);
        let invoked = tokio::spawn(async move { function.invoke(payload).await });
        if let Ok(Ok(Ended::Answered(answer))) = invoked.await {
            let ids: Vec<&str> = batch.iter().map(|received| received.sent.id.as_str()).collect();
            let done = batch.iter().zip(verdict::acknowledged(&answer, &ids)).filter(|(_, done)| *done);
            let handles: Vec<String> = done.map(|(received, _)| received.receipt_handle.clone()).collect();
            work.broker.delete(&work.queue, &handles);
        }
    }
}

/// A batch as Lambda gives it to a function.
fn payload(batch: &[Received]) -> Bytes {
    let records = batch.iter().map(|received| {
        let sent = &received.sent;
        let attributes = sent.attributes.iter().map(|(name, (kind, value))| {
            (name.clone(), json!({ "stringValue": value, "dataType": kind, "stringListValues": [], "binaryListValues": [] }))
        });
        json!({
            "messageId": sent.id, "receiptHandle": received.receipt_handle, "body": &*sent.body, "md5OfBody": "",
            "attributes": {
                "ApproximateReceiveCount": received.receives.to_string(), "SentTimestamp": sent.sent_ms.to_string(),
                "ApproximateFirstReceiveTimestamp": sent.sent_ms.to_string(), "SenderId": "stand-in" },
            "messageAttributes": attributes.collect::<Map<String, Value>>(),
            "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:queue", "awsRegion": "us-east-1" })
    });
    Bytes::from(json!({ "Records": records.collect::<Vec<_>>() }).to_string())
}
