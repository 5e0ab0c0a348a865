//! The old system, while a cutover is under way: it claims every event in its own transaction, and works on what is its own.

use crate::{agents::WRITTEN, server::connect};
use std::{collections::HashSet, time::Duration};
use tokio_postgres::{Client, Error};
use uuid::Uuid;

/// Works for `agent` until it is dropped: whatever stands in the table is asked for once it is seen, and again after a lost connection.
pub(crate) async fn work(url: String, agent: &'static str) {
    let mut asked = HashSet::new();
    loop {
        if let Ok(mut client) = connect(&url).await {
            while pass(&mut client, agent, &mut asked).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn pass(client: &mut Client, agent: &str, asked: &mut HashSet<Uuid>) -> Result<(), Error> {
    let rows = client.query("select id from public.events where type = $1", &[&WRITTEN]).await?;
    for id in rows.iter().map(|row| row.get::<_, Uuid>(0)).filter(|id| !asked.contains(id)).collect::<Vec<_>>() {
        let work = client.transaction().await?;
        let answer: String = work.query_one("select switchyard.claim($1, $2)", &[&agent, &id]).await?.get(0);
        if answer == "take" {
            work.execute("insert into public.applied (agent, event_id, by) values ($1, $2, 'old')", &[&agent, &id])
                .await?;
        }
        work.commit().await?;
        asked.insert(id);
    }
    Ok(())
}
