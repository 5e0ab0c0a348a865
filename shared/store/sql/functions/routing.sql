-- The routing of an agent, and how unfinished deliveries follow it.

-- Sets the routing; a null argument keeps its value. It applies from the next ask. Existing rows keep their owner until `reassign`; with `p_drain`
-- the steward calls that on every pass.
create or replace function switchyard.set_routing(
  p_agent text, p_mode text, p_percent int, p_drain boolean, p_beside boolean default false, p_operator text default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
begin
  perform switchyard.agent_named(p_agent);
  select * into a from switchyard.agent where name = p_agent for no key update;
  -- Set the operator first, because a trigger on the change also writes to the audit.
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  update switchyard.agent x set mode = coalesce(p_mode, x.mode), percent = coalesce(p_percent, x.percent), drain = coalesce(p_drain, x.drain),
         beside = coalesce(p_beside, x.beside), barrier = null, routing_version = x.routing_version + 1 where x.id = a.id;
  perform switchyard.note_as(p_operator, 'set_routing', p_agent, jsonb_strip_nulls(jsonb_build_object(
    'mode', p_mode, 'percent', p_percent, 'drain', p_drain, 'beside', p_beside, 'was_mode', a.mode, 'was_percent', a.percent, 'was_drain', a.drain)));
end $$;

-- Pins a project to one side ('n' or 'o') at every percentage; null removes the pin. Raises SY004 if the agent has 1,000 pinned projects.
create or replace function switchyard.pin(p_agent text, p_project text, p_owner "char", p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  -- Every ask reads the pins.
  most constant int := 1000;
  a switchyard.agent;
begin
  perform switchyard.agent_named(p_agent);
  select * into a from switchyard.agent where name = p_agent for no key update;
  if p_owner is not null and cardinality(a.pinned_new) + cardinality(a.pinned_old) >= most
     and not p_project = any (a.pinned_new || a.pinned_old) then
    raise exception '% has % pinned projects, which is the maximum: remove a pin, or move projects by the percentage', p_agent, most using errcode = 'SY004';
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

-- Counts live deliveries that are unfinished or parked, by what `reassign` would do: to the agent, to the old system, or neither. `touched` are
-- those of `to_new` that the old system has failed at any time; `reassign` parks them first. The cost grows with the unfinished deliveries: a few
-- seconds for each million.
create or replace function switchyard.routing_moves(
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

-- Sets the barrier of the last change of the routing, if it has none. A transaction takes its id before it reads the routing (`_create_deliveries`),
-- and one that read an older routing did so before the change committed. So an id that is assigned after that commit is above all of theirs. The id
-- of the changing transaction is no barrier, because a reader may have a higher one. Nor is ours if we had one already; then the next pass sets the
-- barrier.
create or replace function switchyard._set_barrier(p_agent text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  had_id boolean := pg_current_xact_id_if_assigned() is not null;
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  update switchyard.agent x set barrier = pg_current_xact_id()
   where x.id = a.id and not had_id and x.routing_version = a.routing_version
     -- A barrier above our own id is from before a dump and restore.
     and (x.barrier is null or x.barrier > pg_current_xact_id());
end $$;

-- Gives unfinished and parked deliveries of run 0 to the owner that the routing names now. Returns how many moved, and whether the reassignment is
-- complete: nothing is left, and every transaction that may have read an older routing has ended. It locks and moves at most 5,000 rows, because
-- claims wait for it to end. It skips a row that is being processed; a later pass moves it.
--
-- A delivery that the old system has failed, even if it was sent back since, is parked first: the old system may have done half of it, so an
-- operator decides whether the agent repeats it. A delivery that the agent has failed or parked starts again with the old system: no attempt of the
-- agent committed anything, and a parked row would be in no list that is read.
create or replace function switchyard.reassign(p_agent text, out moved bigint, out complete boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  touched uuid[];
  -- The owners whose rows can be wrong, so that the queries skip the others.
  losing "char"[];
  left_over boolean;
begin
  perform switchyard._set_barrier(p_agent);
  -- The lock keeps the routing from changing meanwhile.
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
      array_fill('touched_by_the_old_system'::text, array[cardinality(touched)]), array_fill(null::text, array[cardinality(touched)]));
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

-- One pass of `reassign` for an agent with a standing order to drain; no row for any other.
create or replace function switchyard.drain(p_agent text) returns table (moved bigint, complete boolean)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select x.moved, x.complete from switchyard.agent a cross join lateral switchyard.reassign(a.name) x where a.name = p_agent and a.drain
$$;
