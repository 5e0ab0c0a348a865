-- The outbox, which holds the events that are not yet published, and the leases of the shims that publish them.

-- `shard` decides which shim publishes the event. A stored shard costs the insert 0.5 of 22 µs; a computed one makes a read past 100,000 rows of
-- other shards take 70 ms instead of 7 ms. The shim deletes a row after the topic has accepted its event. An update to a published state would touch
-- three indexes.
create table switchyard.outbox (
  seq bigint primary key,
  due_at timestamptz,
  parked_at timestamptz,
  attempts smallint not null default 0,
  shard smallint not null,
  reason text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
-- Rows to publish now. Rows that are delayed or parked have indexes of their own, so their number does not slow down this one.
create index outbox_now on switchyard.outbox (seq) where parked_at is null and due_at is null;
create index outbox_later on switchyard.outbox (due_at, seq) where parked_at is null and due_at is not null;
create index outbox_parked on switchyard.outbox (seq) where parked_at is not null;

-- Leases. Each shard has one holder until a time by the database's clock.
create table switchyard.lease (
  name text not null,
  shard int not null,
  holder uuid,
  until timestamptz not null,
  primary key (name, shard)
);

-- Shims that share the shards, with or without a lease. `share` removes a participant after `until`.
create table switchyard.participant (
  name text not null,
  holder uuid not null,
  since timestamptz not null default clock_timestamp(),
  until timestamptz not null,
  notified boolean not null default false,
  primary key (name, holder)
);
