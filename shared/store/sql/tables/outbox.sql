-- The outbox holds what is not published yet, and the leases say who publishes it.

-- `shard` says which of the shims that share the work publishes the event. It is stored and not computed when it is read: that costs the
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
-- What is to be published now, apart from what waits for its time: no number of rows that wait, or could not be published, is walked past.
create index outbox_now on switchyard.outbox (seq) where parked_at is null and due_at is null;
create index outbox_later on switchyard.outbox (due_at, seq) where parked_at is null and due_at is not null;
create index outbox_parked on switchyard.outbox (seq) where parked_at is not null;

-- Who may work on a shard now, by this database's clock: each shard has one holder at a time.
create table switchyard.lease (
  name text not null,
  shard int not null,
  holder uuid,
  until timestamptz not null,
  primary key (name, shard)
);

-- Who takes part in sharing the shards, whether it holds one yet or not. One that has died is forgotten once `until` has passed.
create table switchyard.participant (
  name text not null,
  holder uuid not null,
  since timestamptz not null default clock_timestamp(),
  until timestamptz not null,
  notified boolean not null default false,
  primary key (name, holder)
);
