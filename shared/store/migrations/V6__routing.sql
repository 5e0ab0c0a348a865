-- Deployment and cutover: who listens to what, and whose turn it is.

-- Registers an agent or brings it up to date. New types are listened to from now on; a type that is gone from the list
-- ends with the last sequence drawn. Mode counts at the first registration only: afterwards people move that lever.
-- From the beginning: what it did not listen to until now, from the floor on, becomes a period of its own, so that the watermark and
-- the count of the period that goes on stay what they are. Refused where a backfill has taken of those events, or is about to: they would be
-- done twice.
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
  backfilled text[];
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
      returning type, from_seq, until_seq)
    select coalesce(array_agg(distinct f.type order by f.type), '{}'),
           array_agg(distinct f.type order by f.type) filter (where exists (
             select 1 from switchyard.backfill b
              where b.agent = a.id and f.type = any (b.types) and b.last_seq >= f.from_seq and b.first_seq <= f.until_seq
                and (b.taken > 0 or b.state in ('running', 'paused'))))
      into extended, backfilled from filled f;
    if backfilled is not null then
      raise exception '% has a backfill of %, and from the beginning those events would be done again: register it from now on, and let another backfill take what is left (switchyard backfill % --since TIME)',
        p_agent, array_to_string(backfilled, ', '), p_agent using errcode = 'SY004';
    end if;
  end if;

  if created or added <> '{}' or removed <> '{}' or extended <> '{}' then
    perform switchyard.note('register', p_agent,
      jsonb_build_object('created', created, 'added', added, 'removed', removed, 'extended', extended));
  end if;
  return next;
end $$;

-- Moves the lever; what is null stays as it is. Acts on the next ask; rows that are there keep their owner until `reassign`, which `p_drain` makes a
-- standing order.
create function switchyard.set_routing(
  p_agent text, p_mode text, p_percent int, p_drain boolean, p_beside boolean default false, p_operator text default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
begin
  perform switchyard.agent_named(p_agent);
  select * into a from switchyard.agent where name = p_agent for no key update;
  -- Before the change: what hangs on it is noted on the same person's behalf.
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  update switchyard.agent x set mode = coalesce(p_mode, x.mode), percent = coalesce(p_percent, x.percent), drain = coalesce(p_drain, x.drain),
         beside = coalesce(p_beside, x.beside), barrier = null, routing_version = x.routing_version + 1 where x.id = a.id;
  perform switchyard.note_as(p_operator, 'set_routing', p_agent, jsonb_strip_nulls(jsonb_build_object(
    'mode', p_mode, 'percent', p_percent, 'drain', p_drain, 'beside', p_beside, 'was_mode', a.mode, 'was_percent', a.percent, 'was_drain', a.drain)));
end $$;

-- Puts a project to one side ('n' or 'o') whatever the percentage says, or, with null, leaves it to the percentage again.
create function switchyard.pin(p_agent text, p_project text, p_owner "char", p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  -- Every ask reads them.
  most constant int := 1000;
  a switchyard.agent;
begin
  perform switchyard.agent_named(p_agent);
  select * into a from switchyard.agent where name = p_agent for no key update;
  if p_owner is not null and cardinality(a.pinned_new) + cardinality(a.pinned_old) >= most
     and not p_project = any (a.pinned_new || a.pinned_old) then
    raise exception '% has % pinned projects, and more there cannot be: move them by the percentage', p_agent, most using errcode = 'SY004';
  end if;
  update switchyard.agent x set
         pinned_new = array_remove(x.pinned_new, p_project) || case when p_owner = 'n' then array[p_project] else '{}' end,
         pinned_old = array_remove(x.pinned_old, p_project) || case when p_owner = 'o' then array[p_project] else '{}' end,
         barrier = null, routing_version = x.routing_version + 1
   where x.id = a.id;
  perform switchyard.note_as(p_operator, 'pin', p_agent, jsonb_build_object(
    'project', p_project, 'to', case p_owner when 'n' then 'new' when 'o' then 'old' else 'none' end,
    'was', case when p_project = any (a.pinned_new) then 'new' when p_project = any (a.pinned_old) then 'old' else 'none' end));
end $$;

-- Of the live deliveries that are unfinished or parked: how many the routing of now would give to the other side, which `reassign` does, and how
-- many are with whom they should be. Of those that would go to the agent, `touched` were failed by the old system, whatever came of them since, and
-- are parked on the way. Costs
-- as much as there is unfinished: a few seconds for each million.
create function switchyard.routing_moves(
  p_agent text, out to_new bigint, out to_old bigint, out touched bigint, out stay_new bigint, out stay_old bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  select count(*) filter (where x.has = 'o' and x.should = 'n'), count(*) filter (where x.has = 'n' and x.should = 'o'),
         count(*) filter (where x.has = 'o' and x.should = 'n' and x.touched and x.state <> 'p'),
         count(*) filter (where x.has = 'n' and x.should = 'n'), count(*) filter (where x.has = 'o' and x.should = 'o')
    into to_new, to_old, touched, stay_new, stay_old
    from (select d.owner as has, d.state, d.touched, switchyard.owner_of(a, e.aggregate_id, e.project_id) as should
            from switchyard.delivery d join switchyard.event_log e on e.seq = d.seq
           where d.agent = a.id and d.run = 0 and d.state in ('a', 'f', 'p')) x;
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
-- failed, be it that somebody has put it back since, is parked first: it may have done half of it, so a person decides whether the agent
-- repeats it. What the agent has failed or parked begins anew with the old system: of the agent's attempts nothing was committed, and a row that
-- stayed parked would stand in nobody's list. Complete when nothing is left over and every transaction that may have read an older routing has ended.
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
     where d.agent = a.id and d.run = 0 and d.state in ('a', 'f') and d.owner = 'o' and d.owner = any (losing) and d.touched
       and switchyard.owner_of(a, e.aggregate_id, e.project_id) = 'n'
     limit 5000
       for update of d skip locked)
  select array_agg(w.event_id) into touched from wrong w;
  if touched is not null then
    perform switchyard.park_batch(p_agent, 'o', touched, array_fill(0, array[cardinality(touched)]), array_fill(null::int, array[cardinality(touched)]),
      array_fill('touched by the old system'::text, array[cardinality(touched)]), array_fill(null::text, array[cardinality(touched)]));
  end if;

  with wrong as materialized (
    select d.seq, o.owner, e.due_at
      from switchyard.delivery d
      join switchyard.event_log e on e.seq = d.seq
      cross join lateral (select switchyard.owner_of(a, e.aggregate_id, e.project_id) as owner) o
     where d.agent = a.id and d.run = 0 and d.state in ('a', 'f', 'p') and d.owner = any (losing) and d.owner <> o.owner
       and not (d.owner = 'o' and d.touched and d.state <> 'p')
     limit 5000
       for update of d skip locked)
  update switchyard.delivery d set owner = w.owner, epoch = d.epoch + 1, sends = 0, deaths = 0, at = now(), given_at = clock_timestamp(),
         state = case when w.owner = 'o' then 'a' else d.state end, attempts = case when w.owner = 'o' then 0 else d.attempts end,
         next_attempt_at = case when w.owner = 'n' and d.state = 'p' then null else greatest(now(), w.due_at) end
    from wrong w
   where d.agent = a.id and d.run = 0 and d.seq = w.seq and d.state in ('a', 'f', 'p');
  get diagnostics moved = row_count;

  select exists (
    select 1 from switchyard.delivery d
      join switchyard.event_log e on e.seq = d.seq
     where d.agent = a.id and d.run = 0 and d.state in ('a', 'f', 'p') and d.owner = any (losing)
       and d.owner <> switchyard.owner_of(a, e.aggregate_id, e.project_id)) into left_over;
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

-- What the old system has parked, or failed until its attempts were used up: for a person to look at, the longest first.
create function switchyard.parked_old(agent text, at_most int default 100) returns table (event_id uuid, reason text, attempts int, at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  return query
  select e.event_id, x.reason, x.attempts::int, x.at
    from (select d.seq, d.reason, d.attempts, d.at from switchyard.delivery d
           where d.agent = a.id and d.owner = 'o' and d.state = 'p' and d.run = 0 order by d.seq limit at_most) x
    join switchyard.event_log e on e.seq = x.seq
   order by x.seq;
end $$;

-- Puts one of these back into the old system's list, with its attempts counted anew. False where it is not parked for the old system: nothing
-- was done then.
create function switchyard.retry(agent text, event_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  update switchyard.delivery d set state = 'a', attempts = 0, epoch = d.epoch + 1, redrives = least(d.redrives + 1, 32767),
         next_attempt_at = now(), at = now(), given_at = clock_timestamp()
    from switchyard.event_log e
   where e.event_id = retry.event_id and d.agent = a.id and d.seq = e.seq and d.run = 0 and d.owner = 'o' and d.state = 'p';
  if found then
    perform switchyard.note('retry', agent, jsonb_build_object('event_id', event_id));
  end if;
  return found;
end $$;
