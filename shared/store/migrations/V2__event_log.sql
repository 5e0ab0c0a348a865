-- The event log gives every event its sequence and survives publication; the outbox holds what is not published yet.

-- Insert-only. Ids are text (but the event's own), so that no cast can fail the application's insert.
-- CACHE 1 is part of the contract: a session that drew sequences ahead would use them after later ones.
create table switchyard.event_log (
  seq bigint generated always as identity (cache 1) primary key,
  logged_at timestamptz not null default clock_timestamp(),
  due_at timestamptz,
  event_id uuid not null unique,
  max_attempts smallint,
  aggregate_id text,
  type text not null,
  project_id text
);

-- `shard` says which of the shims that share the work publishes the event. It stands here and is not computed when it is read: that costs the
-- insert half a microsecond of 22, and looking past 100,000 rows of other shards takes 7 ms instead of 70.
-- A row is deleted once the topic has accepted its event. Marking it instead would update a table with three indexes.
create table switchyard.outbox (
  seq bigint primary key,
  due_at timestamptz,
  parked_at timestamptz,
  attempts smallint not null default 0,
  shard smallint not null,
  reason text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
-- What is to be published now, apart from what waits for its time: no number of rows that wait, or were set aside, is walked past.
create index outbox_now on switchyard.outbox (seq) where parked_at is null and due_at is null;
create index outbox_later on switchyard.outbox (due_at, seq) where parked_at is null and due_at is not null;
create index outbox_aside on switchyard.outbox (seq) where parked_at is not null;

-- Every transaction that drew a sequence up to `seq` has an id below `xid`: once they have all ended, `seq` is stable.
create table switchyard.fence (
  seq bigint not null,
  xid xid8 not null,
  at timestamptz not null default clock_timestamp()
);
create index fence_at_idx on switchyard.fence (at);

-- A timestamp out of an event's metadata, or null. Only asked for when the key is there, so the exception block costs
-- the ordinary insert nothing. The pattern keeps out 'infinity', 'tomorrow' and times without an offset; [0-9], since \d is any
-- alphabet's digit where the locale is ICU's.
create function switchyard.timestamp_or_null(given text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if given !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})$' then
    return null;
  end if;
  return given::timestamptz;
exception when others then
  return null;
end $$;

-- What the log keeps of an event. Written so that the planner inlines them: the trigger pays nothing for the names.
create function switchyard._project_of(metadata jsonb, payload jsonb) returns text
language sql immutable parallel safe
return coalesce(metadata ->> 'project_id', payload ->> 'project_id');

create function switchyard._due_at_of(metadata jsonb) returns timestamptz
language sql stable
return case when metadata ? 'deliver_at' then switchyard.timestamp_or_null(metadata ->> 'deliver_at') end;

create function switchyard._max_attempts_of(metadata jsonb) returns smallint
language sql immutable parallel safe
return case when metadata ->> 'max_attempts' ~ '^[0-9]{1,6}$'
            then greatest(1, least(100, (metadata ->> 'max_attempts')::int))::smallint end;

-- The shard of an aggregate, by its id alone: the same for ever, and the same that the shim computes. SHA-256, since it is the stable hash that
-- both have and that no policy on cryptography forbids. `convert_to` cannot fail in a database in UTF-8, and no other is migrated.
create function switchyard.shard_of(aggregate_id text) returns smallint
language sql stable parallel safe
return (get_byte(sha256(convert_to(coalesce(aggregate_id, ''), 'UTF8')), 0) & 15)::smallint;

do $$
begin
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'this database is in %, and events travel in UTF-8: use a database with the encoding UTF8', getdatabaseencoding()
      using errcode = 'SY001';
  end if;
end $$;

-- The one trigger on the application's table. It must never fail the insert and never wait: no cast that can fail, no
-- lock that another writer of another event holds. By row, not by statement: replication and direct inserts into a
-- partition fire row triggers only, and for the usual single row it costs the same (16 µs).
-- No conflict of any kind may fail it either: where rows were restored or replicated without the sequence's value, the
-- next sequences are taken. What stays unlogged then is found by `unlogged`, with every tick.
create function switchyard.log_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  with logged as (
    insert into switchyard.event_log (event_id, type, aggregate_id, project_id, due_at, max_attempts)
    values (new.id, coalesce(new.type::text, ''), new.aggregate_id::text, switchyard._project_of(new.metadata, new.payload),
            switchyard._due_at_of(new.metadata), switchyard._max_attempts_of(new.metadata))
    on conflict do nothing
    returning seq, due_at, aggregate_id)
  insert into switchyard.outbox (seq, due_at, shard) select l.seq, l.due_at, switchyard.shard_of(l.aggregate_id) from logged l
  on conflict do nothing;
  return null;
end $$;

-- Since when events are logged: what is older is history.
create table switchyard.logging (
  one boolean primary key default true check (one),
  since timestamptz not null
);

-- The last sequence drawn, committed or not; 0 before the first.
create function switchyard.last_seq() returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select case when is_called then last_value else last_value - 1 end from switchyard.event_log_seq_seq
$$;

-- Up to where no transaction can still commit an event, as of the fences older than `older_than`.
create function switchyard.stable_seq(older_than interval default '0') returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select coalesce(max(f.seq), 0) from switchyard.fence f
   where f.xid < pg_snapshot_xmin(pg_current_snapshot()) and f.at <= clock_timestamp() - older_than
$$;

-- Sets a fence. The order is the point: read the last sequence, THEN take an id of our own. Whoever drew a sequence had
-- inserted into `events` before, so had an id, and that id is below ours. The other way round loses events.
create function switchyard.set_fence() returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  s bigint;
  x xid8;
begin
  s := switchyard.last_seq();
  x := pg_current_xact_id();
  -- Ids start anew after a dump and restore: fences of another life would never come true, or too early.
  delete from switchyard.fence f where f.at < clock_timestamp() - interval '1 day' or f.xid > x;
  insert into switchyard.fence (seq, xid) values (s, x);
  return s;
end $$;

-- Refuses where row-level security hides events from this role: what it cannot see it would take for deleted, or for
-- never there. Owners see everything unless security is forced on them, and so do roles with BYPASSRLS.
create function switchyard._see_every_event() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if row_security_active('public.events') then
    raise exception 'row-level security filters what this role sees of public.events: use its owner, or a role with BYPASSRLS'
      using errcode = 'SY001';
  end if;
end $$;

-- Last, since from here to the commit the application's writers wait.
create trigger switchyard_log after insert on public.events
  for each row execute function switchyard.log_event();
-- Also where rows arrive by replication, which ordinary triggers sleep through.
alter table public.events enable always trigger switchyard_log;
insert into switchyard.logging (since) values (clock_timestamp());
