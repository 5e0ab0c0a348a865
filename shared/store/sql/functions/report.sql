-- Reports in a transaction of their own, after the claim's transaction was rolled back: what failed, was parked, or was returned to its queue.

-- Records failed or parked attempts of a batch, and returns the state of each. A report changes nothing if the delivery is final or parked, belongs
-- to the other side, or has another epoch. A failure never parks, whatever the number of attempts: the message must reach the dead-letter queue
-- first.
create or replace function switchyard._report(
  p_agent text, p_who "char", p_park boolean, p_events uuid[], p_runs int[], p_epochs int[],
  p_reasons text[], p_errors text[], p_delays_ms bigint[]) returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  firsts bigint[];
  counted bigint[];
  counted_runs int[];
begin
  select array_agg(e.seq) into firsts
    from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id where u.run = 0;
  if firsts is not null then
    perform switchyard._create_deliveries(a.id, 0, firsts, 'asked');
  end if;

  -- Copies of one event in a batch count once; of two epochs the newer counts.
  with given as materialized (
    select distinct on (e.seq, u.run) e.seq, u.*
      from unnest(p_events, p_runs, p_epochs, p_reasons, p_errors, p_delays_ms)
             with ordinality u (event_id, run, epoch, reason, error, delay_ms, ord)
      left join switchyard.event_log e on e.event_id = u.event_id
     where e.seq is not null
     order by e.seq, u.run, u.epoch desc nulls last, u.ord),
  open as materialized (
    select d.seq, d.run, d.state, d.owner, d.epoch from switchyard.delivery d
     where d.agent = a.id and d.seq = any (select g.seq from given g) and d.run = any (p_runs)
       and exists (select 1 from given g where g.seq = d.seq and g.run = d.run)
     order by d.seq, d.run
       for update of d),
  changed as (
    update switchyard.delivery d set
      state = case when p_park then 'p'::"char" else 'f' end,
      attempts = case when p_park then greatest(d.attempts, 1) else least(d.attempts + 1, 32767) end,
      -- A failure is a report too, so the transport works.
      sends = 0,
      touched = d.touched or p_who = 'o',
      -- SQS hides a message for at most twelve hours.
      next_attempt_at = case when p_park then null else now() + least(g.delay_ms, 43200000) * interval '1 millisecond' + a.grace end,
      at = now(), reason = g.reason
      from given g join open o on o.seq = g.seq and o.run = g.run
     where d.agent = a.id and d.seq = g.seq and d.run = g.run
       and o.state in ('a', 'f') and o.owner = p_who and o.epoch = coalesce(g.epoch, o.epoch)
    returning d.seq, d.run, d.attempts, g.event_id, g.reason, g.error),
  kept as (
    insert into switchyard.failure (component, event_id, run, seq, attempt, parked, reason, error)
    select p_agent, c.event_id, c.run, c.seq, c.attempts, p_park, c.reason, c.error from changed c order by c.seq)
  select coalesce(array_agg(c.seq), '{}'), coalesce(array_agg(c.run), '{}') into counted, counted_runs from changed c;

  if p_park then
    -- An event without a delivery (unknown, too old, not subscribed) is parked in the dead-letter queue alone. This row records it.
    insert into switchyard.failure (component, event_id, run, seq, attempt, parked, reason, error, unmatched)
    select distinct on (u.event_id, u.run) p_agent, u.event_id, u.run, e.seq, 1, true, u.reason, u.error, true
      from unnest(p_events, p_runs, p_reasons, p_errors) u (event_id, run, reason, error)
      left join switchyard.event_log e on e.event_id = u.event_id
     where not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = u.run and d.seq = e.seq);
    perform switchyard._note_late(a.id, p_events, p_runs);
  end if;

  return query
  select u.ord, c.s is not null, d.state, coalesce(d.attempts, 0::smallint), coalesce(e.max_attempts, a.max_attempts), coalesce(d.epoch, 0)
    from unnest(p_events, p_runs) with ordinality u (event_id, run, ord)
    left join switchyard.event_log e on e.event_id = u.event_id
    left join switchyard.delivery d on d.agent = a.id and d.run = u.run and d.seq = e.seq
    left join unnest(counted, counted_runs) c (s, r) on c.s = e.seq and c.r = u.run
   order by u.ord;
end $$;

-- Records failed attempts; see `_report`.
create or replace function switchyard.fail_batch(
  p_agent text, p_who "char", p_events uuid[], p_runs int[], p_epochs int[], p_reasons text[], p_errors text[], p_delays_ms bigint[])
returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select * from switchyard._report(p_agent, p_who, false, p_events, p_runs, p_epochs, p_reasons, p_errors, p_delays_ms) r order by r.ord;
end $$;

-- Records parked attempts; see `_report`.
create or replace function switchyard.park_batch(
  p_agent text, p_who "char", p_events uuid[], p_runs int[], p_epochs int[], p_reasons text[], p_errors text[])
returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select * from switchyard._report(p_agent, p_who, true, p_events, p_runs, p_epochs, p_reasons, p_errors, null) r order by r.ord;
end $$;

-- Records parked messages whose body is no event, by the queue's id of the message. A second call changes nothing.
create or replace function switchyard.park_unidentified(p_agent text, p_message_ids text[], p_runs int[], p_reasons text[], p_errors text[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.failure (component, message_id, run, attempt, parked, reason, error, unmatched)
  select p_agent, u.message_id, u.run, 1, true, u.reason, u.error, true
    from unnest(p_message_ids, p_runs, p_reasons, p_errors) with ordinality u (message_id, run, reason, error, ord)
   order by u.ord
  on conflict do nothing
$$;

-- Counts a death in advance: the caller is about to try a suspect alone, and calls `survived` if its process lives. Returns the deaths, with this
-- trial; 0 if the agent has nothing to try here or the epoch differs. An agent in shadow mode also tries what the old system owns, in any state.
create or replace function switchyard.suspect(p_agent text, p_event uuid, p_run int, p_epoch int) returns smallint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  s bigint := (select e.seq from switchyard.event_log e where e.event_id = p_event);
  counted smallint;
begin
  if p_run = 0 and s is not null then
    perform switchyard._create_deliveries(a.id, 0, array[s], 'asked');
  end if;
  update switchyard.delivery d set deaths = least(d.deaths + 1, 32767), sends = 0
   where d.agent = a.id and d.run = p_run and d.seq = s and d.epoch = coalesce(p_epoch, d.epoch)
     and case d.owner when 'n' then d.state in ('a', 'f') else switchyard.shadows(a) end
  returning d.deaths into counted;
  return coalesce(counted, 0);
end $$;

-- Records that messages were returned to their queue without an attempt, to come again after `p_delay`. They are not lost, so their next send moves
-- back. It skips rows that a transaction holds. For rows of the old system, which an agent in shadow mode returns too, it only counts.
create or replace function switchyard.returned(p_agent text, p_events uuid[], p_runs int[], p_epochs int[], p_delay interval) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  firsts bigint[];
begin
  -- Only for events without a row: an insert would wait for a transaction that works on an existing one.
  select array_agg(e.seq) into firsts
    from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id
   where u.run = 0 and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq);
  if firsts is not null then
    perform switchyard._create_deliveries(a.id, 0, firsts, 'asked');
  end if;
  with given as materialized (
    select e.seq, u.run, u.epoch, count(*) as n
      from unnest(p_events, p_runs, p_epochs) u (event_id, run, epoch) join switchyard.event_log e on e.event_id = u.event_id
     group by e.seq, u.run, u.epoch),
  -- Each copy of an event in a batch is a return. A return of another epoch than the row's does not count.
  open as materialized (
    select d.seq, d.run, d.owner, d.epoch from switchyard.delivery d
     where d.agent = a.id and d.seq = any (array(select g.seq from given g)) and d.run = any (p_runs)
       and exists (select 1 from given g where g.seq = d.seq and g.run = d.run)
       and case d.owner when 'n' then d.state in ('a', 'f') else switchyard.shadows(a) end
     order by d.seq, d.run
       for update of d skip locked),
  counted as (
    select o.seq, o.run, o.owner, sum(g.n) as n
      from open o join given g on g.seq = o.seq and g.run = o.run and coalesce(g.epoch, o.epoch) = o.epoch
     group by o.seq, o.run, o.owner)
  update switchyard.delivery d set
         returns = least(d.returns + c.n, 32767), sends = case c.owner when 'n' then 0 else d.sends end,
         next_attempt_at = case c.owner when 'n' then greatest(d.next_attempt_at, now() + p_delay + a.grace) else d.next_attempt_at end
    from counted c
   where d.agent = a.id and d.seq = c.seq and d.run = c.run;
end $$;

-- Resets the deaths of suspects after a trial that the process survived.
create or replace function switchyard.survived(p_agent text, p_events uuid[], p_runs int[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  with alive as materialized (
    select d.seq, d.run from switchyard.delivery d
     where d.agent = a.id and d.deaths > 0
       and d.seq = any (array(select e.seq from switchyard.event_log e where e.event_id = any (p_events)))
       and exists (select 1 from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id
                    where e.seq = d.seq and u.run = d.run)
     order by d.seq, d.run
       for update of d)
  update switchyard.delivery d set deaths = 0
    from alive v where d.agent = a.id and d.seq = v.seq and d.run = v.run;
end $$;
