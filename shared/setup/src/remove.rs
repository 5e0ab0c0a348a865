//! Removes Switchyard from the database.

use std::time::Duration;

use crate::{message, report, wait_policy};
use switchyard_store::{DatabaseUrl, Installed, Progress};

pub(crate) async fn run(url: &DatabaseUrl, yes: bool, lock_timeout: Duration) -> Result<(), String> {
    let Some(found) = switchyard_store::installed(url).await.map_err(message)? else {
        println!("Switchyard is not installed in this database");
        return Ok(());
    };
    println!("{}", plan(&found));
    if !yes {
        return Err("nothing was removed; to remove it, stop the stack and add --yes".to_owned());
    }
    let tell = |progress: Progress<'_>| report("removed", progress);
    switchyard_store::remove(url, &wait_policy(lock_timeout, &tell)).await.map_err(message)?;
    println!("the application's tables and their events are unchanged");
    Ok(())
}

fn plan(found: &Installed) -> String {
    let Installed { on_the_applications_tables, agents, logged, unpublished, unfinished, in_the_way } = found;
    let mut lines: Vec<String> = on_the_applications_tables.iter().map(|what| format!("removes: {what}")).collect();
    lines.push(format!(
        "removes: schema switchyard with the ledger of {agents} agents and {logged} events, for good \
         ({unpublished} events unpublished, {unfinished} deliveries unfinished or parked)"
    ));
    lines.extend(in_the_way.iter().map(|what| format!("blocks the removal, drop it first: {what}")));
    lines.push("keeps: the application's tables, rows and columns".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_what_is_removed_what_is_lost_what_blocks_and_what_is_kept() {
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
            "removes: trigger switchyard_log on public.events",
            "the ledger of 3 agents and 1000 events",
            "2 events unpublished",
            "5 deliveries",
            "blocks the removal, drop it first: view public.backlog",
            "keeps: the application's tables",
        ] {
            assert!(plan.contains(words), "{words}: {plan}");
        }
    }
}
