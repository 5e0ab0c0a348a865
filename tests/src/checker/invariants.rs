//! What must hold once a world is at rest.

use std::collections::BTreeMap;

use tokio_postgres::Client;

/// An invariant: a name, and a query that counts what breaks it.
struct Invariant {
    name: &'static str,
    /// Counts what breaks it. `last` is the newest state of every delivery that ever had a row, `listens` every (agent, event)
    /// that an agent subscribes to.
    broken: &'static str,
}

/// Common to all: every delivery's last state, also of those whose partition was dropped.
const VIEWS: &str = "with floor as (select seq from switchyard.floor),
  last as (select distinct on (agent, run, seq) h.agent, h.run, h.seq, h.state, h.owner, h.epoch, h.attempts, a.name, e.event_id, e.type
             from checker.history h join switchyard.agent a on a.id = h.agent join switchyard.event_log e using (seq)
            order by agent, run, seq, h.id desc),
  listens as (select s.agent, a.name, e.seq, e.event_id, e.type from switchyard.subscription s join switchyard.agent a on a.id = s.agent
                join switchyard.event_log e on e.type = s.type and e.seq >= s.from_seq and (s.until_seq is null or e.seq <= s.until_seq)),
  effects as (select agent as name, event_id, run, count(*) as n, min(who) as who, count(distinct who) as sides from checker.effect group by 1, 2, 3)
";

const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "every event has one log row",
        broken: "select count(*) from events e full join switchyard.event_log l on l.event_id = e.id where e.id is null or l.seq is null",
    },
    Invariant {
        name: "every subscribed event has a delivery",
        broken: "select count(*) from listens i left join last d on d.agent = i.agent and d.run = 0 and d.seq = i.seq where d.seq is null",
    },
    Invariant {
        name: "a sweep writes rows of subscribed events only",
        broken: "select count(*) from checker.history h where h.writer = 'sweep' and h.was_state is null
                   and not exists (select 1 from listens i where i.agent = h.agent and i.seq = h.seq)",
    },
    Invariant {
        name: "done has exactly one effect, anything else none, and it is its owner's",
        broken: "select count(*) from last d left join effects f on f.name = d.name and f.event_id = d.event_id and f.run = d.run
                  where coalesce(f.n, 0) <> (d.state = 'd')::int or (f.n > 0 and (f.sides > 1 or f.who <> d.owner))",
    },
    Invariant {
        name: "no effect without a delivery",
        broken: "select count(*) from effects f left join last d on d.name = f.name and d.event_id = f.event_id and d.run = f.run where d.seq is null",
    },
    Invariant {
        name: "the rows are what was last written, and only dropped ones are gone",
        broken: "select count(*) from last l full join switchyard.delivery d using (agent, run, seq)
                  where (l.state is null) or (d.state is null and seq >= (select f.seq from floor f))
                     or (d.state is not null and (l.state, l.owner, l.epoch, l.attempts) is distinct from (d.state, d.owner, d.epoch, d.attempts::int))",
    },
    Invariant {
        name: "nothing unfinished was dropped",
        broken: "select count(*) from last where seq < (select f.seq from floor f) and state not in ('d', 's', 'e')",
    },
    Invariant {
        name: "the counts of what was dropped are kept",
        broken: "select count(*) from (select agent, run, state, owner, count(*) as n from last where seq < (select f.seq from floor f) group by 1, 2, 3, 4) l
                   full join (select agent, run, state, owner, sum(n) as n from switchyard.retired group by 1, 2, 3, 4) r using (agent, run, state, owner)
                  where l.n is distinct from r.n",
    },
    Invariant {
        name: "every transition is one of the contract's, by its writer",
        broken: "select count(*) from checker.history h where not coalesce(case h.writer
                   when 'first_ask' then h.was_state is null and h.run = 0 and h.state in ('a', 'd') and h.epoch = 0 and h.attempts = 0
                   when 'sweep' then h.was_state is null and h.run = 0 and h.state = 'a' and h.epoch = 0 and h.attempts = 0
                   when 'claim_batch' then h.was_state in ('a', 'f') and h.state = 'd' and (h.owner, h.epoch, h.attempts) = (h.was_owner, h.was_epoch, h.was_attempts)
                   when 'settle' then h.was_state = 'd' and h.state in ('s', 'e', 'p') and (h.owner, h.epoch, h.attempts) = (h.was_owner, h.was_epoch, h.was_attempts)
                   when '_report' then h.was_state in ('a', 'f') and h.owner = h.was_owner and h.epoch = h.was_epoch
                                   and (h.state = 'f' and h.attempts = h.was_attempts + 1 or h.state = 'p' and h.attempts = greatest(h.was_attempts, 1))
                   when 'due' then h.was_state in ('a', 'f') and h.state = h.was_state and h.owner = 'n' and (h.owner, h.epoch, h.attempts) = (h.was_owner, h.was_epoch, h.was_attempts)
                                and h.sends = h.was_sends + 1
                   when 'reassign' then h.run = 0 and h.was_state in ('a', 'f', 'p') and h.owner <> h.was_owner and h.epoch = h.was_epoch + 1
                                    and case h.owner when 'o' then h.state = 'a' and h.attempts = 0 else h.state = h.was_state and h.attempts = h.was_attempts end
                   when 'resend' then h.was_state is null and h.state = 'a' and (h.run = 0 or h.owner = 'n')
                                   or h.was_state in ('a', 'f', 'p') and h.state = 'a' and h.owner = h.was_owner and h.epoch = h.was_epoch + 1 and h.attempts = 0
                   when '_send_back' then h.was_state = 'p' and h.state = 'a' and h.owner = 'n' and h.was_owner = 'n' and h.epoch = h.was_epoch + 1
                                      and (h.attempts, h.sends) = (0, 0) and h.redrives = h.was_redrives + 1
                   when 'cancel_run' then h.run > 0 and h.was_state in ('a', 'f', 'p') and h.state = 's' and (h.owner, h.epoch, h.attempts) = (h.was_owner, h.was_epoch, h.was_attempts)
                   else false end, false)",
    },
    Invariant {
        name: "what was sent back was asked for once",
        broken: "select count(*) from (select (select count(*) from checker.history h where h.writer = '_send_back') as done,
                                              (select coalesce(sum((detail ->> 'redriven')::int), 0) from switchyard.audit
                                                where action in ('redrive', 'auto_redrive')) as told) x where done <> told",
    },
    Invariant {
        name: "each change starts from the state that the one before it left",
        broken: "select count(*) from (select h.*, lag(state) over w as left_state, lag(owner) over w as left_owner, lag(epoch) over w as left_epoch
                                         from checker.history h window w as (partition by agent, run, seq order by h.id)) x
                  where (was_state, was_owner, was_epoch) is distinct from (left_state, left_owner, left_epoch)",
    },
    Invariant {
        name: "only the claiming transaction settles otherwise",
        broken: "select count(*) from (select h.*, lag(xid) over (partition by agent, run, seq order by h.id) as before from checker.history h) x
                  where writer = 'settle' and xid is distinct from before",
    },
    Invariant {
        name: "a replay's row is of an event that was settled live",
        broken: "select count(*) from checker.history h where h.run > 0 and h.was_state is null and not coalesce((
                   select l.state in ('d', 's', 'e') from checker.history l where l.agent = h.agent and l.run = 0 and l.seq = h.seq and l.id < h.id
                    order by l.id desc limit 1), false)",
    },
    Invariant {
        name: "a cancelled run is over",
        broken: "select (select count(*) from last l join checker.cancelled c using (run) where l.state not in ('d', 's', 'e'))
                      + (select count(*) from checker.history h join checker.cancelled c using (run) where h.at > c.at)",
    },
    Invariant {
        name: "the owner is fixed at the first ask, by a routing of that moment",
        broken: "select count(*) from checker.history h join switchyard.event_log e using (seq)
                  where h.was_state is null and h.run = 0 and not exists (
                    select 1 from (select r.*, lead(committed_by) over (partition by r.agent order by r.version) as over_by,
                                          lead(r.version) over (partition by r.agent order by r.version) as next_version from checker.routing r) r
                     where r.agent = h.agent and r.at <= h.at and (r.next_version is null or coalesce(r.over_by, 'infinity') >= h.asked_at)
                       and h.owner = switchyard.owner_of(r.as_it_was, e.aggregate_id, e.project_id))",
    },
    Invariant {
        name: "once reassign is complete nobody writes by an older routing",
        broken: "select count(*) from checker.completed c join checker.routing r on r.agent = c.agent and r.version = c.version
                   left join checker.routing n on n.agent = r.agent and n.version = r.version + 1
                   join checker.history h on h.agent = c.agent and h.was_state is null and h.run = 0 and not pg_visible_in_snapshot(h.xid, c.snapshot)
                        and h.at < coalesce(n.at, 'infinity')
                   join switchyard.event_log e using (seq)
                  where h.owner <> switchyard.owner_of(r.as_it_was, e.aggregate_id, e.project_id)",
    },
    Invariant {
        name: "gated effects are in the order of the sequence",
        broken: "select count(*) from (select e.seq, max(e.seq) over (partition by f.agent, f.gated order by f.id rows between unbounded preceding and 1 preceding) as before
                                         from checker.effect f join switchyard.event_log e using (event_id) where f.gated is not null) x where seq <= before",
    },
    Invariant {
        name: "what was parked by a report is in the dead-letter queue",
        broken: "select count(*) from checker.history h join switchyard.event_log e using (seq) join switchyard.agent a on a.id = h.agent
                  where h.writer = '_report' and h.state = 'p' and h.owner = 'n'
                    and not exists (select 1 from checker.dead_letter q where q.agent = a.name and q.event_id = e.event_id and q.run = h.run)",
    },
    Invariant {
        name: "nothing is missing and the watermarks count right",
        broken: "select (select count(*) from switchyard.agent a, switchyard.missing(a.name))
                      + (select count(*) from switchyard.subscription s where s.n <> (
                           select count(*) from switchyard.event_log e where e.type = s.type and e.seq >= s.from_seq and e.seq <= least(s.checked, coalesce(s.until_seq, s.checked))))",
    },
    Invariant {
        name: "the ledger adds up to what happened",
        broken: "select count(*) from switchyard.agent a cross join lateral switchyard.ledger(a.name) l cross join lateral (
                   select count(*) as subscribed, count(*) filter (where d.state = 'd') as done, count(*) filter (where d.state is null) as pending
                     from listens i left join last d on d.agent = i.agent and d.run = 0 and d.seq = i.seq where i.agent = a.id) x
                  cross join lateral (
                   select count(*) filter (where state = 'a' and owner = 'n') as assigned, count(*) filter (where state = 'a' and owner = 'o') as assigned_old,
                          count(*) filter (where state = 'f') as failing, count(*) filter (where state = 'p') as parked,
                          count(*) filter (where state = 's') as superseded, count(*) filter (where state = 'e') as expired
                     from last where agent = a.id and run = 0) y
                  where (l.subscribed, l.done, l.pending) is distinct from (x.subscribed, x.done, x.pending)
                     or (l.assigned, l.assigned_old, l.failing, l.parked, l.superseded, l.expired)
                        is distinct from (y.assigned, y.assigned_old, y.failing, y.parked, y.superseded, y.expired)",
    },
];

/// How many there are.
pub fn number() -> usize {
    INVARIANTS.len()
}

/// What keeps a world from being at rest, in words; nothing when it is.
pub(super) async fn what_is_open(judge: &Client, old_lives: bool) -> Vec<String> {
    let owned_by_the_dead = if old_lives { "" } else { "and owner = 'n'" };
    let questions = [
        ("unpublished", "select count(*) from switchyard.outbox".to_owned()),
        ("queued", "select count(*) from checker.queue".to_owned()),
        ("unfinished", format!("select count(*) from switchyard.delivery where state in ('a', 'f') {owned_by_the_dead}")),
        ("unswept", "select count(*) from switchyard.subscription s where s.checked < least(switchyard.last_seq(), coalesce(s.until_seq, switchyard.last_seq()))".to_owned()),
        ("undrained", "select count(*) from switchyard.delivery d join switchyard.agent a on a.id = d.agent and a.drain join switchyard.event_log e using (seq)
            where d.run = 0 and d.state in ('a', 'f', 'p') and d.owner <> switchyard.owner_of(a, e.aggregate_id, e.project_id)".to_owned()),
    ];
    let mut open = Vec::new();
    for (what, sql) in questions {
        let n: i64 = judge.query_one(&sql, &[]).await.expect("the judge's question").get(0);
        if n > 0 {
            open.push(format!("{n} {what}"));
        }
    }
    open
}

/// Every invariant that does not hold.
pub(super) async fn judge(judge: &Client) -> Vec<String> {
    let mut violations = Vec::new();
    for invariant in INVARIANTS {
        let sql = format!("{VIEWS} select ({})::bigint", invariant.broken);
        match judge.query_one(&sql, &[]).await {
            Ok(row) => {
                let n: i64 = row.get(0);
                if n > 0 {
                    violations.push(format!("not so: {} ({n})", invariant.name));
                }
            }
            Err(e) => violations.push(format!("could not judge whether {}: {e:?}", invariant.name)),
        }
    }
    violations
}

/// What happened in this world: a check on the checker, since what never happened was not checked.
pub(super) async fn count(judge: &Client, counts: &mut BTreeMap<String, u64>) {
    let sql = "select 'transition ' || coalesce(was_owner::text || was_state::text, 'none') || ' -> ' || owner::text || state::text
                      || case when run > 0 then ' (replay)' else '' end, count(*)
                 from checker.history where (was_state, was_owner) is distinct from (state, owner) group by 1
               union all select 'events', count(*) from events
               union all select 'sequences rolled back', switchyard.last_seq() - count(*) from events";
    for row in judge.query(sql, &[]).await.expect("the judge's count") {
        let (what, n): (String, i64) = (row.get(0), row.get(1));
        *counts.entry(what).or_default() += n.unsigned_abs();
    }
}
