-- Deployment and cutover: who listens to what, and whose turn it is.

-- Registers an agent or brings it up to date. New types are listened to from now on; a type that is gone from the list
-- ends with the last sequence drawn. Mode counts at the first registration only: afterwards people move that lever.
-- From the beginning: what it did not listen to until now, from the floor on, becomes a period of its own, so that the watermark and
-- the count of the period that goes on stay what they are.
create function switchyard.register(
  p_agent text, p_types text[], p_routed_by text, p_max_attempts int, p_mode text, p_percent int, p_from_beginning boolean)
returns table (created boolean, added text[], removed text[], extended text[])
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  a switchyard.agent;
  known boolean;
  bottom bigint;
  l bigint;
begin
  perform switchyard.ensure_partitions();
  -- Retention must not pass us meanwhile.
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
    -- Removed and added again before any event came: the same period goes on.
    on conflict (agent, type, from_seq) do update set until_seq = null
    returning type)
  select not known, (select coalesce(array_agg(f.type order by f.type), '{}') from fresh f), (select coalesce(array_agg(g.type order by g.type), '{}') from gone g)
    into created, added, removed;

  extended := '{}';
  if p_from_beginning then
    -- Before each period, the first sequence that the periods before it have left out. A period that began and ended without an event
    -- covers nothing, and what it has left out becomes its own.
    with period as (
      select s.type, s.from_seq, greatest(bottom, 1 + max(s.until_seq) over (
               partition by s.type order by s.from_seq rows between unbounded preceding and 1 preceding)) as left_out
        from switchyard.subscription s
       where s.agent = a.id and s.type = any (p_types)),
    filled as (
      insert into switchyard.subscription (agent, type, from_seq, until_seq, checked)
      select a.id, p.type, p.left_out, p.from_seq - 1, p.left_out - 1 from period p where p.left_out < p.from_seq
      on conflict (agent, type, from_seq) do update set until_seq = excluded.until_seq
      returning type)
    select coalesce(array_agg(distinct f.type order by f.type), '{}') into extended from filled f;
  end if;

  if created or added <> '{}' or removed <> '{}' or extended <> '{}' then
    perform switchyard.note('register', p_agent,
      jsonb_build_object('created', created, 'added', added, 'removed', removed, 'extended', extended));
  end if;
  return next;
end $$;

create function switchyard.set_routing(p_agent text, p_mode text, p_percent int, p_drain boolean) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  update switchyard.agent x set mode = p_mode, percent = p_percent, drain = p_drain,
         barrier = null, routing_version = x.routing_version + 1 where x.id = a.id;
  perform switchyard.note('set_routing', p_agent, jsonb_build_object(
    'mode', p_mode, 'percent', p_percent, 'drain', p_drain, 'was_mode', a.mode, 'was_percent', a.percent));
end $$;

-- Draws the barrier of the last change of routing, unless it stands. Whoever reads a routing has a transaction id before
-- (see _ask), and whoever read an older one did so before the change was committed. So an id drawn after the change was
-- seen to be committed is above all of theirs. The changing transaction's own id would not do, a reader may have a later one; nor would
-- ours where this transaction had one already: then the next pass draws it.
create function switchyard._draw_barrier(p_agent text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  had_id boolean := pg_current_xact_id_if_assigned() is not null;
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  update switchyard.agent x set barrier = pg_current_xact_id()
   where x.id = a.id and not had_id and x.routing_version = a.routing_version
     -- A barrier from above our own id is of another life of this database (dump and restore).
     and (x.barrier is null or x.barrier > pg_current_xact_id());
end $$;

-- One pass: unfinished and parked rows of run 0 follow the routing of now, row by row under lock, at most five thousand, since
-- claims wait for the pass to end; a row that is being processed is skipped and met in a later pass. What the old system has
-- failed is parked first: it may have done half of it, so a person decides whether the agent repeats it. Complete when nothing is left over and every transaction that may have
-- read an older routing has ended.
create function switchyard.reassign(p_agent text, out moved bigint, out complete boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  touched uuid[];
  -- Whose rows can be wrong: lets a pass find them without looking at those that are right.
  losing "char"[];
  left_over boolean;
begin
  perform switchyard._draw_barrier(p_agent);
  -- No change of routing during the pass.
  select * into a from switchyard.agent where name = p_agent for no key update;
  complete := coalesce(a.barrier < pg_snapshot_xmin(pg_current_snapshot()), false);

  losing := case a.mode when 'full' then '{o}' when 'percent' then '{o,n}' else '{n}' end;

  with wrong as materialized (
    select e.event_id
      from switchyard.delivery d
      join switchyard.event_log e on e.seq = d.seq
     where d.agent = a.id and d.run = 0 and d.state = 'f' and d.owner = 'o'
       and switchyard.owner_of(a.mode, a.percent, a.routed_by, e.aggregate_id, e.project_id) = 'n'
     limit 5000
       for update of d skip locked)
  select array_agg(w.event_id) into touched from wrong w;
  if touched is not null then
    perform switchyard.park_batch(p_agent, 'o', touched, array_fill(0, array[cardinality(touched)]), array_fill(null::int, array[cardinality(touched)]),
      array_fill('touched by the old system'::text, array[cardinality(touched)]), array_fill(null::text, array[cardinality(touched)]));
  end if;

  with wrong as materialized (
    select d.seq, o.owner
      from switchyard.delivery d
      join switchyard.event_log e on e.seq = d.seq
      cross join lateral (select switchyard.owner_of(a.mode, a.percent, a.routed_by, e.aggregate_id, e.project_id) as owner) o
     where d.agent = a.id and d.run = 0 and d.state in ('a', 'f', 'p') and d.owner = any (losing) and d.owner <> o.owner
       and not (d.owner = 'o' and d.state = 'f')
     limit 5000
       for update of d skip locked)
  update switchyard.delivery d set owner = w.owner, epoch = d.epoch + 1, sends = 0, deaths = 0, at = now(),
         next_attempt_at = case when d.state = 'p' then null else now() end
    from wrong w
   where d.agent = a.id and d.run = 0 and d.seq = w.seq and d.state in ('a', 'f', 'p');
  get diagnostics moved = row_count;

  select exists (
    select 1 from switchyard.delivery d
      join switchyard.event_log e on e.seq = d.seq
     where d.agent = a.id and d.run = 0 and d.state in ('a', 'f', 'p') and d.owner = any (losing)
       and d.owner <> switchyard.owner_of(a.mode, a.percent, a.routed_by, e.aggregate_id, e.project_id)) into left_over;
  complete := complete and not left_over;
  if moved > 0 then
    perform switchyard.note('reassign', p_agent, jsonb_build_object('moved', moved, 'complete', complete));
  end if;
end $$;

-- What belongs to the old system, is unfinished, and whose time has come, oldest first.
create function switchyard.todo_old(agent text, at_most int default 100) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  return query
  select e.event_id
    from (select d.seq, d.next_attempt_at from switchyard.delivery d
           where d.agent = a.id and d.owner = 'o' and d.state in ('a', 'f') and d.run = 0 and d.next_attempt_at <= now()
           order by d.next_attempt_at, d.seq limit at_most) x
    join switchyard.event_log e on e.seq = x.seq
   order by x.next_attempt_at, x.seq;
end $$;
