//! A TCP proxy in front of the database that loses connections at the worst moments.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinHandle,
};

/// What happens to what passes. All zero: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Weather {
    /// A connection is reset when a COMMIT has just been passed on: whether it was carried out, its sender never learns.
    pub lost_commit: f64,
    /// A connection is reset at any other chunk.
    pub reset: f64,
    /// A chunk is held back for a moment.
    pub delay: f64,
    /// A connection stays open and carries nothing any more in one direction, for a while; then it is reset.
    pub half_open: f64,
}

impl Weather {
    /// Rough, in every way.
    pub const ROUGH: Self = Self { lost_commit: 0.05, reset: 0.002, delay: 0.01, half_open: 0.0005 };
}

/// The longest that a chunk is held back.
const DELAY: Duration = Duration::from_millis(300);
/// How long a half-open connection stays so.
const HALF_OPEN: Duration = Duration::from_secs(8);

/// A running proxy.
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    weather: Weather,
    random: fastrand::Rng,
    happened: BTreeMap<&'static str, u64>,
}

enum Fate {
    Pass,
    Lost,
    Held(Duration),
    Dead,
}

impl Proxy {
    /// Starts one in front of a port of this machine.
    ///
    /// # Errors
    /// What the system says when it gives no port.
    pub async fn start(target: u16, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state =
            State { weather: Weather::default(), random: fastrand::Rng::with_seed(seed), happened: BTreeMap::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let own = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        connections.spawn(carry(client, SocketAddr::from((Ipv4Addr::LOCALHOST, target)), Arc::clone(&own)));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, shared, task })
    }

    /// What happens from now on.
    pub fn weather(&self, weather: Weather) {
        self.shared.lock().weather = weather;
    }

    /// What has happened so far.
    #[must_use]
    pub fn happened(&self) -> BTreeMap<&'static str, u64> {
        self.shared.lock().happened.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws what becomes of a chunk.
    fn fate(&self, chunk: &[u8], from_client: bool) -> Fate {
        let mut state = self.lock();
        let weather = state.weather;
        if weather == Weather::default() {
            return Fate::Pass;
        }
        let commit = from_client && says_commit(chunk);
        let mut draw = |what: &'static str, odds: f64| {
            let happens = odds > 0.0 && state.random.f64() < odds;
            if happens {
                *state.happened.entry(what).or_default() += 1;
            }
            happens
        };
        let lost = commit && draw("connections lost during a commit", weather.lost_commit);
        if lost || draw("connections reset", weather.reset) {
            Fate::Lost
        } else if draw("connections half open", weather.half_open) {
            Fate::Dead
        } else if draw("chunks delayed", weather.delay) {
            let share = state.random.f64();
            Fate::Held(DELAY.mul_f64(share))
        } else {
            Fate::Pass
        }
    }
}

/// Whether a client's chunk asks for a commit. The wire protocol sends statements as text.
fn says_commit(chunk: &[u8]) -> bool {
    chunk.windows(6).any(|word| word.eq_ignore_ascii_case(b"commit"))
}

async fn carry(client: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever side ends first takes the other one with it: what is dropped is closed.
    tokio::select! {
        () = pass(from_client, to_server, &shared, true) => {}
        () = pass(from_server, to_client, &shared, false) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, from_client: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let chunk = &buffer[..read];
        match shared.fate(chunk, from_client) {
            Fate::Pass => {}
            Fate::Held(delay) => tokio::time::sleep(delay).await,
            Fate::Dead => return tokio::time::sleep(HALF_OPEN).await,
            Fate::Lost => {
                // Passed on all the same: the deed may be done, and only the word of it is lost.
                let _ = to.write_all(chunk).await;
                return;
            }
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo, and a proxy before it.
    async fn proxied() -> Proxy {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = echo.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(port, 7).await.unwrap()
    }

    async fn said_back(proxy: &Proxy, text: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back).await;
        back
    }

    #[tokio::test]
    async fn in_fair_weather_everything_passes() {
        let proxy = proxied().await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await.unwrap();
        stream.write_all(b"Q commit").await.unwrap();
        let mut back = [0; 8];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!((&back, proxy.happened().len()), (b"Q commit", 0));
    }

    #[tokio::test]
    async fn a_commit_is_lost_where_it_should_be_and_nothing_else_is() {
        let proxy = proxied().await;
        proxy.weather(Weather { lost_commit: 1.0, ..Weather::default() });
        assert_eq!(said_back(&proxy, b"Q COMMIT").await, b"");
        assert_eq!(proxy.happened(), BTreeMap::from([("connections lost during a commit", 1)]));
    }
}
