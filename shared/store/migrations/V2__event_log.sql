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

-- A row is deleted once the topic has accepted its event. Marking it instead would update a table with three indexes.
create table switchyard.outbox (
  seq bigint primary key,
  due_at timestamptz,
  parked_at timestamptz,
  attempts smallint not null default 0,
  reason text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Every transaction that drew a sequence up to `seq` has an id below `xid`: once they have all ended, `seq` is stable.
create table switchyard.fence (
  seq bigint not null,
  xid xid8 not null,
  at timestamptz not null default clock_timestamp()
);
create index fence_at_idx on switchyard.fence (at);

-- A timestamp out of an event's metadata, or null. Only asked for when the key is there, so the exception block costs
-- the ordinary insert nothing. The pattern keeps out 'infinity', 'tomorrow' and times without an offset.
create function switchyard.timestamp_or_null(given text) returns timestamptz
language plpgsql stable set search_path = pg_catalog as $$
begin
  if given !~ '^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)$' then
    return null;
  end if;
  return given::timestamptz;
exception when others then
  return null;
end $$;

-- The one trigger on the application's table. It must never fail the insert and never wait: no cast that can fail, no
-- lock that another writer of another event holds. By row, not by statement: replication and direct inserts into a
-- partition fire row triggers only, and for the usual single row it costs the same (16 µs).
create function switchyard.log_event() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  with logged as (
    insert into switchyard.event_log (event_id, type, aggregate_id, project_id, due_at, max_attempts)
    values (new.id, coalesce(new.type, ''), new.aggregate_id::text,
            coalesce(new.metadata ->> 'project_id', new.payload ->> 'project_id'),
            case when new.metadata ? 'deliver_at' then switchyard.timestamp_or_null(new.metadata ->> 'deliver_at') end,
            case when new.metadata ->> 'max_attempts' ~ '^\d{1,6}$'
                 then greatest(1, least(100, (new.metadata ->> 'max_attempts')::int)) end)
    on conflict (event_id) do nothing
    returning seq, due_at)
  insert into switchyard.outbox (seq, due_at) select l.seq, l.due_at from logged l;
  return null;
end $$;

create trigger switchyard_log after insert on public.events
  for each row execute function switchyard.log_event();
-- Also where rows arrive by replication, which ordinary triggers sleep through.
alter table public.events enable always trigger switchyard_log;

-- The last sequence drawn, committed or not; 0 before the first.
create function switchyard.last_seq() returns bigint
language sql volatile set search_path = pg_catalog as $$
  select case when is_called then last_value else last_value - 1 end from switchyard.event_log_seq_seq
$$;

-- Up to where no transaction can still commit an event, as of the fences older than `older_than`.
create function switchyard.stable_seq(older_than interval default '0') returns bigint
language sql volatile set search_path = pg_catalog as $$
  select coalesce(max(f.seq), 0) from switchyard.fence f
   where f.xid < pg_snapshot_xmin(pg_current_snapshot()) and f.at <= clock_timestamp() - older_than
$$;

-- Sets a fence. The order is the point: read the last sequence, THEN take an id of our own. Whoever drew a sequence had
-- inserted into `events` before, so had an id, and that id is below ours. The other way round loses events.
create function switchyard.set_fence() returns bigint
language plpgsql volatile set search_path = pg_catalog as $$
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
