-- Events that wait for their time (`deliver_at`): listed, and cancelled. A row of the outbox waits, so nothing is on its way yet.

-- What waits, the next first: of these types, projects and aggregates, where any are named, above (`p_after_due`, `p_after_seq`).
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

-- Cancels one event that waits. Its deliveries are settled as expired, so that the ledger balances and nobody sends them again; with a row for each
-- agent that listens, an agent that is handed a copy all the same, since the shim read the outbox in this very moment, finds it settled.
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
  -- The time first, so that a wait for the row does not make early what is late.
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
  -- The old system asks for an event when it likes, its time or not.
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

-- Cancels events that wait for their time. Answers for each: cancelled, already_cancelled, unknown, not_delayed (it never had to wait), due (its time has
-- come, and it may be on its way), or taken (the old system has worked on it before its time).
create or replace function switchyard.cancel_delayed(p_events uuid[], p_operator text, p_reason text) returns table (event_id uuid, answer text)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  given record;
  went uuid[] := '{}';
begin
  -- Whoever works on one of the deliveries just now is waited for, and not for long.
  perform set_config('lock_timeout', '2s', true);
  -- In the order of the log, so that two who cancel the same do not deadlock.
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
