-- Shadow comparison: the outcomes of comparing an agent's decisions with what the old system did.

-- Return what a value holds at a path, as text and as JSON; null if it holds nothing there or cannot be read. So one event, or one row of the old
-- system, does not stop the comparison of the others. A column of type JSON may hold an escaped NUL; see `_project_of`.
create or replace function switchyard._text_at(given anyelement, path text[]) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return to_jsonb(given) #>> path;
end $$;

create or replace function switchyard._json_at(given anyelement, path text[]) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return (to_jsonb(given) #> path)::text;
end $$;

create or replace function switchyard._json_at(given json, path text[]) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return (given #> path)::text;
exception
  when untranslatable_character then
    begin
      return (regexp_replace(given::text, '(?<!\\)((\\\\)*)\\u0000', '\1', 'g')::json #> path)::text;
    exception when others then
      return null;
    end;
  when others then
    return null;
end $$;

create or replace function switchyard._text_at(given json, path text[]) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return given #>> path;
exception when others then
  begin
    return switchyard._json_at(given, path)::json #>> '{}';
  exception when others then
    return null;
  end;
end $$;

-- Sets an agent's mapping and returns its version. Counts by an older mapping are deleted, and the latest decisions are compared again. The search
-- for rows of the old system that answer no event starts now. Just after the installation it starts only after the old system's wait, because until
-- then its rows may answer events from before the event log.
create or replace function switchyard.set_compare_mapping(p_operator text, p_agent text, p_mapping jsonb, p_wait_ms bigint) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  v int := nextval('switchyard.compare_mapping_version');
  unmatched_from timestamptz := greatest(clock_timestamp(), (select l.since from switchyard.logging l) + p_wait_ms * interval '1 millisecond');
begin
  insert into switchyard.compare_mapping as c (agent, mapping, version, unmatched_to) values (a.id, p_mapping, v, unmatched_from)
  on conflict (agent) do update
     set mapping = excluded.mapping, version = excluded.version, since = excluded.since, unmatched_to = excluded.unmatched_to, trouble = null;
  delete from switchyard.comparison x where x.agent = a.id;
  delete from switchyard.unmatched_row x where x.agent = a.id;
  -- As many as a few passes can compare.
  update switchyard.shadow s set outcome = null, differs = null, judged_by = null
    from (select x.event_id from switchyard.shadow x where x.agent = a.id order by x.at desc limit 20000) latest
   where s.agent = a.id and s.event_id = latest.event_id and s.run = 0 and s.outcome is not null;
  perform switchyard.note_as(p_operator, 'compare', p_agent, jsonb_build_object('mapping', p_mapping));
  return v;
end $$;

-- Deletes an agent's mapping, its counts and its examples. The decisions stay. Returns false if it has no mapping.
create or replace function switchyard.drop_compare_mapping(p_operator text, p_agent text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  delete from switchyard.compare_mapping c where c.agent = a.id;
  if not found then
    return false;
  end if;
  delete from switchyard.comparison x where x.agent = a.id;
  delete from switchyard.unmatched_row x where x.agent = a.id;
  perform switchyard.note_as(p_operator, 'compare', p_agent, jsonb_build_object('mapping', null));
  return true;
end $$;

-- Stores outcomes and counts each decision once, also if two processes compare it. Does nothing if the mapping has changed. `p_differs` are JSON
-- lists of names. Returns how many were counted.
create or replace function switchyard.note_compared(p_agent text, p_version int, p_events uuid[], p_outcomes text[], p_differs text[]) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a smallint := switchyard._agent_id(p_agent);
  n bigint;
begin
  perform 1 from switchyard.compare_mapping c where c.agent = a and c.version = p_version for share;
  if not found then
    return 0;
  end if;
  with judged as (
    update switchyard.shadow s
       set outcome = u.outcome, judged_by = p_version,
           differs = case when u.outcome = 'differed' then array(select json_array_elements_text(u.differs::json)) end
      from unnest(p_events, p_outcomes, p_differs) u (event_id, outcome, differs)
     where s.agent = a and s.event_id = u.event_id and s.run = 0 and s.outcome is null
    returning s.at, s.outcome),
  counted as (
    insert into switchyard.comparison as c (agent, minute, agreed, differed, only_old, only_new, overtaken)
    select a, date_trunc('minute', j.at, 'UTC') as minute, count(*) filter (where j.outcome = 'agreed'),
           count(*) filter (where j.outcome = 'differed'), count(*) filter (where j.outcome = 'only_old'),
           count(*) filter (where j.outcome = 'only_new'), count(*) filter (where j.outcome = 'overtaken')
      from judged j group by 2 order by 2
    on conflict (agent, minute) do update
       set agreed = c.agreed + excluded.agreed, differed = c.differed + excluded.differed, only_old = c.only_old + excluded.only_old,
           only_new = c.only_new + excluded.only_new, overtaken = c.overtaken + excluded.overtaken)
  select count(*) into n from judged;
  return n;
end $$;

-- Stores rows of the old system that answer no event, and the time up to which its rows were searched. A stored row is not counted again. `p_keys`
-- are JSON lists. Returns how many were counted.
create or replace function switchyard.note_unmatched(p_agent text, p_version int, p_answers text[], p_keys text[], p_ats timestamptz[], p_to timestamptz) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a smallint := switchyard._agent_id(p_agent);
  n bigint;
begin
  update switchyard.compare_mapping c set unmatched_to = p_to where c.agent = a and c.version = p_version and c.unmatched_to <= p_to;
  if not found then
    return 0;
  end if;
  with found as (
    insert into switchyard.unmatched_row (agent, answer, key, at)
    select a, u.answer, array(select json_array_elements_text(u.key::json)), u.at
      from unnest(p_answers, p_keys, p_ats) u (answer, key, at)
    on conflict do nothing
    returning at),
  counted as (
    insert into switchyard.comparison as c (agent, minute, unmatched)
    select a, date_trunc('minute', f.at, 'UTC') as minute, count(*) from found f group by 2 order by 2
    on conflict (agent, minute) do update set unmatched = c.unmatched + excluded.unmatched)
  select count(*) into n from found;
  -- Keep rows at the end of the range, because the next search starts there.
  delete from switchyard.unmatched_row s
   where s.agent = a and s.at < p_to
     and s.at < (select x.at from switchyard.unmatched_row x where x.agent = a order by x.at desc offset 999 limit 1);
  return n;
end $$;

-- Returns the counts of a comparison since a time. `only_old` includes `unmatched`, the rows that answer no event. `not_yet` counts decisions whose
-- wait is not over, and events of the last ten minutes without a decision.
create or replace function switchyard.compared(
  p_agent text, p_since timestamptz,
  out agreed bigint, out differed bigint, out only_old bigint, out only_new bigint, out overtaken bigint, out unmatched bigint, out not_yet bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  undecided bigint := 0;
begin
  select coalesce(sum(c.agreed), 0), coalesce(sum(c.differed), 0), coalesce(sum(c.only_old + c.unmatched), 0), coalesce(sum(c.only_new), 0),
         coalesce(sum(c.overtaken), 0), coalesce(sum(c.unmatched), 0)
    into agreed, differed, only_old, only_new, overtaken, unmatched
    from switchyard.comparison c where c.agent = a.id and c.minute >= date_trunc('minute', p_since, 'UTC');
  if switchyard.shadows(a) then
    select count(*) into undecided
      from switchyard.event_log e
     where e.seq >= switchyard._seq_logged_from(greatest(p_since, now() - interval '10 minutes')) and coalesce(e.due_at, e.logged_at) <= now()
       and switchyard.owner_of(a, e.aggregate_id, e.project_id) = 'o'
       and exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = e.type and e.seq >= s.from_seq
                      and (s.until_seq is null or e.seq <= s.until_seq))
       and not exists (select 1 from switchyard.shadow s where s.agent = a.id and s.event_id = e.event_id and s.run = 0)
       and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.seq = e.seq and d.run = 0 and d.owner = 'n');
  end if;
  select undecided + count(*) into not_yet
    from switchyard.shadow s
   where s.agent = a.id and s.run = 0 and s.outcome is null and s.at >= p_since
     -- An event that now belongs to the agent is not compared.
     and not exists (select 1 from switchyard.event_log l join switchyard.delivery d on d.seq = l.seq
                      where l.event_id = s.event_id and d.agent = a.id and d.run = 0 and d.owner = 'n');
end $$;

-- Deletes decisions after 45 days, when no copy of their events can be delivered any more, and counts after 90 days; at most `p_at_most` of each for
-- each agent. A decision holds data from a payload, so it is not kept for longer than necessary. Returns how many rows it deleted.
create or replace function switchyard.prune_compared(p_at_most int default 10000) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a record;
  n bigint;
  went bigint := 0;
begin
  for a in select x.id from switchyard.agent x order by x.id loop
    delete from switchyard.shadow s using (
      select x.event_id, x.run from switchyard.shadow x where x.agent = a.id and x.at < now() - interval '45 days' order by x.at limit p_at_most) old
     where s.agent = a.id and s.event_id = old.event_id and s.run = old.run;
    get diagnostics n = row_count;
    went := went + n;
    delete from switchyard.comparison c using (
      select x.minute from switchyard.comparison x where x.agent = a.id and x.minute < now() - interval '90 days' order by x.minute limit p_at_most) old
     where c.agent = a.id and c.minute = old.minute;
    get diagnostics n = row_count;
    went := went + n;
  end loop;
  return went;
end $$;

-- Stores what an agent in shadow mode decided. A repetition counts, and replaces a decision that was not compared yet.
create or replace function switchyard.store_decisions(p_agent text, p_events uuid[], p_runs int[], p_decisions text[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.shadow as s (agent, event_id, run, decision)
  select a.id, u.event_id, u.run, u.decision::json
    from switchyard.agent_named(p_agent) a cross join unnest(p_events, p_runs, p_decisions) u (event_id, run, decision)
  on conflict (agent, event_id, run) do update
     set times = s.times + 1, at = case when s.outcome is null then excluded.at else s.at end,
         decision = case when s.outcome is null then excluded.decision else s.decision end
$$;

-- How agents are compared, by name.
create or replace function switchyard.compare_mappings()
returns table (agent text, mapping text, version int, since text, unmatched_to timestamptz, now timestamptz, shadow boolean, trouble text)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select a.name, c.mapping::text, c.version, switchyard.rfc3339(c.since), c.unmatched_to, clock_timestamp(), a.mode = 'shadow', c.trouble
    from switchyard.compare_mapping c join switchyard.agent a on a.id = c.agent order by a.name
$$;

-- Keeps why an agent could not be compared; null if it could.
create or replace function switchyard.set_compare_error(p_agent text, p_error text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  update switchyard.compare_mapping c set trouble = p_error where c.agent = switchyard._agent_id(p_agent) and c.trouble is distinct from p_error
$$;

-- Decisions with their events' places in the log, the oldest first: those about the events, or, for null, up to `p_at_most` live ones that were not compared
-- yet and are older than `p_older_than`. A delivery that has become the agent's own is left out, since it would be compared with itself. All decisions
-- together are as large as `p_most_bytes`, but the first is always there.
create or replace function switchyard.decided(p_agent text, p_events uuid[], p_older_than interval, p_at_most bigint, p_most_bytes bigint)
returns table (
  event_id uuid, at timestamptz, decision text, seq bigint, logged_at timestamptz, due_at timestamptz, aggregate_id text, project_id text)
language plpgsql stable rows 100 set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  a smallint := switchyard._agent_id(p_agent);
begin
  return query
  with chosen as (
    (select s.event_id, s.at, s.decision from switchyard.shadow s
      where p_events is null and s.agent = a and s.run = 0 and s.outcome is null and s.at <= now() - p_older_than
        and exists (select 1 from switchyard.event_log l where l.event_id = s.event_id
                       and not exists (select 1 from switchyard.delivery d
                                        where d.agent = a and d.seq = l.seq and d.run = 0 and d.owner = 'n'))
      order by s.at limit p_at_most)
    union all
    select s.event_id, s.at, s.decision from switchyard.shadow s where s.agent = a and s.run = 0 and s.event_id = any (p_events))
  select x.event_id, x.at, x.decision::text, l.seq, l.logged_at, l.due_at, l.aggregate_id, l.project_id
    from (select c.*, sum(octet_length(c.decision::text)) over (order by c.at, c.event_id) as bytes,
                 row_number() over (order by c.at, c.event_id) as n from chosen c) x
    join switchyard.event_log l on l.event_id = x.event_id
   where x.bytes <= p_most_bytes or x.n = 1
   order by x.at, x.event_id;
end $$;

-- The counts since then, by hour or day (`p_unit`), the oldest first: the latest 500.
create or replace function switchyard.compared_by(p_agent text, p_since timestamptz, p_unit text)
returns table (step text, agreed bigint, differed bigint, only_old bigint, only_new bigint, overtaken bigint, unmatched bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select switchyard.rfc3339(x.step), x.agreed, x.differed, x.only_old, x.only_new, x.overtaken, x.unmatched
    from (select date_trunc(p_unit, c.minute, 'UTC') as step, sum(c.agreed)::bigint as agreed, sum(c.differed)::bigint as differed,
                 sum(c.only_old + c.unmatched)::bigint as only_old, sum(c.only_new)::bigint as only_new, sum(c.overtaken)::bigint as overtaken,
                 sum(c.unmatched)::bigint as unmatched
            from switchyard.comparison c
           where c.agent = switchyard._agent_id(p_agent) and c.minute >= date_trunc('minute', p_since, 'UTC')
           group by 1 order by 1 desc limit 500) x
   order by x.step
$$;

-- The latest events that did not agree by the present mapping, up to `p_of_each` of each outcome.
create or replace function switchyard.compared_examples(p_agent text, p_since timestamptz, p_of_each bigint)
returns table (event_id uuid, outcome text, differs text[], at text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select s.event_id, s.outcome, coalesce(s.differs, '{}'), switchyard.rfc3339(s.at)
    from switchyard.compare_mapping c
    cross join unnest(array['differed', 'only_old', 'only_new']) with ordinality o (outcome, ord)
    cross join lateral (
      select x.* from switchyard.shadow x
       where x.agent = c.agent and x.outcome = o.outcome and x.outcome <> 'agreed' and x.at >= p_since and x.run = 0 and x.judged_by = c.version
       order by x.at desc limit p_of_each) s
   where c.agent = switchyard._agent_id(p_agent) order by o.ord, s.at desc
$$;

-- The latest rows of the old system that answer no event.
create or replace function switchyard.unmatched_examples(p_agent text, p_since timestamptz, p_at_most bigint)
returns table (answer text, key text[], at text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select s.answer, s.key, switchyard.rfc3339(s.at) from switchyard.unmatched_row s
   where s.agent = switchyard._agent_id(p_agent) and s.at >= p_since order by s.at desc limit p_at_most
$$;
