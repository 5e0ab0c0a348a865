-- The event log gives every event its sequence and survives publication.

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

-- Since when events are logged: what is older is history.
create table switchyard.logging (
  one boolean primary key default true check (one),
  since timestamptz not null
);

-- Every transaction that drew a sequence up to `seq` has an id below `xid`: once they have all ended, `seq` is stable.
create table switchyard.fence (
  seq bigint not null,
  xid xid8 not null,
  at timestamptz not null default clock_timestamp()
);
create index fence_at_idx on switchyard.fence (at);
-- It has no key, and where a publication is for all tables nothing without one could be deleted from it.
alter table switchyard.fence replica identity full;

-- How far history is numbered: the lowest sequence that was given, and the event that got it; all events still to be numbered are older.
-- History gets its sequences downwards, from the newest event on: so they are in order of creation however far back a later backfill reaches,
-- and below those of all live events, so that whatever is gated by the sequence takes it for older.
create table switchyard.history (
  one boolean primary key default true check (one),
  seq bigint not null default 0,
  at timestamptz,
  id uuid
);
insert into switchyard.history default values;

-- Events that were cancelled before their time. The event stays in its table, which is the record; no agent gets it, not even one that
-- subscribes later.
create table switchyard.cancelled (
  seq bigint primary key,
  event_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  reason text not null
);

-- Edited payloads. The event itself is the record and stays as it was; what is sent and read is the newest revision.
create table switchyard.revision (
  event_id uuid not null,
  revision int not null,
  payload jsonb not null,
  by text not null,
  at timestamptz not null default clock_timestamp(),
  reason text not null,
  primary key (event_id, revision)
);

-- Publishers' idempotency keys that count for a time only, each with the event that it stands for. A key without a window needs no row: its
-- event's id follows from it.
create table switchyard.publish_key (
  digest bytea primary key,
  event_id uuid not null,
  until timestamptz not null
);
create index publish_key_until on switchyard.publish_key (until);

create type switchyard.logged_event as (
  seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, payload text, payload_bytes int, metadata text, version int,
  created_at text, project_id text, revision int, excess text);
