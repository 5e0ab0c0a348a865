-- Parked deliveries: selected, listed, sent back, and dismissed.

-- Returns a time that an operator has given as text, or null for null. Raises SY004 for other text.
create or replace function switchyard.time_given(p_name text, p_text text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  t timestamptz := switchyard.timestamp_or_null(p_text);
begin
  if p_text is not null and t is null then
    raise exception '% is not a time in RFC 3339, such as 2026-01-31T12:00:00Z: %', p_name, left(p_text, 40) using errcode = 'SY004';
  end if;
  return t;
end $$;

-- A selection of what an operator has given.
create or replace function switchyard.selection_of(
  p_events uuid[], p_types text[], p_reasons text[], p_projects text[], p_since text, p_until text, p_at_most bigint) returns switchyard.selection
language sql stable set search_path = pg_catalog, pg_temp as $$
  select row(coalesce(p_events, '{}'), coalesce(p_types, '{}'), coalesce(p_reasons, '{}'), coalesce(p_projects, '{}'), switchyard.time_given('since', p_since), switchyard.time_given('until', p_until), p_at_most)
           ::switchyard.selection
$$;

-- Returns the parked deliveries of a selection after (`p_after_seq`, `p_after_run`), the lowest sequences first; by default only the agent's own.
-- Each selection gets its own plan, so that a named event is looked up and not searched for among a million.
create or replace function switchyard.parked_deliveries(
  p_agent text, p_selection switchyard.selection, p_after_seq bigint default -9223372036854775808, p_after_run int default 0,
  p_owners "char"[] default '{n}')
returns table (seq bigint, run int, event_id uuid, type text, aggregate_id text, project_id text, reason text, attempts smallint,
               redrives smallint, at timestamptz)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  a smallint := switchyard._agent_id(p_agent);
begin
  -- The plan knows the values, so conditions for empty lists cost nothing.
  return query
  select d.seq, d.run, l.event_id, l.type, coalesce(l.aggregate_id, ''), l.project_id, coalesce(d.reason, ''), d.attempts, d.redrives, d.at
    from switchyard.delivery d
    join switchyard.event_log l on l.seq = d.seq
   where d.agent = a and d.owner = any (p_owners) and d.state = 'p' and (d.seq, d.run) > (p_after_seq, p_after_run)
     and (cardinality(p_selection.events) = 0 or l.event_id = any (p_selection.events))
     and (cardinality(p_selection.types) = 0 or l.type = any (p_selection.types))
     and (cardinality(p_selection.reasons) = 0 or coalesce(d.reason, '') = any (p_selection.reasons))
     and (cardinality(p_selection.projects) = 0 or l.project_id = any (p_selection.projects))
     and d.at >= coalesce(p_selection.since, '-infinity') and d.at < coalesce(p_selection.until, 'infinity')
   order by d.seq, d.run limit p_selection.at_most;
end $$;

-- Returns unmatched dead letters of a selection, as far as it can match them: a body that is no event has no id, type or project. An event that was
-- missing and exists now has a delivery, which `parked_deliveries` returns.
create or replace function switchyard._unmatched(p_agent text, p_selection switchyard.selection)
returns table (id bigint, event_id uuid, message_id text, type text, reason text, error text, at timestamptz)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  a smallint := switchyard._agent_id(p_agent);
begin
  return query
  select f.id, f.event_id, f.message_id, l.type, f.reason, f.error, f.at
    from switchyard.failure f
    left join switchyard.event_log l on l.event_id = f.event_id
   where f.component = p_agent and f.unmatched and f.redriven_at is null
     and not exists (select 1 from switchyard.delivery d where d.agent = a and d.seq = l.seq and d.run = f.run)
     and (cardinality(p_selection.events) = 0 or f.event_id = any (p_selection.events))
     and (cardinality(p_selection.types) = 0 or l.type = any (p_selection.types))
     and (cardinality(p_selection.reasons) = 0 or f.reason = any (p_selection.reasons))
     and (cardinality(p_selection.projects) = 0 or l.project_id = any (p_selection.projects))
     and f.at >= coalesce(p_selection.since, '-infinity') and f.at < coalesce(p_selection.until, 'infinity');
end $$;

-- What the latest parked attempt of a delivery says.
create or replace function switchyard.parked_error(p_agent text, p_event uuid, p_run int) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select f.error from switchyard.failure f
   where f.event_id = p_event and f.component = p_agent and f.run = p_run and f.parked order by f.id desc limit 1
$$;

-- Returns parked deliveries by reason and type: how many, since when, the latest error, and three examples.
create or replace function switchyard.parked(p_agent text, p_selection switchyard.selection)
returns table (reason text, type text, n bigint, oldest timestamptz, newest timestamptz, error text, examples uuid[])
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  return query
  with grouped as (
    select d.reason, d.type, count(*) as n, min(d.at) as oldest, max(d.at) as newest,
           (array_agg(d.event_id order by d.at desc, d.seq desc))[1:3] as examples, (array_agg(d.run order by d.at desc, d.seq desc))[1] as run
      from switchyard.parked_deliveries(p_agent, p_selection) d
     group by d.reason, d.type)
  select g.reason, g.type, g.n, g.oldest, g.newest, switchyard.parked_error(p_agent, g.examples[1], g.run), g.examples
    from grouped g
  union all
  -- Each dead letter once, however often it was parked.
  select f.reason, f.type, count(distinct coalesce(f.event_id::text, f.message_id)), min(f.at), max(f.at),
         (array_agg(f.error order by f.id desc))[1],
         array(select x.e from (select u.e, max(u.i) as newest
                                  from unnest(array_agg(f.event_id), array_agg(f.id)) u (e, i) where u.e is not null group by u.e) x
                order by x.newest desc limit 3)
    from switchyard._unmatched(p_agent, p_selection) f
   where coalesce(p_selection.at_most, 1) > 0
   group by f.reason, f.type
   order by 3 desc, 1, 2;
end $$;

-- Sends parked deliveries back to the agent, in the next epoch with all counts at 0. Returns those that it sent back. A delivery that is not parked
-- stays as it is, so two concurrent calls send each back once. `p_defer` is for a caller that moves the messages: the steward sends from the table
-- what is still unanswered after it.
create or replace function switchyard._send_back(p_agent text, p_seqs bigint[], p_runs int[], p_defer interval, p_reason text)
returns table (seq bigint, run int)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  a smallint := switchyard._agent_id(p_agent);
begin
  return query
  with parked as materialized (
    select d.seq, d.run from switchyard.delivery d
     where d.agent = a and d.seq = any (p_seqs) and d.owner = 'n' and d.state = 'p'
       and exists (select 1 from unnest(p_seqs, p_runs) u (s, r) where u.s = d.seq and u.r = d.run)
     order by d.seq, d.run
       for update of d)
  update switchyard.delivery d set state = 'a', epoch = d.epoch + 1, attempts = 0, sends = 0, deaths = 0, returns = 0,
         redrives = least(d.redrives + 1, 32767), next_attempt_at = now() + p_defer, at = now(), given_at = clock_timestamp(), reason = p_reason
    from parked p
   where d.agent = a and d.seq = p.seq and d.run = p.run and d.state = 'p'
  returning d.seq, d.run;
end $$;

-- Sends the parked deliveries of a selection back, at most `p_selection.at_most` after (`p_after_seq`, `p_after_run`). Returns each that it looked
-- at, and whether it was sent back.
create or replace function switchyard.redrive(
  p_agent text, p_selection switchyard.selection, p_after_seq bigint, p_after_run int, p_defer interval, p_operator text, p_reason text)
returns table (seq bigint, run int, redriven boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  seqs bigint[];
  runs int[];
  back bigint[];
  back_runs int[];
begin
  select coalesce(array_agg(p.seq), '{}'), coalesce(array_agg(p.run), '{}') into seqs, runs
    from switchyard.parked_deliveries(p_agent, p_selection, p_after_seq, p_after_run) p;
  select coalesce(array_agg(s.seq), '{}'), coalesce(array_agg(s.run), '{}') into back, back_runs
    from switchyard._send_back(p_agent, seqs, runs, p_defer, p_reason) s;
  if cardinality(back) > 0 then
    perform switchyard.note_as(p_operator, 'redrive', p_agent, jsonb_build_object(
      'redriven', cardinality(back), 'reason', p_reason, 'defer_secs', extract(epoch from p_defer)::bigint, 'selection', switchyard._selection_json(p_selection)));
  end if;
  return query
  select u.s, u.r, b.s is not null
    from unnest(seqs, runs) u (s, r) left join unnest(back, back_runs) b (s, r) on b.s = u.s and b.r = u.r
   order by u.s, u.r;
end $$;

-- The same for these deliveries only. Returns those that were sent back.
create or replace function switchyard.redrive_these(p_agent text, p_events uuid[], p_runs int[], p_defer interval, p_operator text, p_reason text)
returns table (event_id uuid, run int)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  seqs bigint[];
  runs int[];
  back bigint[];
  back_runs int[];
begin
  select coalesce(array_agg(l.seq), '{}'), coalesce(array_agg(u.run), '{}') into seqs, runs
    from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log l on l.event_id = u.event_id;
  select coalesce(array_agg(s.seq), '{}'), coalesce(array_agg(s.run), '{}') into back, back_runs
    from switchyard._send_back(p_agent, seqs, runs, p_defer, p_reason) s;
  if cardinality(back) > 0 then
    perform switchyard.note_as(p_operator, 'redrive', p_agent, jsonb_build_object(
      'redriven', cardinality(back), 'reason', p_reason, 'defer_secs', extract(epoch from p_defer)::bigint));
  end if;
  return query
  select l.event_id, u.r from unnest(back, back_runs) u (s, r) join switchyard.event_log l on l.seq = u.s order by l.seq, u.r;
end $$;

-- Marks unmatched dead letters as sent back: those of these events and messages, or, if both lists are null, all that existed at `p_before`. One
-- that fails again is a new row. Returns how many.
create or replace function switchyard.sent_back(p_agent text, p_events uuid[], p_messages text[], p_before timestamptz, p_operator text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  n bigint;
begin
  update switchyard.failure f set redriven_at = clock_timestamp()
   where f.component = p_agent and f.unmatched and f.redriven_at is null
     and case when p_events is null and p_messages is null then f.at <= p_before
              else f.event_id = any (p_events) or f.message_id = any (p_messages) end;
  get diagnostics n = row_count;
  if n > 0 then
    perform switchyard.note_as(p_operator, 'redrive_unmatched', p_agent, jsonb_build_object('redriven', n));
  end if;
  return n;
end $$;

-- Settles parked deliveries as expired, at most `p_selection.at_most` after (`p_after_seq`, `p_after_run`). Retention no longer waits for them. The
-- old system's deliveries are included only if the selection names events. Returns each that it looked at, and whether it was dismissed.
create or replace function switchyard.dismiss(
  p_agent text, p_selection switchyard.selection, p_after_seq bigint, p_after_run int, p_operator text, p_reason text)
returns table (seq bigint, run int, dismissed boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  a smallint := switchyard._agent_id(p_agent);
  seqs bigint[];
  runs int[];
  ended bigint[];
  ended_runs int[];
begin
  select coalesce(array_agg(p.seq), '{}'), coalesce(array_agg(p.run), '{}') into seqs, runs
    from switchyard.parked_deliveries(p_agent, p_selection, p_after_seq, p_after_run,
           case when cardinality(p_selection.events) > 0 then '{n,o}'::"char"[] else '{n}' end) p;
  with parked as materialized (
    select d.seq, d.run from switchyard.delivery d
     where d.agent = a and d.seq = any (seqs) and d.state = 'p'
       and exists (select 1 from unnest(seqs, runs) u (s, r) where u.s = d.seq and u.r = d.run)
     order by d.seq, d.run
       for update of d),
  gone as (
    update switchyard.delivery d set state = 'e', reason = 'dismissed', at = now(), next_attempt_at = null
      from parked p
     where d.agent = a and d.seq = p.seq and d.run = p.run and d.state = 'p'
    returning d.seq, d.run)
  select coalesce(array_agg(g.seq), '{}'), coalesce(array_agg(g.run), '{}') into ended, ended_runs from gone g;
  if cardinality(ended) > 0 then
    perform switchyard.note_as(p_operator, 'dismiss', p_agent, jsonb_build_object(
      'dismissed', cardinality(ended), 'reason', p_reason, 'selection', switchyard._selection_json(p_selection)));
  end if;
  return query
  select u.s, u.r, b.s is not null
    from unnest(seqs, runs) u (s, r) left join unnest(ended, ended_runs) b (s, r) on b.s = u.s and b.r = u.r
   order by u.s, u.r;
end $$;

-- Returns a selection for the audit: its filters, and the number of named events.
create or replace function switchyard._selection_json(p_selection switchyard.selection) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'events', nullif(cardinality((p_selection).events), 0), 'types', to_jsonb(nullif((p_selection).types, '{}')),
    'reasons', to_jsonb(nullif((p_selection).reasons, '{}')), 'projects', to_jsonb(nullif((p_selection).projects, '{}')),
    'since', (p_selection).since, 'until', (p_selection).until))
$$;

-- Sets the agent's automatic redrive; null turns it off.
create or replace function switchyard.set_auto_redrive(p_agent text, p_times int, p_after interval, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  update switchyard.agent x set auto_redrive_times = p_times, auto_redrive_after = p_after where x.id = a.id;
  perform switchyard.note_as(p_operator, 'set_auto_redrive', p_agent, jsonb_build_object(
    'times', p_times, 'first_after_secs', extract(epoch from p_after)::bigint,
    'was_times', a.auto_redrive_times, 'was_first_after_secs', extract(epoch from a.auto_redrive_after)::bigint));
end $$;

-- Sends back deliveries whose cause may be gone: parked for too many attempts, sends or dead processes. It leaves rejected ones, and those that the
-- old system has touched. Each wait is twice the one before, at most 30 days. It takes at most a hundred, the longest parked first, and returns
-- their sequences.
create or replace function switchyard.auto_redrive(p_agent text) returns setof bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  seqs bigint[];
  runs int[];
  back bigint[];
begin
  if a.auto_redrive_times is null then
    return;
  end if;
  select coalesce(array_agg(x.seq), '{}'), coalesce(array_agg(x.run), '{}') into seqs, runs
    from (select d.seq, d.run from switchyard.delivery d
           where d.agent = a.id and d.owner = 'n' and d.state = 'p' and d.reason in ('attempts_used_up', 'unanswered', 'process_died')
             and not d.touched
             and d.redrives < a.auto_redrive_times
             and d.at <= now() - least(a.auto_redrive_after * power(2, least(d.redrives, 20)), interval '30 days')
           order by d.at, d.seq, d.run limit 100) x;
  select coalesce(array_agg(s.seq order by s.seq), '{}') into back
    from switchyard._send_back(p_agent, seqs, runs, interval '0', 'redriven automatically') s;
  if cardinality(back) > 0 then
    perform switchyard.note('auto_redrive', p_agent, jsonb_build_object('redriven', cardinality(back)));
  end if;
  return query select distinct b from unnest(back) b order by 1;
end $$;
