//! The old system: a process of its own, which knows the table and four functions of ours, and is late.

use crate::clock::{CRON, LATE};
use clap::ValueEnum;
use std::{
    collections::HashSet,
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};
use switchyard_store::{DatabaseUrl, Store, StoreError, Tx, Type};
use uuid::Uuid;

/// A mistake that a team might make when an old system learns to claim. The judge must find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Bug {
    /// Works whatever the answer is.
    IgnoresTheAnswer,
    /// Claims in one transaction and works in another, which a kill may come between.
    ClaimsBeforehand,
    /// Never looks into its list.
    ForgetsItsList,
    /// Does its work first, and claims afterwards in a transaction of its own.
    ClaimsAfterwards,
}

/// How many transactions it has under way at most.
const CONNECTIONS: usize = 6;
/// How far back it looks for events that it has not seen: further than any transaction of the writer lasts.
const LOOKS_BACK: &str = "5 seconds";

/// How it behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database's address.
    pub url: String,
    /// The agent that replaces it.
    pub agent: String,
    /// What its choices are drawn from.
    pub seed: u64,
    /// Whether it fails now and then.
    pub fails: bool,
    /// A mistake.
    pub bug: Option<Bug>,
}

struct OldSystem {
    settings: Settings,
    store: Store,
    chance: Mutex<fastrand::Rng>,
}

/// Works until it is killed, or until who started it is gone: its standard input ends then.
///
/// # Errors
/// [`StoreError`] where the address is none.
pub async fn run(settings: Settings) -> Result<(), StoreError> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let url: DatabaseUrl = settings.url.parse()?;
    let chance = Mutex::new(fastrand::Rng::with_seed(settings.seed));
    let system = Arc::new(OldSystem { store: Store::open(&url, CONNECTIONS)?, settings, chance });
    tokio::join!(route(&system), cron(&system));
    Ok(())
}

/// As a route would: sees an event, thinks about it for up to ten minutes, and does its part. Of what it has seen it remembers nothing beyond
/// its own life.
async fn route(system: &Arc<OldSystem>) {
    let mut seen = HashSet::new();
    let sql =
        format!("select id from public.events where created_at > now() - interval '{LOOKS_BACK}' order by created_at");
    loop {
        for row in system.store.query(&sql, &[]).await.unwrap_or_default() {
            let event: Uuid = row.get(0);
            if seen.insert(event) {
                let (system, late) = (Arc::clone(system), system.draw(|chance| LATE.mul_f64(chance.f64())));
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    system.attend(event, "route").await;
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As a cron job would: works off its list.
async fn cron(system: &Arc<OldSystem>) {
    loop {
        tokio::time::sleep(CRON).await;
        if system.settings.bug == Some(Bug::ForgetsItsList) {
            continue;
        }
        let agent = &system.settings.agent;
        let list = system.store.query("select * from switchyard.todo_old($1, 50)", &[(agent, Type::TEXT)]).await;
        for row in list.unwrap_or_default() {
            system.attend(row.get(0), "list").await;
        }
    }
}

/// What became of an event in a transaction.
enum Outcome {
    /// Committed, after this answer.
    Answered(String),
    /// The work failed, and its transaction was rolled back.
    Failed,
}

impl OldSystem {
    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn attend(&self, event: Uuid, how: &str) {
        let agent = &self.settings.agent;
        let told = match self.work(event).await {
            Ok(Outcome::Answered(answer)) => format!("{how}: {answer}"),
            Ok(Outcome::Failed) => {
                let sql = "select switchyard.fail($1, $2, 'it went wrong')";
                match self.store.query(sql, &[(agent, Type::TEXT), (&event, Type::UUID)]).await {
                    Ok(_) => format!("{how}: failed"),
                    Err(_) => format!("{how}: failed, and could not say so"),
                }
            }
            Err(error) if error.is_conflict() => format!("{how}: in each other's way"),
            Err(_) => format!("{how}: an error"),
        };
        let _ = self.store.query("insert into public.told values ($1, 1)", &[(&told, Type::TEXT)]).await;
    }

    /// The claim and the work, in one transaction.
    async fn work(&self, event: Uuid) -> Result<Outcome, StoreError> {
        let (takes, fate) = self.draw(|chance| {
            // Some of it waits with its transaction open, for as long as it may be late.
            let slow = self.settings.fails && chance.u8(..100) < 2;
            let takes = if slow { LATE.mul_f64(chance.f64()) } else { Duration::from_millis(chance.u64(..30)) };
            (takes, chance.u8(..100))
        });
        let bug = self.settings.bug;
        if bug == Some(Bug::ClaimsAfterwards) {
            let mut tx = self.store.begin().await?;
            effect(&mut tx, event).await?;
            tx.commit().await?;
        }
        let mut tx = self.store.begin().await?;
        let claim = "select switchyard.claim($1, $2)";
        // The claim's transaction must be there before it.
        tx.execute("select 1", &[]).await?;
        let rows = tx.query(claim, &[(&self.settings.agent, Type::TEXT), (&event, Type::UUID)]).await?;
        let answer: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        if answer == "take" || bug == Some(Bug::IgnoresTheAnswer) {
            if bug == Some(Bug::ClaimsBeforehand) {
                tx.commit().await?;
                tx = self.store.begin().await?;
            }
            tokio::time::sleep(takes).await;
            if bug != Some(Bug::ClaimsAfterwards) {
                effect(&mut tx, event).await?;
            }
            if self.settings.fails && fate < 4 {
                tx.rollback().await?;
                return Ok(Outcome::Failed);
            }
        }
        tx.commit().await?;
        Ok(Outcome::Answered(answer))
    }
}

async fn effect(tx: &mut Tx, event: Uuid) -> Result<(), StoreError> {
    tx.execute("insert into public.effect (event_id, by) values ($1, 'old')", &[(&event, Type::UUID)]).await?;
    Ok(())
}
