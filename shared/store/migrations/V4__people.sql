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
  error text,
  -- The queue's name for the message, where its body has no id of an event to go by.
  message_id text,
  -- Parked in the dead-letter queue alone: no delivery row says so.
  loose boolean not null default false,
  -- For what is loose: when it was sent back. Should it fail again, that is another row.
  redriven_at timestamptz
);
create index failure_event_idx on switchyard.failure (event_id);
create index failure_agent_idx on switchyard.failure (agent, at desc);
-- What is loose and was not sent back; a message that is parked twice, since a process died in between, is one.
create unique index failure_nameless_idx on switchyard.failure (agent, message_id, run) where message_id is not null and redriven_at is null;
create index failure_loose_idx on switchyard.failure (agent, at) where loose and redriven_at is null;

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

-- The same on behalf of an operator who is named. Transaction-local, as everything that goes through a pooler must be.
create function switchyard.note_as(p_operator text, p_action text, p_agent text, p_detail jsonb default '{}') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  perform switchyard.note(p_action, p_agent, p_detail);
end $$;

-- Bodies that are no events, so that nothing but the queue's own id names them. Repeating it changes nothing.
create function switchyard.park_nameless(p_agent text, p_message_ids text[], p_runs int[], p_reasons text[], p_errors text[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.failure (agent, message_id, run, attempt, parked, reason, error, loose)
  select p_agent, u.message_id, u.run, 1, true, u.reason, u.error, true
    from unnest(p_message_ids, p_runs, p_reasons, p_errors) with ordinality u (message_id, run, reason, error, ord)
   order by u.ord
  on conflict do nothing
$$;

-- Who may work on a shard just now, by this database's clock: each shard has one holder at a time.
create table switchyard.lease (
  name text not null,
  shard int not null,
  holder uuid,
  until timestamptz not null,
  primary key (name, shard)
);

-- Who takes part in sharing the shards, whether it holds one yet or not; somebody who died is forgotten when `until` has passed.
create table switchyard.sharer (
  name text not null,
  holder uuid not null,
  since timestamptz not null default clock_timestamp(),
  until timestamptz not null,
  knocked boolean not null default false,
  primary key (name, holder)
);

-- Those who share come one after the other, so that each sees what the one before has taken; the locks are taken in order.
create function switchyard._lock_leases(p_name text, p_shards int) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform 1 from switchyard.lease l where l.name = p_name order by l.shard for update;
  if not found then
    insert into switchyard.lease (name, shard, until) select p_name, s, '-infinity' from generate_series(0, p_shards - 1) s
    on conflict do nothing;
    perform 1 from switchyard.lease l where l.name = p_name order by l.shard for update;
  end if;
end $$;

-- Takes part: gives back `p_back`, renews what the caller holds, and takes what is free up to its fair share. The newest `p_at_once` stay and
-- share evenly; an older one has a fair share of nothing, so it hands over and leaves. Nothing is taken from its holder before its lease has
-- run out: who holds more than `fair` gives back when nothing is on its way for what it gives.
create function switchyard.share(p_name text, p_holder uuid, p_shards int, p_at_once int, p_ttl_ms bigint, p_back int[])
returns table (held int[], left_ms bigint, fair int, stays boolean, alone boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  -- Read before a possible wait for the locks, which errs on the safe side for all.
  t timestamptz := clock_timestamp();
  ends timestamptz := t + p_ttl_ms * interval '1 millisecond';
  have int;
  place record;
  free int[];
begin
  perform switchyard._lock_leases(p_name, p_shards);
  delete from switchyard.sharer s where s.name = p_name and s.until <= t and s.holder <> p_holder;
  insert into switchyard.sharer as s (name, holder, until) values (p_name, p_holder, ends)
  on conflict (name, holder) do update set until = excluded.until;

  -- Its place among them, the newest first; those who stay take the odd shards by age.
  select x.newest, x.others, least(x.others + 1, greatest(p_at_once, 1)) as staying into place
    from (select s.holder, row_number() over (order by s.since desc, s.holder) as newest, count(*) over () - 1 as others
            from switchyard.sharer s where s.name = p_name) x
   where x.holder = p_holder;
  stays := place.newest <= place.staying;
  alone := place.others = 0;
  fair := case when stays then p_shards / place.staying + (place.staying - place.newest < p_shards % place.staying)::int else 0 end;

  update switchyard.lease l set holder = null where l.name = p_name and l.holder = p_holder and l.shard = any (p_back);
  update switchyard.lease l set until = ends where l.name = p_name and l.holder = p_holder;
  get diagnostics have = row_count;
  if have < fair then
    free := array(select l.shard from switchyard.lease l
                   where l.name = p_name and (l.holder is null or (l.holder <> p_holder and l.until <= t))
                   order by l.shard limit fair - have);
    update switchyard.lease l set holder = p_holder, until = ends where l.name = p_name and l.shard = any (free);
  end if;

  held := array(select l.shard from switchyard.lease l where l.name = p_name and l.holder = p_holder order by l.shard);
  left_ms := greatest(0, floor(extract(epoch from ends - clock_timestamp()) * 1000));
  return next;
end $$;

-- Gives everything back and takes part no more. Where somebody has knocked meanwhile it does nothing but forget that, and the answer is
-- false: look once more; `p_anyway` leaves all the same.
create function switchyard.leave(p_name text, p_holder uuid, p_shards int, p_anyway boolean) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchyard._lock_leases(p_name, p_shards);
  if not p_anyway then
    update switchyard.sharer s set knocked = false where s.name = p_name and s.holder = p_holder and s.knocked;
    if found then
      return false;
    end if;
  end if;
  update switchyard.lease l set holder = null where l.name = p_name and l.holder = p_holder;
  delete from switchyard.sharer s where s.name = p_name and s.holder = p_holder;
  return true;
end $$;

-- Whether somebody is there already; whoever is looks once more before it leaves of its own accord. Takes no lock that sharing waits for.
create function switchyard.knock(p_name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.sharer s set knocked = true where s.name = p_name and s.until > clock_timestamp() and not s.knocked;
  -- Asked again even so: one that has left meanwhile is no longer among those found.
  return found or exists (select from switchyard.sharer s where s.name = p_name and s.until > clock_timestamp());
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
