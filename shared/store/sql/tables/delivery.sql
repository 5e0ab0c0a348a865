-- The delivery ledger: who should get what, and how far it came.

-- A run above 0: deliveries of events that were final, or never sent.
create table switchyard.run (
  run int generated always as identity primary key,
  agent smallint not null references switchyard.agent,
  open boolean not null default true,
  -- What follows from the events of a replay was emitted when they were live, and is not emitted again; what follows from those of a backfill
  -- never was.
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

-- One row for each (agent, run, event).
-- state: a assigned, f failing, p parked; final: d done, s superseded, e expired. owner: n new, o old.
create table switchyard.delivery (
  seq bigint not null,
  at timestamptz not null default now(),
  next_attempt_at timestamptz,
  -- When it was last given to its owner: brought back, or changed hands. Null for what was its owner's all the time.
  given_at timestamptz,
  run int not null,
  epoch int not null default 0,
  agent smallint not null,
  attempts smallint not null default 0,
  -- How often `due` has handed it out since the last answer of any kind.
  sends smallint not null default 0,
  -- How often it was brought back after it had been parked, by anybody.
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
-- What an operator lists and redrives, in the order in which it goes back.
create index delivery_parked on switchyard.delivery (agent, owner, seq, run) where state = 'p';
-- What a cutover's step answers for beside what came since.
create index delivery_given on switchyard.delivery (agent, given_at) where given_at is not null;

-- History: what a backfill has done of events from before the log, whose sequences are below 1. Apart from the others, since it is kept for good: a
-- second backfill goes by it. `ensure_partitions` makes the partitions of live events.
create table switchyard.delivery_history (like switchyard.delivery including all);
alter table switchyard.delivery attach partition switchyard.delivery_history for values from (minvalue) to (1);

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

-- When somebody last looked deeper than each tick does.
create table switchyard.hourly_check (
  one boolean primary key default true check (one),
  at timestamptz not null default '-infinity'
);
insert into switchyard.hourly_check default values;

-- Where a message of a batch stands: what a claim answers.
create type switchyard.claim_answer as (
  ord bigint, verdict text, seq bigint, epoch int, attempts smallint, max_attempts smallint, returns smallint, revision int, emits boolean);

-- What became of a reported failure.
create type switchyard.reported as (
  ord bigint, counted boolean, state "char", attempts smallint, max_attempts smallint, epoch int);
