-- Backfills: events from before an agent subscribed, or from before the event log, become deliveries of a run of their own.

-- Returns whether the application's table has an index on the time of creation and the id, which the numbering of history needs. Without it each
-- window would sort all events with the same time, which is every event of a table that one import has filled.
create or replace function switchyard.history_index_exists() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select 1 from switchyard.mapping m
      join pg_attribute t on t.attrelid = switchyard._events() and t.attname = m.created_at
      join pg_attribute k on k.attrelid = t.attrelid and k.attname = m.id
      join pg_index i on i.indrelid = t.attrelid and i.indkey[0] = t.attnum and i.indkey[1] = k.attnum and i.indisvalid and i.indpred is null)
$$;

-- Returns the statements that create and drop the index, each to be sent alone: they are `concurrently`, so that no writer waits. `made` is null for
-- a partitioned table, on which Postgres cannot create an index so. Raises SY004 if the table has no time of creation.
create or replace function switchyard.history_index_ddl(out made text, out dropped text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  m switchyard.mapping;
begin
  select x.* into m from switchyard.mapping x;
  if m.created_at is null then
    raise exception 'the mapping has no column for the time of creation, so history has no order and cannot be backfilled: backfill from the installation on' using errcode = 'SY004';
  end if;
  made := case (select c.relkind from pg_class c where c.oid = switchyard._events()) when 'r' then format('create index concurrently if not exists switchyard_history on %I.%I (%I, %I)', m.schema_name, m.table_name, m.created_at, m.id) end;
  dropped := format('drop index concurrently if exists %I.switchyard_history', m.schema_name);
end $$;

-- Raises SY004 if history cannot be numbered: no time of creation, or a large table without the index.
create or replace function switchyard._history_is_ready(p_since timestamptz) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  -- Up to this size, about 100,000 events, a window can be sorted each time.
  small constant bigint := 64 * 1024 * 1024;
begin
  perform switchyard._see_every_event();
  if (select m.created_at is null from switchyard.mapping m) then
    raise exception 'the mapping has no column for the time of creation, so history has no order and cannot be backfilled: backfill from the installation on' using errcode = 'SY004';
  end if;
  -- A partitioned table has no pages of its own, so its partitions count.
  if not switchyard.history_index_exists()
     and greatest(pg_relation_size(switchyard._events()), (select sum(pg_relation_size(t.relid)) from pg_partition_tree(switchyard._events()) t)) > small then
    raise exception 'the events table is large and has no index on time and id: create one with switchyard-setup --index-history, which blocks no writer'
      using errcode = 'SY004';
  end if;
end $$;

-- Returns the types to backfill: those given, or, if none are, all that the agent subscribes to now. Raises SY004 for a type that it does not
-- subscribe to.
create or replace function switchyard._listened_to(p_agent switchyard.agent, p_types text[]) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  all_types text[] := array(select s.type from switchyard.subscription s where s.agent = p_agent.id and s.until_seq is null order by s.type);
  others text := (select string_agg(t, ', ' order by t) from unnest(p_types) t where t <> all (all_types));
begin
  if others is not null then
    raise exception '% does not subscribe to %: it subscribes to %', p_agent.name, left(others, 200), array_to_string(all_types, ', ') using errcode = 'SY004';
  end if;
  return case when cardinality(p_types) > 0 then array(select distinct t from unnest(p_types) t order by t) else all_types end;
end $$;

-- Returns whether the agent owns any events by its routing. If not, a backfill may send it nothing.
create or replace function switchyard._owns_something(p_agent switchyard.agent) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return (p_agent).mode = 'full' or ((p_agent).mode = 'percent' and ((p_agent).percent > 0 or (p_agent).pinned_new <> '{}'));

-- Adds partitions below the floor again, which retention has dropped, so that the ledger can hold a backfill's deliveries of events from there.
create or replace function switchyard._ensure_below_the_floor() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  gap record;
  bottom bigint;
begin
  lock table only switchyard.delivery in share update exclusive mode;
  -- The lock excludes retention: either retention sees the caller's backfill, or this function sees what retention has dropped.
  select f.seq into bottom from switchyard.floor f for share;
  for gap in
    select x.first, x.past
      from (select coalesce(lag(p.past) over (order by p.first), 1) as first, p.first as past
              from (select d.first, d.past from switchyard.delivery_partitions() d where d.past <= bottom union all select bottom, bottom) p) x
     where x.first < x.past
  loop
    perform switchyard.add_partition(gap.first, gap.past);
  end loop;
end $$;

-- Starts a backfill and returns its run. Raises SY004 if the times are in the wrong order, the agent owns nothing, it has a running or paused
-- backfill, or history cannot be numbered.
create or replace function switchyard.start_backfill(
  p_agent text, p_types text[], p_projects text[], p_since timestamptz, p_until timestamptz, p_per_second int, p_operator text) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent;
  types text[];
  of_history boolean;
  r int;
  top bigint;
begin
  select x.* into a from switchyard.agent x where x.id = (switchyard.agent_named(p_agent)).id for no key update;
  types := switchyard._listened_to(a, p_types);
  if p_since >= p_until then
    raise exception 'the time from % to % is empty: --since must be before --until', switchyard.rfc3339(p_since), switchyard.rfc3339(p_until) using errcode = 'SY004';
  end if;
  if not switchyard._owns_something(a) then
    raise exception '% is %, so it owns no events to backfill: route some to it first (switchyard route % percent N)', p_agent,
      case a.mode when 'percent' then 'at 0 percent' when 'shadow' then 'in shadow' else 'off' end, p_agent using errcode = 'SY004';
  end if;
  if exists (select 1 from switchyard.backfill b where b.agent = a.id and b.state in ('running', 'paused')) then
    raise exception '% has a running backfill: watch it with switchyard backfill % --progress, or end it with --cancel', p_agent, p_agent using errcode = 'SY004';
  end if;
  of_history := p_since < (select l.since from switchyard.logging l);
  if of_history then
    perform switchyard._history_is_ready(p_since);
  end if;
  perform switchyard._ensure_below_the_floor();

  perform switchyard.note_as(p_operator, 'backfill_start', p_agent, jsonb_build_object('types', types, 'projects', p_projects,
    'since', switchyard.rfc3339(p_since), 'until', switchyard.rfc3339(p_until), 'per_second', p_per_second));
  insert into switchyard.run (agent, kind, reason, by) values (a.id, 'backfill', 'backfill', coalesce(p_operator, session_user)) returning run into r;
  -- From the start of the newest period on, the agent gets every event live.
  select max(s.from_seq) - 1 into top from switchyard.subscription s where s.agent = a.id and s.type = any (types);
  insert into switchyard.backfill (run, agent, types, projects, since, until, per_second, phase, first_seq, last_seq, cursor_seq)
  select r, a.id, types, p_projects, p_since, p_until, p_per_second, case when of_history then 'numbering' else 'counting' end,
         f.first, greatest(top, 0), f.first - 1
    from (select case when of_history then h.seq else 1 end as first from switchyard.history h) f;
  return r;
end $$;

-- Numbers the next window of history: all events of that time, for all agents, because the sequence belongs to all. Returns how many rows it wrote,
-- the lowest sequence, and whether it has reached `p_since`. It looks up each event, because a join would read all of the event log for every
-- window.
create or replace function switchyard._number_history(p_since timestamptz, p_window int, out numbered bigint, out lowest bigint, out reached boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set timezone = 'UTC' set plan_cache_mode = force_custom_plan
set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  h switchyard.history;
  seen bigint;
  last_at timestamptz;
  last_id uuid;
begin
  perform switchyard._see_every_event();
  select x.* into h from switchyard.history x for update;
  if h.at is null then
    -- History ends before this moment.
    select l.since, '00000000-0000-0000-0000-000000000000'::uuid into h.at, h.id from switchyard.logging l;
  end if;
  if h.at < p_since then
    numbered := 0;
    lowest := h.seq;
    reached := true;
    return;
  end if;
  with found as materialized (
    select e.id, coalesce(e.type, '') as type, e.aggregate_id, e.metadata, e.payload, e.created_at
      from switchyard.event e
     where (e.created_at, e.id) < (h.at, h.id) and e.created_at >= p_since
     order by e.created_at desc, e.id desc limit p_window),
  -- An event that was inserted later with an older time has a live sequence already.
  new as materialized (
    select f.*, row_number() over (order by f.created_at desc, f.id desc) as place from found f
     where not exists (select 1 from switchyard.event_log l where l.event_id = f.id)),
  written as (
    insert into switchyard.event_log (seq, event_id, type, aggregate_id, project_id, due_at, max_attempts, logged_at)
    overriding system value
    select h.seq - n.place, n.id, n.type, n.aggregate_id, switchyard._project_of(n.metadata, n.payload),
           switchyard._due_at_of(n.metadata), switchyard._max_attempts_of(n.metadata), n.created_at
      from new n
     order by n.place desc
    on conflict (event_id) do nothing
    returning 1)
  select (select count(*) from written), h.seq - (select count(*) from new), count(*),
         (array_agg(f.created_at order by f.created_at, f.id))[1], (array_agg(f.id order by f.created_at, f.id))[1]
    into numbered, lowest, seen, last_at, last_id
    from found f;
  if seen > 0 then
    update switchyard.history x set seq = lowest, at = last_at, id = last_id;
  end if;
  reached := seen < p_window;
end $$;

-- Returns what a backfill selects from the next rows of the event log, the lowest sequences first. It reads at most `p_window` rows after `p_after`,
-- and stops at `p_at_most` events that match; `reached` is how far it got. An event matches if no period of the agent covers it, since it was
-- delivered live, and no earlier backfill has taken it, unless that backfill was cancelled before it finished the event. `seqs` are matching events
-- that the present routing gives to the agent. `left_out` counts those that belong to the old system, were cancelled, or are not due.
create or replace function switchyard._select_history(
  p_agent switchyard.agent, p_backfill switchyard.backfill, p_after bigint, p_window int, p_at_most int,
  out seqs bigint[], out left_out bigint, out reached bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  -- History gets no new events below the sequences that are numbered. Among live events, stop at the stable point.
  upto bigint := least(p_backfill.last_seq, case when p_after < 0 then 0 else switchyard.stable_seq() end);
  runs int[] := array(select b.run from switchyard.backfill b where b.agent = p_agent.id);
  fits bigint;
  last bigint;
begin
  select max(w.seq) into reached
    from (select l.seq from switchyard.event_log l where l.seq > p_after and l.seq <= upto order by l.seq limit p_window) w
  having count(*) = p_window;
  reached := coalesce(reached, greatest(upto, p_after));
  select coalesce(array_agg(f.seq order by f.seq) filter (where f.is_its), '{}'), count(*) filter (where not f.is_its), count(*), max(f.seq)
    into seqs, left_out, fits, last
    from (select l.seq, switchyard.owner_of(p_agent, l.aggregate_id, l.project_id) = 'n'
                          and (l.due_at is null or (l.due_at <= clock_timestamp() and not exists (select 1 from switchyard.cancelled c where c.seq = l.seq)))
                          as is_its
            from switchyard.event_log l
           where l.seq > p_after and l.seq <= reached and l.type = any (p_backfill.types)
             and (cardinality(p_backfill.projects) = 0 or l.project_id = any (p_backfill.projects))
             and l.logged_at >= p_backfill.since and l.logged_at < p_backfill.until
             and not exists (select 1 from switchyard.subscription s where s.agent = p_agent.id and s.type = l.type and l.seq >= s.from_seq
                                and (s.until_seq is null or l.seq <= s.until_seq))
             and not exists (select 1 from switchyard.delivery d
                              where d.agent = p_agent.id and d.seq = l.seq and d.seq > p_after and d.seq <= reached
                                and (d.run = 0 or d.run = any (runs)) and not (d.state = 's' and d.reason = 'run_cancelled'))
           order by l.seq limit p_at_most) f;
  if fits = p_at_most then
    reached := last;
  end if;
end $$;

-- Returns the agent's running or paused backfill and locks it, so that changes run one after the other. Raises SY004 if there is none.
create or replace function switchyard._active_backfill(p_agent text) returns switchyard.backfill
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.backfill;
begin
  select x.* into b from switchyard.backfill x
   where x.agent = (switchyard.agent_named(p_agent)).id and x.state in ('running', 'paused') for update;
  if not found then
    raise exception '% has no running backfill: start one first', p_agent using errcode = 'SY004';
  end if;
  return b;
end $$;

-- Does one window of the preparation: numbers history, then counts the selection. Returns the next phase, and whether it advanced. Counting waits
-- for transactions that may still commit an event of the selection.
create or replace function switchyard.prepare_backfill(p_agent text, p_numbered int default 5000, p_counted int default 50000, out phase text, out further boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  b switchyard.backfill := switchyard._active_backfill(p_agent);
  n record;
begin
  phase := b.phase;
  further := true;
  if b.state <> 'running' then
    further := false;
  elsif b.phase = 'numbering' then
    select * into n from switchyard._number_history(b.since, p_numbered);
    phase := case when n.reached then 'counting' else 'numbering' end;
    update switchyard.backfill x set phase = prepare_backfill.phase, first_seq = n.lowest, cursor_seq = n.lowest - 1 where x.run = b.run;
  elsif b.phase = 'counting' then
    select * into n from switchyard._select_history(a, b, b.cursor_seq, p_counted, p_counted);
    further := n.reached > b.cursor_seq;
    if n.reached >= b.last_seq then
      phase := 'sending';
      update switchyard.backfill x set phase = 'sending', selected = x.selected + cardinality(n.seqs), left_out = x.left_out + n.left_out, cursor_seq = x.first_seq - 1,
             spent_until = clock_timestamp(), measured_at = clock_timestamp(), measured_from = x.taken where x.run = b.run;
    else
      update switchyard.backfill x set selected = x.selected + cardinality(n.seqs), left_out = x.left_out + n.left_out, cursor_seq = n.reached
       where x.run = b.run;
    end if;
  end if;
end $$;

-- Returns how many deliveries the rate allows now, if it is used up until `p_spent_until`: the rate for the time since, for at most `p_burst`.
create or replace function switchyard._allowance(p_now timestamptz, p_spent_until timestamptz, p_per_second int, p_burst interval) returns int
language sql immutable parallel safe
return greatest(0, floor(extract(epoch from p_now - greatest(p_spent_until, p_now - p_burst)) * p_per_second))::int;

-- Returns how many deliveries of a backfill are unfinished, up to `p_most`. It looks between the first sequence and the cursor, so that it does not
-- read live deliveries.
create or replace function switchyard._unfinished(p_backfill switchyard.backfill, p_most int) returns int
language sql stable set search_path = pg_catalog, pg_temp as $$
  select count(*)::int from (
    select 1 from switchyard.delivery d
     where d.agent = (p_backfill).agent and d.owner = 'n' and d.state in ('a', 'f') and d.run = (p_backfill).run
       and d.seq >= (p_backfill).first_seq and d.seq <= (p_backfill).cursor_seq limit p_most) x
$$;

-- Returns how many deliveries of a backfill are parked.
create or replace function switchyard._parked_of(p_backfill switchyard.backfill) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
  select count(*) from switchyard.delivery d
   where d.agent = (p_backfill).agent and d.owner = 'n' and d.state = 'p' and d.run = (p_backfill).run
     and d.seq >= (p_backfill).first_seq and d.seq <= (p_backfill).cursor_seq
$$;

-- Returns the running backfills, with what decides whether each may advance.
create or replace function switchyard.backfills_running(p_agent text default null)
returns table (agent text, run int, phase text, per_second int, owns boolean, breaker text, unfinished int, allowance int, unpublished int)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  return query
  select a.name, b.run, b.phase, b.per_second, switchyard._owns_something(a), switchyard.breaker_state(a.name), switchyard._unfinished(b, 10000),
         switchyard._allowance(clock_timestamp(), b.spent_until, b.per_second, interval '1 minute'),
         (select count(*)::int from (select 1 from switchyard.outbox o where o.parked_at is null and o.due_at is null limit 10000) x)
    from switchyard.backfill b join switchyard.agent a on a.id = b.agent
   where b.state = 'running' and (p_agent is null or a.name = p_agent)
   order by a.name;
end $$;

-- Takes the next deliveries of a backfill from the next `p_window` rows of the event log: as many as `p_at_most`, the rate, and `p_unfinished`, the
-- most unfinished deliveries at a time, allow. They are leased as by `due`: the caller sends them after the commit, and what it does not send is due
-- when the lease ends. The backfill pauses itself when a hundred more deliveries are parked than at the last start or resume. It is done when
-- nothing is left and nothing is unfinished.
create or replace function switchyard.take_backfill(
  p_agent text, p_at_most int, p_unfinished int, p_window int default 20000,
  out run int, out seqs bigint[], out state text, out further boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  most_parked constant bigint := 100;
  a switchyard.agent := switchyard.agent_named(p_agent);
  b switchyard.backfill := switchyard._active_backfill(p_agent);
  n int;
  parked bigint;
  found_some record;
  late interval := interval '1 minute';
begin
  run := b.run;
  seqs := '{}';
  further := false;
  state := b.state;
  if b.state <> 'running' or b.phase not in ('sending', 'ending') then
    return;
  end if;
  perform 1 from switchyard.run r where r.run = b.run and r.open for share;
  if not found then
    state := 'cancelled';
    update switchyard.backfill x set state = 'cancelled', ended_at = clock_timestamp() where x.run = b.run;
    return;
  end if;
  parked := switchyard._parked_of(b);
  if parked - b.parked_before >= most_parked then
    state := 'paused';
    update switchyard.backfill x set state = 'paused', waits = format('%s deliveries are parked: switchyard dlq %s shows why', parked, p_agent) where x.run = b.run;
    perform switchyard.note('backfill_paused', p_agent, jsonb_build_object('run', b.run, 'parked', parked));
    return;
  end if;
  n := p_unfinished - switchyard._unfinished(b, p_unfinished);
  if b.phase = 'ending' then
    if n = p_unfinished then
      state := 'done';
      update switchyard.backfill x set state = 'done', ended_at = clock_timestamp(), waits = null where x.run = b.run;
      update switchyard.run r set open = false where r.run = b.run;
      perform switchyard.note('backfill_done', p_agent, jsonb_build_object('run', b.run, 'taken', b.taken, 'parked', parked));
    end if;
    return;
  end if;
  n := least(n, p_at_most, switchyard._allowance(clock_timestamp(), b.spent_until, b.per_second, late));
  if n <= 0 or not switchyard._owns_something(a) then
    return;
  end if;

  -- Take a transaction id before the routing is read (see `_create_deliveries`).
  perform pg_current_xact_id();
  a := switchyard.agent_named(p_agent);
  select * into found_some from switchyard._select_history(a, b, b.cursor_seq, p_window, n);
  further := found_some.reached > b.cursor_seq;
  seqs := (switchyard._create_deliveries(a.id, b.run, found_some.seqs, 'sent')).won;
  update switchyard.backfill x set cursor_seq = found_some.reached, taken = x.taken + cardinality(take_backfill.seqs),
         spent_until = greatest(x.spent_until, clock_timestamp() - late) + cardinality(take_backfill.seqs) * interval '1 second' / x.per_second,
         phase = case when found_some.reached >= x.last_seq then 'ending' else x.phase end
   where x.run = b.run;
end $$;

-- Stores why a backfill does not advance, for `backfill_progress`.
create or replace function switchyard.backfill_waits(p_agent text, p_why text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  update switchyard.backfill b set waits = p_why
    from switchyard.agent a
   where a.name = p_agent and b.agent = a.id and b.state = 'running' and b.waits is distinct from p_why
$$;

-- Pauses a running backfill.
create or replace function switchyard.pause_backfill(p_agent text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.backfill := switchyard._active_backfill(p_agent);
begin
  if b.state = 'running' then
    update switchyard.backfill x set state = 'paused', waits = null where x.run = b.run;
    perform switchyard.note_as(p_operator, 'backfill_pause', p_agent, jsonb_build_object('run', b.run, 'taken', b.taken));
  end if;
end $$;

-- Resumes a paused backfill, at another rate if one is given. For a running one only the rate changes. It does not catch up for the pause.
create or replace function switchyard.resume_backfill(p_agent text, p_per_second int, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.backfill := switchyard._active_backfill(p_agent);
begin
  update switchyard.backfill x set state = 'running', waits = null, per_second = coalesce(p_per_second, x.per_second),
         spent_until = case when x.spent_until is not null then clock_timestamp() end,
         measured_at = case when x.measured_at is not null then clock_timestamp() end, measured_from = x.taken,
         parked_before = switchyard._parked_of(b)
   where x.run = b.run;
  perform switchyard.note_as(p_operator, 'backfill_resume', p_agent,
    jsonb_build_object('run', b.run, 'taken', b.taken, 'per_second', coalesce(p_per_second, b.per_second)));
end $$;

-- Cancels a backfill: unfinished and parked deliveries are superseded, done ones stay done. A later backfill takes what this one has not done.
-- Returns how many were superseded.
create or replace function switchyard.cancel_backfill(p_agent text, p_operator text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.backfill := switchyard._active_backfill(p_agent);
begin
  update switchyard.backfill x set state = 'cancelled', ended_at = clock_timestamp(), waits = null where x.run = b.run;
  perform switchyard.note_as(p_operator, 'backfill_cancel', p_agent, jsonb_build_object('run', b.run, 'taken', b.taken));
  return switchyard.cancel_run(b.run);
end $$;

-- Returns the progress of the agent's newest backfill. The cost grows with its unfinished, parked, superseded and expired deliveries, not with the
-- done ones.
create or replace function switchyard.backfill_progress(p_agent text)
returns table (run int, state text, phase text, waits text, per_second int, types text[], projects text[], since text, until text, numbered bigint,
               selected bigint, left_out bigint, taken bigint, pending bigint, parked bigint, superseded bigint, expired bigint, pace double precision,
               ends_at text, started_at text, ended_at text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  b switchyard.backfill;
begin
  select x.* into b from switchyard.backfill x where x.agent = a.id order by x.run desc limit 1;
  if not found then
    return;
  end if;
  return query
  with open as (
    select count(*) filter (where d.state in ('a', 'f')) as pending, count(*) filter (where d.state = 'p') as parked,
           count(*) filter (where d.state = 's') as superseded, count(*) filter (where d.state = 'e') as expired
      from switchyard.delivery d
     where d.agent = a.id and d.run = b.run and d.state <> 'd' and d.seq >= b.first_seq and d.seq <= b.last_seq),
  measured as (
    select case when b.state = 'running' and b.phase = 'sending' and b.taken > b.measured_from and clock_timestamp() > b.measured_at
                then ((b.taken - b.measured_from) / extract(epoch from clock_timestamp() - b.measured_at))::float8 end as pace)
  select b.run, b.state, b.phase, b.waits, b.per_second, b.types, b.projects, switchyard.rfc3339(b.since), switchyard.rfc3339(b.until),
         greatest(0, -b.first_seq), b.selected, b.left_out, b.taken, o.pending, o.parked, o.superseded, o.expired, m.pace,
         switchyard.rfc3339(clock_timestamp() + greatest(0, b.selected - b.taken) / m.pace * interval '1 second'),
         switchyard.rfc3339(b.started_at), switchyard.rfc3339(b.ended_at)
    from open o cross join measured m;
end $$;

-- Returns what a backfill would select, by type: events in the event log, and history without a sequence. Changes nothing. It reads everything that
-- it selects.
create or replace function switchyard.preview_backfill(p_agent text, p_types text[], p_projects text[], p_since timestamptz, p_until timestamptz)
returns table (type text, n bigint, oldest text, newest text)
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  types text[] := switchyard._listened_to(a, p_types);
  began timestamptz := (select l.since from switchyard.logging l);
  h switchyard.history;
  runs int[] := array(select b.run from switchyard.backfill b where b.agent = a.id);
begin
  select x.* into h from switchyard.history x;
  return query
  with logged as (
    select l.type, l.logged_at as at from switchyard.event_log l
     where l.type = any (types) and (cardinality(p_projects) = 0 or l.project_id = any (p_projects)) and l.logged_at >= p_since and l.logged_at < p_until
       and switchyard.owner_of(a, l.aggregate_id, l.project_id) = 'n'
       and (l.due_at is null or (l.due_at <= clock_timestamp() and not exists (select 1 from switchyard.cancelled c where c.seq = l.seq)))
       and not exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = l.type and l.seq >= s.from_seq
                          and (s.until_seq is null or l.seq <= s.until_seq))
       and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.seq = l.seq and (d.run = 0 or d.run = any (runs))
                          and not (d.state = 's' and d.reason = 'run_cancelled'))),
  unnumbered as (
    select e.type, e.created_at as at from switchyard.event e
     where (e.created_at, e.id) < (coalesce(h.at, began), coalesce(h.id, '00000000-0000-0000-0000-000000000000'))
       and e.created_at >= p_since and e.created_at < p_until and e.type = any (types)
       and (cardinality(p_projects) = 0 or switchyard._project_of(e.metadata, e.payload) = any (p_projects))
       and switchyard.owner_of(a, e.aggregate_id, switchyard._project_of(e.metadata, e.payload)) = 'n'
       and coalesce(switchyard._due_at_of(e.metadata) <= clock_timestamp(), true)
       and not exists (select 1 from switchyard.event_log l where l.event_id = e.id))
  select x.type, count(*), switchyard.rfc3339(min(x.at)), switchyard.rfc3339(max(x.at))
    from (select * from logged union all select * from unnumbered) x
   group by x.type order by 2 desc, 1;
end $$;
