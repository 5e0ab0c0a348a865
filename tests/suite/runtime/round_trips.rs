//! What the runtime sends to the database for a batch does not grow with the batch.

use super::world::{PLENTY, RuntimeWorld, again, batch, orders};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use switchyard_bus::MemoryQueues;
use switchyard_runtime::{Budget, Worker};
use switchyard_store::{Mode, Store};
use tokio::time::Instant;

/// A way to the database that counts the statements on it. Its threads end with the connections.
struct Counter {
    url: String,
    statements: Arc<AtomicUsize>,
}

impl Counter {
    fn before(url: &str) -> Self {
        let (front, back) = url.rsplit_once('@').unwrap();
        let (server, rest) = back.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{front}@{}/{rest}", listener.local_addr().unwrap());
        let (server, statements) = (server.to_owned(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&statements);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server, count) =
                    (client.unwrap(), TcpStream::connect(&server).unwrap(), Arc::clone(&count));
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                thread::spawn(move || forward(client, server, &count));
            }
        });
        Self { url, statements }
    }

    fn count(&self) -> usize {
        self.statements.swap(0, Ordering::SeqCst)
    }
}

/// Forwards what a client says, message by message (PostgreSQL documentation, "Message Formats"): a type, but for the first, and a length that
/// counts itself. `Q` is a simple statement, `S` ends an extended one.
fn forward(mut client: TcpStream, mut server: TcpStream, count: &AtomicUsize) {
    let mut kind = None;
    loop {
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
        let mut message: Vec<u8> = kind.into_iter().chain(length).collect();
        let start = message.len();
        message.resize(start + u32::from_be_bytes(length) as usize - 4, 0);
        client.read_exact(&mut message[start..]).unwrap();
        if matches!(kind, Some(b'Q' | b'S')) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        server.write_all(&message).unwrap();
        let mut next = [0];
        if client.read_exact(&mut next).is_err() {
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
        kind = Some(next[0]);
    }
}

/// How many statements a batch of so many events takes that all are told to do this.
async fn statements(order: (&'static str, &'static str), records: usize) -> usize {
    let world = RuntimeWorld::new(Mode::Full).await;
    let orders: Vec<_> = std::iter::repeat_n(order, records).flat_map(|order| orders([order])).collect();
    let bodies = world.give(&orders).await;
    let counter = Counter::before(&world.database.url());
    let store = Store::open(&counter.url.parse().unwrap(), 2).unwrap();
    let queues = MemoryQueues::default();
    let worker = Worker::new(&world.agent, &store, &queues, Budget::DEFAULT);
    again(worker.handle(batch(&bodies[..0], 1), Instant::now() + PLENTY).await);
    counter.count();

    again(worker.handle(batch(&bodies, 1), Instant::now() + PLENTY).await);

    counter.count()
}

#[tokio::test]
async fn ten_records_take_as_many_statements_as_one() {
    // The agent's own statements are its own: this one has one for each event that it applies.
    let own = |order: (&str, &str), records| if order.0 == "apply" { records } else { 0 };
    for (order, expected) in [
        (("apply", "work"), 4),            // look, begin, claim, commit
        (("apply", "overwrite"), 5),       // and one for what is too late
        (("gather", "retry"), 2),          // look, fail
        (("gather", "reject"), 2),         // look, park
        (("gather", "be out of luck"), 2), // look, returned
    ] {
        let one = statements(order, 1).await - own(order, 1);
        let ten = statements(order, 10).await - own(order, 10);
        assert_eq!((one, ten), (expected, expected), "{order:?}");
    }
}
