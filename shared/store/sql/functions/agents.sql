-- Agents: their registration, and the owner that the routing gives an event to.

-- Returns the agent's row. Raises SY002 if no agent has this name.
create or replace function switchyard.agent_named(p_name text) returns switchyard.agent
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
begin
  select * into a from switchyard.agent where name = p_name;
  if not found then
    raise exception 'agent % is not registered: check the name, or register it with switchyard-setup', p_name using errcode = 'SY002';
  end if;
  return a;
end $$;

-- Returns the agent's id, or null. Null is allowed because the ingress queue, which is no agent, has dead letters too.
create or replace function switchyard._agent_id(p_agent text) returns smallint
language sql stable set search_path = pg_catalog, pg_temp as $$
  select a.id from switchyard.agent a where a.name = p_agent
$$;

-- Returns the owner by the routing. The hash does not include the agent, so the same aggregates move first for all agents. An aggregate that is the
-- agent's at 10 percent is the agent's at 50. A pinned project ignores the percentage.
create or replace function switchyard.owner_of(p_agent switchyard.agent, aggregate_id text, project_id text) returns "char"
language sql stable parallel safe
return (case (p_agent).mode
  when 'full' then 'n'
  when 'percent' then case
    when project_id = any ((p_agent).pinned_new) then 'n'
    when project_id = any ((p_agent).pinned_old) then 'o'
    when switchyard._percentile_of(coalesce(case when (p_agent).routed_by = 'project' then project_id end, aggregate_id)) < (p_agent).percent then 'n'
    else 'o' end
  else 'o' end)::"char";

-- Returns whether the agent decides in shadow mode about what the old system owns.
create or replace function switchyard.shadows(p_agent switchyard.agent) returns boolean
language sql immutable parallel safe
return (p_agent).mode = 'shadow' or ((p_agent).mode = 'percent' and (p_agent).beside);

-- Registers an agent, or updates its registration. Returns what was created, added, removed and extended. The agent subscribes to a new type from
-- now on; its subscription to a type that is not in the list ends at the last sequence that was assigned. Mode and percentage count at the first
-- registration only, since operators set the routing afterwards.
--
-- With `p_from_beginning`, what the agent did not subscribe to until now, from the floor on, becomes a period of its own, so that the watermark and
-- the count of the open period stay as they are. Raises SY004 if a backfill has taken events of such a period or will take them, because they would
-- be done twice.
create or replace function switchyard.register(
  p_agent text, p_types text[], p_routed_by text, p_max_attempts int, p_mode text, p_percent int, p_from_beginning boolean)
returns table (created boolean, added text[], removed text[], extended text[])
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  a switchyard.agent;
  known boolean;
  bottom bigint;
  l bigint;
  backfilled text[];
begin
  perform switchyard.ensure_partitions();
  -- The lock keeps retention from raising the floor meanwhile.
  select f.seq into bottom from switchyard.floor f for share;

  insert into switchyard.agent as x (name, mode, percent, routed_by, max_attempts)
  values (p_agent, p_mode, p_percent, p_routed_by, p_max_attempts)
  on conflict (name) do nothing;
  known := not found;
  select * into a from switchyard.agent where name = p_agent for update;
  insert into switchyard.breaker (agent) values (a.id) on conflict do nothing;
  if known and (a.max_attempts <> p_max_attempts or a.routed_by <> p_routed_by) then
    update switchyard.agent x set max_attempts = p_max_attempts, routed_by = p_routed_by,
           barrier = case when x.routed_by = p_routed_by then x.barrier end,
           routing_version = x.routing_version + (x.routed_by <> p_routed_by)::int
     where x.id = a.id;
  end if;

  l := greatest(bottom, switchyard.last_seq() + 1);
  with gone as (
    update switchyard.subscription s set until_seq = l - 1
     where s.agent = a.id and s.until_seq is null and not s.type = any (p_types)
    returning s.type),
  fresh as (
    insert into switchyard.subscription (agent, type, from_seq, checked)
    select a.id, t.type, l, l - 1 from (select distinct unnest(p_types) as type) t
     where not exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = t.type and s.until_seq is null)
    -- A type that was removed and added again before any event came keeps its period.
    on conflict (agent, type, from_seq) do update set until_seq = null
    returning type)
  select not known, (select coalesce(array_agg(f.type order by f.type), '{}') from fresh f), (select coalesce(array_agg(g.type order by g.type), '{}') from gone g)
    into created, added, removed;

  extended := '{}';
  if p_from_beginning then
    -- For each period, find the first sequence that the earlier periods leave out. A period that began and ended without an event covers nothing, so
    -- the new range replaces it.
    with period as (
      select s.type, s.from_seq, greatest(bottom, 1 + max(s.until_seq) over (
               partition by s.type order by s.from_seq rows between unbounded preceding and 1 preceding)) as left_out
        from switchyard.subscription s
       where s.agent = a.id and s.type = any (p_types)),
    filled as (
      insert into switchyard.subscription (agent, type, from_seq, until_seq, checked)
      select a.id, p.type, p.left_out, p.from_seq - 1, p.left_out - 1 from period p where p.left_out < p.from_seq
      on conflict (agent, type, from_seq) do update set until_seq = excluded.until_seq
      returning type, from_seq, until_seq)
    select coalesce(array_agg(distinct f.type order by f.type), '{}'),
           array_agg(distinct f.type order by f.type) filter (where exists (
             select 1 from switchyard.backfill b
              where b.agent = a.id and f.type = any (b.types) and b.last_seq >= f.from_seq and b.first_seq <= f.until_seq
                and (b.taken > 0 or b.state in ('running', 'paused'))))
      into extended, backfilled from filled f;
    if backfilled is not null then
      raise exception '% has a backfill of %, so --from-beginning would do those events again: register it without, and start a backfill for the rest (switchyard backfill % --since TIME)',
        p_agent, array_to_string(backfilled, ', '), p_agent using errcode = 'SY004';
    end if;
  end if;

  if created or added <> '{}' or removed <> '{}' or extended <> '{}' then
    perform switchyard.note('register', p_agent,
      jsonb_build_object('created', created, 'added', added, 'removed', removed, 'extended', extended));
  end if;
  return next;
end $$;

-- The names of all agents.
create or replace function switchyard.agents() returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select a.name from switchyard.agent a order by a.name
$$;

-- The types that an agent subscribes to, or has subscribed to.
create or replace function switchyard.types_of(p_agent text) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select array(select distinct s.type from switchyard.subscription s join switchyard.agent a on a.id = s.agent where a.name = p_agent)
$$;

-- Sets after how long a delivery of the agent counts as lost.
create or replace function switchyard.set_grace(p_agent text, p_grace interval) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  update switchyard.agent x set grace = p_grace where x.id = a.id;
end $$;
