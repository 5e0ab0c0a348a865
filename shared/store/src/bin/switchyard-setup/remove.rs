//! Everything of Switchyard's, out of the database again.

use std::time::Duration;

use crate::{held_up, said, telling};
use switchyard_store::{DatabaseUrl, Installed, Progress};

pub(crate) async fn run(url: &DatabaseUrl, yes: bool, lock_timeout: Duration) -> Result<(), String> {
    let Some(found) = switchyard_store::installed(url).await.map_err(said)? else {
        println!("there is nothing of Switchyard's in this database");
        return Ok(());
    };
    println!("{}", plan(&found));
    if !yes {
        return Err("nothing was removed: stop the stack and say --remove --yes".to_owned());
    }
    let tell = |progress: Progress<'_>| match progress {
        Progress::Done(what) => println!("removed {what}"),
        busy @ Progress::Busy { .. } => held_up(busy),
    };
    switchyard_store::remove(url, &telling(lock_timeout, &tell)).await.map_err(said)?;
    println!("the application's tables are as they were, with all of their events");
    Ok(())
}

fn plan(found: &Installed) -> String {
    let Installed { on_the_applications_tables, agents, logged, unpublished, unfinished, in_the_way } = found;
    let mut lines: Vec<String> = on_the_applications_tables.iter().map(|what| format!("goes: {what}")).collect();
    lines.push(format!(
        "goes: schema switchyard, and with it the ledger of {agents} agents and {logged} events, for good: \
         {unpublished} events are not published, and {unfinished} deliveries are unfinished or parked"
    ));
    lines.extend(in_the_way.iter().map(|what| format!("in the way, and the application's own: {what}")));
    lines.push("stays: the application's tables, rows and columns".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_what_is_lost_and_what_stays_is_said_before() {
        let found = Installed {
            on_the_applications_tables: vec!["trigger switchyard_log on public.events".into()],
            agents: 3,
            logged: 1_000,
            unpublished: 2,
            unfinished: 5,
            in_the_way: vec!["view public.backlog".into()],
        };
        let plan = plan(&found);
        for words in [
            "goes: trigger switchyard_log on public.events",
            "the ledger of 3 agents and 1000 events",
            "2 events are not published",
            "5 deliveries",
            "in the way, and the application's own: view public.backlog",
            "stays: the application's tables",
        ] {
            assert!(plan.contains(words), "{words}: {plan}");
        }
    }
}
