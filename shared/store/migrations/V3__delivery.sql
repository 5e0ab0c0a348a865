-- The delivery ledger's tables: who should get what, and how far it came.

create table switchyard.agent (
  id smallint generated always as identity primary key,
  name text not null unique,
  mode text not null default 'full' check (mode in ('off', 'shadow', 'percent', 'full')),
  percent int not null default 0 check (percent between 0 and 100),
  -- Projects that go to one side whatever their hash says. They beat the percentage, and nothing else: `full`, `off` and `shadow` are for all.
  pinned_new text[] not null default '{}',
  pinned_old text[] not null default '{}',
  -- While there is a percentage: of what the old system owns, the agent decides in shadow.
  beside boolean not null default false,
  routed_by text not null default 'aggregate' check (routed_by in ('aggregate', 'project')),
  -- A standing order: after each sweep unfinished rows follow the routing of now.
  drain boolean not null default false,
  -- Goes up with every change of routing.
  routing_version int not null default 0,
  -- Drawn after the last change was committed: whoever may have read an older routing has a lower transaction id.
  barrier xid8,
  max_attempts smallint not null default 4 check (max_attempts between 1 and 100),
  -- How long a delivery may be under way before it counts as lost and is sent again.
  grace interval not null default '2 minutes',
  -- Automatic redrive: how often for one delivery, and how long after it was parked the first time. Null: never.
  auto_redrive_times smallint check (auto_redrive_times between 1 and 100),
  auto_redrive_after interval check (auto_redrive_after > interval '0'),
  check ((auto_redrive_times is null) = (auto_redrive_after is null))
);

-- One row for each period in which an agent listens to a type; periods of one agent and type do not overlap.
create table switchyard.subscription (
  agent smallint not null references switchyard.agent,
  type text not null,
  from_seq bigint not null,
  until_seq bigint,
  -- A watermark: every event of the period up to here has a delivery row, and `n` counts them.
  checked bigint not null,
  n bigint not null default 0,
  primary key (agent, type, from_seq)
);

create table switchyard.run (
  run int generated always as identity primary key,
  agent smallint not null references switchyard.agent,
  open boolean not null default true,
  -- What follows from the events of a replay was said when they were live, and is not said again; what follows from those of a backfill was never
  -- said.
  kind text not null default 'replay' check (kind in ('replay', 'backfill')),
  reason text,
  by text not null,
  at timestamptz not null default now()
);

-- Nothing below is ever run again: its delivery rows are gone, so "once" could not be promised any more.
create table switchyard.floor (
  one boolean primary key default true check (one),
  seq bigint not null default 1
);
insert into switchyard.floor default values;

-- What was cancelled before its time. The event stays in its table, which is the record; no agent gets it, not even one that listens to it only later.
create table switchyard.cancelled (
  seq bigint primary key,
  event_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  reason text not null
);

-- What arrived from below the floor.
create table switchyard.late (
  agent smallint not null,
  event_id uuid not null,
  run int not null,
  first_at timestamptz not null default now(),
  n int not null default 1,
  primary key (agent, event_id, run)
);

-- The counts of partitions that were dropped.
create table switchyard.retired (
  agent smallint not null,
  run int not null,
  state "char" not null,
  owner "char" not null,
  n bigint not null,
  first_seq bigint not null,
  last_seq bigint not null
);

-- One row for each (agent, run, event).
-- state: a assigned, f failing, p parked; final: d done, s superseded, e expired. owner: n new, o old.
create table switchyard.delivery (
  seq bigint not null,
  at timestamptz not null default now(),
  next_attempt_at timestamptz,
  -- When it was last given to whoever has it: brought back, or changed hands. Null for what has been theirs all the time.
  given_at timestamptz,
  run int not null,
  epoch int not null default 0,
  agent smallint not null,
  attempts smallint not null default 0,
  -- How often `due` has handed it out since the last answer of any kind.
  sends smallint not null default 0,
  -- How often it was brought back after it had been parked, by whomever.
  redrives smallint not null default 0,
  -- How often it was tried alone, as the suspect for a process that died, and did not come out alive.
  deaths smallint not null default 0,
  -- How often a message of it was given back to its queue without an attempt.
  returns smallint not null default 0,
  -- Whether the old system has failed or parked it: it may have done half of it. Never taken back, whatever becomes of the row.
  touched boolean not null default false,
  owner "char" not null check (owner in ('n', 'o')),
  state "char" not null check (state in ('a', 'f', 'p', 'd', 's', 'e')),
  reason text,
  -- In this order: with the run before the sequence the planner may skip it, since nearly all runs are 0, and read an
  -- agent's whole index for one row.
  primary key (agent, seq, run)
) partition by range (seq);
create index delivery_open on switchyard.delivery (agent, state, owner, next_attempt_at) where state <> 'd';
-- In the order in which `due` and `todo_old` hand out, so that a million due rows cost no more than the hundred that are asked for.
create index delivery_due on switchyard.delivery (agent, owner, next_attempt_at, seq) where state in ('a', 'f');
-- What a person looks at and redrives, in the order in which it goes back.
create index delivery_parked on switchyard.delivery (agent, owner, seq, run) where state = 'p';
-- What a cutover's step answers for beside what came since.
create index delivery_given on switchyard.delivery (agent, given_at) where given_at is not null;

-- Adds the partition for [first, past). Built aside and attached, since `create table ... partition of` would lock out
-- every claim while it waits for the running ones.
create function switchyard.add_partition(first bigint, past bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  name text := 'delivery_' || first;
begin
  execute format('create table switchyard.%I (like switchyard.delivery including all)', name);
  execute format('alter table switchyard.delivery attach partition switchyard.%I for values from (%s) to (%s)', name, first, past);
end $$;

-- History: what a backfill has done of events from before the log, whose sequences are below 1. Apart from the others, since it is kept for good: a
-- second backfill goes by it.
create table switchyard.delivery_history (like switchyard.delivery including all);
alter table switchyard.delivery attach partition switchyard.delivery_history for values from (minvalue) to (1);

create view switchyard.delivery_partition as
  select c.relname::text as name,
         (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\) TO \(''?(\d+)''?\)'))[1]::bigint as first,
         (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\) TO \(''?(\d+)''?\)'))[2]::bigint as past
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'switchyard.delivery'::regclass and c.relname <> 'delivery_history';

-- Keeps `ahead` sequences of room above the last one drawn. Returns how many partitions it added.
create function switchyard.ensure_partitions(ahead bigint default 5000000, size bigint default 1000000) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  top bigint;
  added int := 0;
begin
  -- The common case takes no lock.
  select max(past) into top from switchyard.delivery_partition;
  if top is not null and top > switchyard.last_seq() + ahead then
    return 0;
  end if;
  lock table switchyard.delivery in share update exclusive mode;
  select coalesce(max(past), 1) into top from switchyard.delivery_partition;
  while top <= switchyard.last_seq() + ahead loop
    perform switchyard.add_partition(top, top + size);
    top := top + size;
    added := added + 1;
  end loop;
  return added;
end $$;
select switchyard.ensure_partitions();
