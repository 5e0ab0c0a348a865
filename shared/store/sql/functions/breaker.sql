-- The breaker of each agent.

-- Returns how long a breaker stays open that has opened this many times in a row: 30 s, doubled each time, at most 15 minutes.
create or replace function switchyard._breaker_wait(opens int) returns interval
language sql immutable parallel safe
return least(interval '30 seconds' * power(2, least(greatest(opens, 1), 10) - 1), interval '15 minutes');

-- Returns the breaker's row and locks it. Inserts the row if it was deleted, because without it the breaker could not open.
create or replace function switchyard._breaker_of(p_agent text) returns switchyard.breaker
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  b switchyard.breaker;
begin
  select x.* into b from switchyard.breaker x where x.agent = a.id for update;
  if not found then
    insert into switchyard.breaker (agent) values (a.id) on conflict do nothing;
    select x.* into b from switchyard.breaker x where x.agent = a.id for update;
  end if;
  return b;
end $$;

-- Returns the breaker's state without a lock; `closed` if there is no row, since nothing has ever opened it. PL/pgSQL, because each batch calls it,
-- and before Postgres 18 an SQL function is planned at each call.
create or replace function switchyard.breaker_state(p_agent text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce((select b.state from switchyard.breaker b join switchyard.agent a on a.id = b.agent where a.name = p_agent), 'closed');
end $$;

-- Opens a closed or half-open breaker, because the dependency is down. An open or forced breaker stays as it is. Returns the new state.
create or replace function switchyard.trip(p_agent text, p_reason text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.breaker := switchyard._breaker_of(p_agent);
  again int := case when b.state = 'half_open' then least(b.opens + 1, 32767) else 1 end;
begin
  if b.forced or b.state = 'open' then
    return b.state;
  end if;
  update switchyard.breaker x set state = 'open', reason = p_reason, since = clock_timestamp(), opens = again,
         retry_at = clock_timestamp() + switchyard._breaker_wait(again), probe_until = null
   where x.agent = b.agent;
  perform switchyard.note('breaker_opened', p_agent, jsonb_build_object('was', b.state, 'reason', p_reason, 'opens', again,
    'wait_secs', extract(epoch from switchyard._breaker_wait(again))::int));
  return 'open';
end $$;

-- Makes an open breaker half-open after its wait, so that the runtime probes with single records. Returns the new state.
create or replace function switchyard.half_open(p_agent text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.breaker := switchyard._breaker_of(p_agent);
begin
  if b.forced or b.state <> 'open' or b.retry_at > clock_timestamp() then
    return b.state;
  end if;
  update switchyard.breaker x set state = 'half_open', since = clock_timestamp(), retry_at = null where x.agent = b.agent;
  perform switchyard.note('breaker_half_open', p_agent, jsonb_build_object('opens', b.opens));
  return 'half_open';
end $$;

-- Returns whether the caller may try one record now. Only one caller at a time may; if it dies, the next one may after a minute.
create or replace function switchyard.probe(p_agent text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  -- Read the time before a possible wait for the row. Otherwise two concurrent callers could both find the lease expired.
  t timestamptz := clock_timestamp();
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  -- Concurrent callers wait for the row and then read the first one's lease.
  update switchyard.breaker x set probe_until = t + interval '60 seconds'
   where x.agent = a.id and x.state = 'half_open' and not x.forced
     and (x.probe_until is null or x.probe_until <= t);
  return found;
end $$;

-- Closes a half-open breaker after a successful probe. Returns the new state.
create or replace function switchyard.recovered(p_agent text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.breaker := switchyard._breaker_of(p_agent);
begin
  if b.forced or b.state <> 'half_open' then
    return b.state;
  end if;
  update switchyard.breaker x set state = 'closed', reason = null, since = clock_timestamp(), opens = 0, retry_at = null, probe_until = null
   where x.agent = b.agent;
  perform switchyard.note('breaker_closed', p_agent, jsonb_build_object('opens', b.opens));
  return 'closed';
end $$;

-- Forces the breaker open or closed until an operator changes it; null ends that. A breaker that was forced open is then probed at once, since the
-- operator sees no reason to wait. Raises SY004 for another state.
create or replace function switchyard.force_breaker(p_agent text, p_state text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.breaker := switchyard._breaker_of(p_agent);
begin
  if p_state is not null and p_state not in ('open', 'closed') then
    raise exception 'a breaker is forced open or closed, not %', p_state using errcode = 'SY004';
  end if;
  update switchyard.breaker x set
         state = coalesce(p_state, x.state), forced = p_state is not null,
         since = case when coalesce(p_state, x.state) = x.state then x.since else clock_timestamp() end,
         reason = case when p_state is null then case when x.state = 'closed' then null else x.reason end else 'forced by ' || p_operator end,
         opens = case coalesce(p_state, x.state) when 'closed' then 0 else greatest(x.opens, 1) end,
         retry_at = case when p_state is null then x.retry_at end,
         probe_until = case when p_state is null then x.probe_until end
   where x.agent = b.agent;
  perform switchyard.note_as(p_operator, 'breaker_forced', p_agent, jsonb_build_object('to', coalesce(p_state, 'auto'), 'was', b.state));
end $$;

-- Records which event source mappings the steward has turned off or on.
create or replace function switchyard.set_paused(p_agent text, p_mappings text[], p_paused boolean) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  b switchyard.breaker := switchyard._breaker_of(p_agent);
  now_paused text[] := array(
    select m from unnest(b.paused) m where m <> all (p_mappings) union select m from unnest(p_mappings) m where p_paused order by 1);
begin
  if b.paused <> now_paused then
    update switchyard.breaker x set paused = now_paused where x.agent = b.agent;
    perform switchyard.note(case when p_paused then 'queue_paused' else 'queue_resumed' end, p_agent, jsonb_build_object('breaker', b.state));
  end if;
end $$;

-- The breakers of all agents, by name.
create or replace function switchyard.breakers()
returns table (agent text, state text, forced boolean, reason text, since text, opens smallint, retry_in_secs double precision, paused text[])
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select a.name, b.state, b.forced, b.reason, switchyard.rfc3339(b.since), b.opens,
         greatest(0, coalesce(extract(epoch from b.retry_at - clock_timestamp()), 0))::float8, b.paused
    from switchyard.breaker b join switchyard.agent a on a.id = b.agent order by a.name
$$;
