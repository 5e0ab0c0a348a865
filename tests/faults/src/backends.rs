//! Ends connections from the database's side, at the worst moment: during a COMMIT, or when one is about to be sent.

use crate::server::connect;
use std::{collections::BTreeMap, time::Duration};

/// Looks again and again from inside of the server: a COMMIT is over within a millisecond or so. What stands in a transaction with nothing to do
/// is an agent at a point where it was told to wait (`runtime.before_commit=delay=...`); whoever thinks for less than that is left alone.
const END: &str = "
    create function pg_temp.end_backends(database text, most int, millis int) returns text[] language plpgsql as $$
    declare
      ended text[] := '{}';
      until timestamptz := clock_timestamp() + millis * interval '1 millisecond';
      one record;
    begin
      loop
        perform pg_stat_clear_snapshot();
        for one in
          select pid, state from pg_stat_activity
           where datname = database and pid <> pg_backend_pid() and backend_type = 'client backend'
             and ((state = 'active' and query ~* '^ *commit')
               or (state = 'idle in transaction' and application_name = 'switchyard'
                   and state_change < clock_timestamp() - interval '100 milliseconds'))
        loop
          -- So many of each kind: commits are plenty, and those who wait before one are few.
          continue when cardinality(array_positions(ended, one.state)) >= most;
          if pg_terminate_backend(one.pid) then ended := ended || one.state; end if;
        end loop;
        exit when cardinality(ended) >= 2 * most or clock_timestamp() > until;
        perform pg_sleep(0.0002);
      end loop;
      return ended;
    end $$";

/// Ends up to `most` backends of each kind of a database, whatever shows within `patience`, and says how many there were of each kind. `server` is the address
/// of another database of the same server. A server that goes away meanwhile has ended all of them.
pub(crate) async fn end(server: &str, database: &str, most: u8, patience: Duration) -> BTreeMap<String, u64> {
    let mut ended = BTreeMap::new();
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let Ok(admin) = connect(server).await else { return ended };
    if admin.batch_execute(END).await.is_err() {
        return ended;
    }
    let row = admin.query_one("select pg_temp.end_backends($1, $2, $3)", &[&database, &i32::from(most), &millis]).await;
    for state in row.map(|row| row.get::<_, Vec<String>>(0)).unwrap_or_default() {
        let kind = if state == "active" { "backends ended during a commit" } else { "backends ended before a commit" };
        *ended.entry(kind.to_owned()).or_default() += 1;
    }
    ended
}
