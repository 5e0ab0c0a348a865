-- Shadow comparison: the outcomes of comparing an agent's decisions with what the old system did.

-- Return what a value holds at a path, as text and as JSON; null if it holds nothing there or cannot be read. So one event, or one row of the old
-- system, does not stop the comparison of the others. A column of type JSON may hold an escaped NUL; see `_project_of`.
create or replace function switchyard._text_at(given anyelement, path text[]) returns text
language sql stable as 'select to_jsonb(given) #>> path';

create or replace function switchyard._json_at(given anyelement, path text[]) returns text
language sql stable as 'select (to_jsonb(given) #> path)::text';

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
  strays_from timestamptz := greatest(clock_timestamp(), (select l.since from switchyard.logging l) + p_wait_ms * interval '1 millisecond');
begin
  insert into switchyard.compare_mapping as c (agent, mapping, version, strays_to) values (a.name, p_mapping, v, strays_from)
  on conflict (agent) do update
     set mapping = excluded.mapping, version = excluded.version, since = excluded.since, strays_to = excluded.strays_to, trouble = null;
  delete from switchyard.comparison x where x.agent = a.name;
  delete from switchyard.stray x where x.agent = a.name;
  -- As many as a few passes can compare.
  update switchyard.shadow s set outcome = null, differs = null, judged_by = null
    from (select x.event_id from switchyard.shadow x where x.agent = a.name order by x.at desc limit 20000) latest
   where s.agent = a.name and s.event_id = latest.event_id and s.run = 0 and s.outcome is not null;
  perform switchyard.note_as(p_operator, 'compare', p_agent, jsonb_build_object('mapping', p_mapping));
  return v;
end $$;

-- Deletes an agent's mapping, its counts and its examples. The decisions stay. Returns false if it has no mapping.
create or replace function switchyard.drop_compare_mapping(p_operator text, p_agent text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  delete from switchyard.compare_mapping c where c.agent = p_agent;
  if not found then
    return false;
  end if;
  delete from switchyard.comparison x where x.agent = p_agent;
  delete from switchyard.stray x where x.agent = p_agent;
  perform switchyard.note_as(p_operator, 'compare', p_agent, jsonb_build_object('mapping', null));
  return true;
end $$;

-- Stores outcomes and counts each decision once, also if two processes compare it. Does nothing if the mapping has changed. `p_differs` are JSON
-- lists of names. Returns how many were counted.
create or replace function switchyard.note_compared(p_agent text, p_version int, p_events uuid[], p_outcomes text[], p_differs text[]) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  n bigint;
begin
  perform 1 from switchyard.compare_mapping c where c.agent = p_agent and c.version = p_version for share;
  if not found then
    return 0;
  end if;
  with judged as (
    update switchyard.shadow s
       set outcome = u.outcome, judged_by = p_version,
           differs = case when u.outcome = 'differed' then array(select json_array_elements_text(u.differs::json)) end
      from unnest(p_events, p_outcomes, p_differs) u (event_id, outcome, differs)
     where s.agent = p_agent and s.event_id = u.event_id and s.run = 0 and s.outcome is null
    returning s.at, s.outcome),
  counted as (
    insert into switchyard.comparison as c (agent, minute, agreed, differed, only_old, only_new, overtaken)
    select p_agent, date_trunc('minute', j.at, 'UTC') as minute, count(*) filter (where j.outcome = 'agreed'),
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
create or replace function switchyard.note_strays(p_agent text, p_version int, p_answers text[], p_keys text[], p_ats timestamptz[], p_to timestamptz) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  n bigint;
begin
  update switchyard.compare_mapping c set strays_to = p_to where c.agent = p_agent and c.version = p_version and c.strays_to <= p_to;
  if not found then
    return 0;
  end if;
  with found as (
    insert into switchyard.stray (agent, answer, key, at)
    select p_agent, u.answer, array(select json_array_elements_text(u.key::json)), u.at
      from unnest(p_answers, p_keys, p_ats) u (answer, key, at)
    on conflict do nothing
    returning at),
  counted as (
    insert into switchyard.comparison as c (agent, minute, strays)
    select p_agent, date_trunc('minute', f.at, 'UTC') as minute, count(*) from found f group by 2 order by 2
    on conflict (agent, minute) do update set strays = c.strays + excluded.strays)
  select count(*) into n from found;
  -- Keep rows at the end of the range, because the next search starts there.
  delete from switchyard.stray s
   where s.agent = p_agent and s.at < p_to
     and s.at < (select x.at from switchyard.stray x where x.agent = p_agent order by x.at desc offset 999 limit 1);
  return n;
end $$;

-- Returns the counts of a comparison since a time. `only_old` includes `strays`, the rows that answer no event. `not_yet` counts decisions whose
-- wait is not over, and events of the last ten minutes without a decision.
create or replace function switchyard.compared(
  p_agent text, p_since timestamptz,
  out agreed bigint, out differed bigint, out only_old bigint, out only_new bigint, out overtaken bigint, out strays bigint, out not_yet bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  undecided bigint := 0;
begin
  select coalesce(sum(c.agreed), 0), coalesce(sum(c.differed), 0), coalesce(sum(c.only_old + c.strays), 0), coalesce(sum(c.only_new), 0),
         coalesce(sum(c.overtaken), 0), coalesce(sum(c.strays), 0)
    into agreed, differed, only_old, only_new, overtaken, strays
    from switchyard.comparison c where c.agent = a.name and c.minute >= date_trunc('minute', p_since, 'UTC');
  if switchyard.shadows(a) then
    select count(*) into undecided
      from switchyard.event_log e
     where e.seq >= switchyard._seq_logged_from(greatest(p_since, now() - interval '10 minutes')) and coalesce(e.due_at, e.logged_at) <= now()
       and switchyard.owner_of(a, e.aggregate_id, e.project_id) = 'o'
       and exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = e.type and e.seq >= s.from_seq
                      and (s.until_seq is null or e.seq <= s.until_seq))
       and not exists (select 1 from switchyard.shadow s where s.agent = a.name and s.event_id = e.event_id and s.run = 0)
       and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.seq = e.seq and d.run = 0 and d.owner = 'n');
  end if;
  select undecided + count(*) into not_yet
    from switchyard.shadow s
   where s.agent = a.name and s.run = 0 and s.outcome is null and s.at >= p_since
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
  for a in select x.name from switchyard.agent x order by x.id loop
    delete from switchyard.shadow s using (
      select x.event_id, x.run from switchyard.shadow x where x.agent = a.name and x.at < now() - interval '45 days' order by x.at limit p_at_most) old
     where s.agent = a.name and s.event_id = old.event_id and s.run = old.run;
    get diagnostics n = row_count;
    went := went + n;
    delete from switchyard.comparison c using (
      select x.minute from switchyard.comparison x where x.agent = a.name and x.minute < now() - interval '90 days' order by x.minute limit p_at_most) old
     where c.agent = a.name and c.minute = old.minute;
    get diagnostics n = row_count;
    went := went + n;
  end loop;
  return went;
end $$;
