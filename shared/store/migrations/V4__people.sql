-- What people look at, and the small tables that agents and the shim share.

-- Each failed or parked attempt. An event that is not in the table has no sequence.
create table switchyard.failure (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  agent text not null,
  event_id uuid,
  run int not null,
  seq bigint,
  attempt int not null,
  parked boolean not null,
  reason text not null,
  error text
);
create index failure_event_idx on switchyard.failure (event_id);
create index failure_agent_idx on switchyard.failure (agent, at desc);

-- What an agent in shadow mode would have done. JSON, not JSONB: a decision may hold what JSONB refuses.
create table switchyard.shadow (
  agent text not null,
  event_id uuid not null,
  run int not null,
  at timestamptz not null default clock_timestamp(),
  times int not null default 1,
  decision json not null,
  primary key (agent, event_id, run)
);

-- Who moved which lever.
create table switchyard.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  action text not null,
  agent text,
  detail jsonb not null default '{}'
);

-- `operator` is a transaction-local setting, so that a console can say on whose behalf it acts.
create function switchyard.note(p_action text, p_agent text, p_detail jsonb default '{}') returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.audit (by, action, agent, detail)
  values (coalesce(nullif(current_setting('switchyard.operator', true), ''), session_user), p_action, p_agent, p_detail)
$$;

-- Who may work on a shard just now, by this database's clock.
create table switchyard.lease (
  name text primary key,
  holder uuid not null,
  until timestamptz not null,
  wanted boolean not null default false
);

-- Acquires or renews. An attempt that fails leaves the mark `wanted`, which the holder sees when it renews.
create function switchyard.lease(p_name text, p_holder uuid, p_ttl_ms bigint)
returns table (held boolean, left_ms bigint, wanted boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  -- Read before a possible wait for the row, which errs on the safe side for both.
  t timestamptz := clock_timestamp();
begin
  return query
  insert into switchyard.lease as l (name, holder, until) values (p_name, p_holder, t + p_ttl_ms * interval '1 millisecond')
  on conflict (name) do update set
    holder = case when l.holder = p_holder or l.until <= t then p_holder else l.holder end,
    until = case when l.holder = p_holder or l.until <= t then excluded.until else l.until end,
    wanted = case when l.holder = p_holder then l.wanted else l.until > t end
  returning l.holder = p_holder, greatest(0, floor(extract(epoch from l.until - clock_timestamp()) * 1000))::bigint, l.wanted;
end $$;

create function switchyard.release(p_name text, p_holder uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  delete from switchyard.lease where name = p_name and holder = p_holder;
  return found;
end $$;

-- The newest sequence that was applied to an aggregate by an agent: what overwrites state asks here first.
create table switchyard.gate (
  agent text not null,
  aggregate_type text not null,
  aggregate_id text not null,
  seq bigint not null,
  primary key (agent, aggregate_type, aggregate_id)
);

create function switchyard.pass_gate(p_agent text, p_aggregate_type text, p_aggregate_id text, p_seq bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  insert into switchyard.gate as g (agent, aggregate_type, aggregate_id, seq)
  values (p_agent, p_aggregate_type, p_aggregate_id, p_seq)
  on conflict (agent, aggregate_type, aggregate_id) do update set seq = excluded.seq where g.seq <= excluded.seq;
  return found;
end $$;
