-- The creation of deliveries.

-- Creates deliveries of these sequences; no other statement creates any. Returns in `won` the new rows that belong to `p_who` (null: to either side)
-- and need work, and in `written` the number of new rows. Existing rows stay as they are.
--
-- In run 0 it creates rows only for events that the agent subscribes to, above the floor. The owner follows the routing that this statement reads.
-- The statement waits for a concurrent first ask of the same event. A delayed event that was cancelled is expired from the start. In another run the
-- caller has selected the sequences, and all of them belong to the agent.
--
-- `p_how` sets when the delivery is due:
--   asked    one side is working on it: after the grace, counted from now or from its due time. With `p_settle`, the rows of `p_who` are done.
--   missing  nothing is under way: now, or a grace after its due time.
--   resent   an operator wants it sent: now.
--   sent     the caller sends it now, which counts as a send: after the wait for a resend.
--
-- It takes a transaction id first, because `reassign` relies on every reader of the routing having one.
create or replace function switchyard._create_deliveries(
  p_agent smallint, p_run int, p_seqs bigint[], p_how text, p_who "char" default null, p_settle boolean default false,
  p_reason text default null, out won bigint[], out written bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_current_xact_id();
  with made as (
    insert into switchyard.delivery (agent, run, seq, owner, state, sends, next_attempt_at, reason)
    select a.id, p_run, e.seq, o.owner,
           case when o.cancelled then 'e' when p_settle and o.owner = p_who then 'd' else 'a' end::"char",
           (p_how = 'sent')::int,
           case when o.cancelled or (p_settle and o.owner = p_who) then null
                else case p_how
                     when 'asked' then greatest(now(), e.due_at) + a.grace
                     when 'missing' then greatest(now(), e.due_at + a.grace)
                     when 'resent' then now()
                     when 'sent' then now() + switchyard._resend_after(a.grace, 0::smallint, e.seq) end end,
           case when o.cancelled then 'cancelled' else p_reason end
      from switchyard.agent a
      cross join switchyard.event_log e
      cross join lateral (select case when p_run = 0 then switchyard.owner_of(a, e.aggregate_id, e.project_id) else 'n' end as owner,
                                 p_run = 0 and e.due_at is not null
                                   and exists (select 1 from switchyard.cancelled c where c.seq = e.seq) as cancelled) o
     where a.id = p_agent and e.seq = any (p_seqs)
       and (p_run <> 0 or (e.seq >= (select f.seq from switchyard.floor f)
            and exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = e.type and e.seq >= s.from_seq
                           and (s.until_seq is null or e.seq <= s.until_seq))))
     order by e.seq
    on conflict do nothing
    returning seq, owner, state)
  select coalesce(array_agg(m.seq order by m.seq) filter (where m.owner = coalesce(p_who, m.owner) and m.state <> 'e'), '{}'), count(*)
    into won, written from made m;
end $$;

-- The states of deliveries, in the order of the arrays; null where there is no row.
create or replace function switchyard.delivery_states(p_agent text, p_events uuid[], p_runs int[]) returns table (ord bigint, state text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  return query
  select u.ord, d.state::text
    from unnest(p_events, p_runs) with ordinality u (event_id, run, ord)
    left join switchyard.event_log l on l.event_id = u.event_id
    left join switchyard.delivery d on d.agent = a.id and d.seq = l.seq and d.run = u.run
   order by u.ord;
end $$;

-- Counts what came for an event below the floor that has no delivery any more.
create or replace function switchyard._note_late(p_agent smallint, p_events uuid[], p_runs int[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.late as l (agent, event_id, run)
  select distinct p_agent, u.event_id, u.run from unnest(p_events, p_runs) u (event_id, run)
    join switchyard.event_log e on e.event_id = u.event_id
   where e.seq < (select f.seq from switchyard.floor f)
     and not exists (select 1 from switchyard.delivery d where d.agent = p_agent and d.run = u.run and d.seq = e.seq)
  on conflict (agent, event_id, run) do update set n = l.n + 1
$$;
