-- The event log: it gives every event its sequence, and keeps the event's row after publication.

-- Insert-only. All ids except the event's own are text, so that no cast can fail the application's insert. CACHE 1 is required: a session that takes
-- several sequences ahead would use low ones after other sessions used higher ones.
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

-- When the event log starts. Older events are history.
create table switchyard.logging (
  one boolean primary key default true check (one),
  since timestamptz not null
);

-- Fences. Every transaction that drew a sequence up to `seq` has an id below `xid`. When all of them have ended, `seq` is stable.
create table switchyard.fence (
  seq bigint not null,
  xid xid8 not null,
  at timestamptz not null default clock_timestamp()
);
create index fence_at_idx on switchyard.fence (at);
-- The table has no key, and a publication `for all tables` refuses deletes from a table without a replica identity.
alter table switchyard.fence replica identity full;

-- How far history is numbered: the lowest sequence so far, and its event. All events without a number are older. History is numbered downwards, from
-- the newest event to the oldest. So the sequences follow the order of creation however far back a later backfill reaches, and every gate takes
-- history for older than live events.
create table switchyard.history (
  one boolean primary key default true check (one),
  seq bigint not null default 0,
  at timestamptz,
  id uuid
);
insert into switchyard.history default values;

-- Delayed events that an operator cancelled before they were due. The event stays in the application's table; no agent receives it, not even one
-- that subscribes later.
create table switchyard.cancelled (
  seq bigint primary key,
  event_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  reason text not null
);

-- Edited payloads. The application's row stays as it is; messages and agents get the newest revision.
create table switchyard.revision (
  event_id uuid not null,
  revision int not null,
  payload jsonb not null,
  by text not null,
  at timestamptz not null default clock_timestamp(),
  reason text not null,
  primary key (event_id, revision)
);

-- Idempotency keys with a window, and the event of each. A key without a window needs no row, because its event's id derives from it.
create table switchyard.publish_key (
  digest bytea primary key,
  event_id uuid not null,
  until timestamptz not null
);
create index publish_key_until on switchyard.publish_key (until);

create type switchyard.logged_event as (
  seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, payload text, payload_bytes int, metadata text, version int,
  created_at text, project_id text, revision int, excess text, seal_key bytea);
