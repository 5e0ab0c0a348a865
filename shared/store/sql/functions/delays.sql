-- Delayed events (`deliver_at`): listed and cancelled. They wait in the outbox, so no message of them exists.

-- Returns delayed events, the next due first, after (`p_after_due`, `p_after_seq`). Empty lists of types, projects and aggregates select all.
create or replace function switchyard.delayed(
  p_types text[], p_projects text[], p_aggregates text[], p_after_due timestamptz, p_after_seq bigint, p_at_most bigint)
returns table (seq bigint, event_id uuid, type text, aggregate_id text, project_id text, due_at timestamptz, logged_at timestamptz)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  return query
  select o.seq, l.event_id, l.type, coalesce(l.aggregate_id, ''), l.project_id, o.due_at, l.logged_at
    from switchyard.outbox o
    join switchyard.event_log l on l.seq = o.seq
   where o.parked_at is null and o.due_at is not null and o.due_at > now()
     and (o.due_at, o.seq) > (coalesce(p_after_due, '-infinity'), p_after_seq)
     and (cardinality(p_types) = 0 or l.type = any (p_types)) and (cardinality(p_projects) = 0 or l.project_id = any (p_projects))
     and (cardinality(p_aggregates) = 0 or l.aggregate_id = any (p_aggregates))
   order by o.due_at, o.seq limit p_at_most;
end $$;

-- Cancels one delayed event, and returns the answer that `cancel_delayed` lists. It expires the event's deliveries, so that the ledger balances and
-- the steward sends none. It creates a row for each agent that subscribes. So an agent that gets a copy all the same, because the shim read the
-- outbox at the same moment, finds the delivery settled.
create or replace function switchyard._cancel_delayed(p_seq bigint, p_operator text, p_reason text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  l switchyard.event_log;
  a smallint;
  agents smallint[];
begin
  select x.* into l from switchyard.event_log x where x.seq = p_seq;
  if exists (select 1 from switchyard.cancelled c where c.seq = p_seq) then
    return 'already_cancelled';
  end if;
  if l.due_at is null then
    return 'not_delayed';
  end if;
  -- Check the time before a possible wait for the row, so that the wait cannot change the answer.
  if l.due_at <= clock_timestamp() then
    return 'due';
  end if;
  perform 1 from switchyard.outbox o where o.seq = p_seq for update;
  if not found then
    return case when exists (select 1 from switchyard.cancelled c where c.seq = p_seq) then 'already_cancelled' else 'due' end;
  end if;

  agents := array(
    select distinct s.agent from switchyard.subscription s
     where s.type = l.type and l.seq >= s.from_seq and (s.until_seq is null or l.seq <= s.until_seq) order by s.agent);
  foreach a in array agents loop
    perform switchyard._create_deliveries(a, 0, array[p_seq], 'asked');
  end loop;
  -- The old system may claim an event before it is due.
  perform 1 from switchyard.delivery d where d.agent = any (agents) and d.seq = p_seq and d.run = 0 order by d.agent for update;
  if exists (select 1 from switchyard.delivery d where d.agent = any (agents) and d.seq = p_seq and d.run = 0 and d.state not in ('a', 'f')) then
    return 'taken';
  end if;
  update switchyard.delivery d set state = 'e', at = now(), next_attempt_at = null, reason = 'cancelled'
   where d.agent = any (agents) and d.seq = p_seq and d.run = 0;
  delete from switchyard.outbox o where o.seq = p_seq;
  insert into switchyard.cancelled (seq, event_id, by, reason) values (p_seq, l.event_id, p_operator, p_reason);
  return 'cancelled';
end $$;

-- Cancels delayed events. Returns an answer for each:
--   cancelled          the event was cancelled.
--   already_cancelled  it was cancelled before.
--   unknown            the event log does not have it.
--   not_delayed        it was never delayed.
--   due                its time has come, and it may be on its way.
--   taken              the old system has worked on it before its time.
-- Waits for a claim of one of the deliveries for two seconds, then fails.
create or replace function switchyard.cancel_delayed(p_events uuid[], p_operator text, p_reason text) returns table (event_id uuid, answer text)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  given record;
  went uuid[] := '{}';
begin
  perform set_config('lock_timeout', '2s', true);
  -- In the order of the event log, so that two calls with the same events do not deadlock.
  for given in
    select distinct u.event_id, l.seq from unnest(p_events) u (event_id) left join switchyard.event_log l on l.event_id = u.event_id
     order by l.seq, u.event_id
  loop
    event_id := given.event_id;
    answer := case when given.seq is null then 'unknown' else switchyard._cancel_delayed(given.seq, p_operator, p_reason) end;
    if answer = 'cancelled' then
      went := went || given.event_id;
    end if;
    return next;
  end loop;
  if cardinality(went) > 0 then
    perform switchyard.note_as(p_operator, 'cancel_delayed', null, jsonb_build_object(
      'events', cardinality(went), 'event_ids', to_jsonb(went[1:100]), 'reason', p_reason));
  end if;
end $$;

create or replace function switchyard.delayed_count() returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
  select count(*) from switchyard.outbox o where o.parked_at is null and o.due_at is not null and o.due_at > now()
$$;
