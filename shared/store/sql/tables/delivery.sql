-- The delivery ledger: one state for each agent, event and run.

-- Runs above 0: backfills and replays. Run 0 is live and has no row.
create table switchyard.run (
  run int generated always as identity primary key,
  agent smallint not null references switchyard.agent,
  open boolean not null default true,
  -- The runtime does not append what an agent emits in a replay, because the agent emitted it when the events were live. It appends what an agent
  -- emits in a backfill.
  kind text not null default 'replay' check (kind in ('replay', 'backfill')),
  reason text,
  by text not null,
  at timestamptz not null default now()
);

-- The floor. No event below it is run, because its delivery rows are deleted and the ledger could not promise "once".
create table switchyard.floor (
  one boolean primary key default true check (one),
  seq bigint not null default 1
);
insert into switchyard.floor default values;

-- One row for each (agent, event, run). State: `a` assigned, `f` failing, `p` parked; final: `d` done, `s` superseded, `e` expired. Owner: `n` new
-- (the agent), `o` old (the old system).
create table switchyard.delivery (
  seq bigint not null,
  at timestamptz not null default now(),
  next_attempt_at timestamptz,
  -- When it was last sent back or changed hands. Null if its first owner has always had it.
  given_at timestamptz,
  run int not null,
  epoch int not null default 0,
  -- No foreign key here, in `gate` and in `shadow`: each batch writes to them, and the check would lock the agent's row each time.
  agent smallint not null,
  attempts smallint not null default 0,
  -- How often `due` has returned it since the last report of any kind.
  sends smallint not null default 0,
  -- How often it was sent back after it was parked, by an operator or automatically.
  redrives smallint not null default 0,
  -- How often the runtime tried it alone as a suspect without a report that the process survived.
  deaths smallint not null default 0,
  -- How often the runtime returned one of its messages to the queue without an attempt.
  returns smallint not null default 0,
  -- Whether the old system has failed or parked it, so it may have done part of the work. Never reset.
  touched boolean not null default false,
  owner "char" not null check (owner in ('n', 'o')),
  state "char" not null check (state in ('a', 'f', 'p', 'd', 's', 'e')),
  reason text,
  -- The run comes last: nearly all runs are 0, so with the run before the sequence the planner may skip the run and read an agent's whole index for
  -- one row.
  primary key (agent, seq, run)
) partition by range (seq);
create index delivery_open on switchyard.delivery (agent, state, owner, next_attempt_at) where state <> 'd';
-- In the order of `due` and `todo_old`, so that a million due rows cost no more than the hundred that the caller asks for.
create index delivery_due on switchyard.delivery (agent, owner, next_attempt_at, seq) where state in ('a', 'f');
-- What an operator lists and redrives, in the order of the redrive.
create index delivery_parked on switchyard.delivery (agent, owner, seq, run) where state = 'p';
-- For `cutover_figures`: deliveries that the agent got during a step.
create index delivery_given on switchyard.delivery (agent, given_at) where given_at is not null;

-- Deliveries of events from before the event log, whose sequences are below 1. They are never deleted, because a later backfill skips what they
-- list. `ensure_partitions` adds the partitions for live events.
create table switchyard.delivery_history (like switchyard.delivery including all);
alter table switchyard.delivery attach partition switchyard.delivery_history for values from (minvalue) to (1);

-- Late messages: messages of events below the floor.
create table switchyard.late (
  agent smallint not null references switchyard.agent,
  event_id uuid not null,
  run int not null,
  first_at timestamptz not null default now(),
  n int not null default 1,
  primary key (agent, event_id, run)
);

-- The counts of partitions that `drop_oldest` dropped.
create table switchyard.retired (
  agent smallint not null references switchyard.agent,
  run int not null,
  state "char" not null,
  owner "char" not null,
  n bigint not null,
  first_seq bigint not null,
  last_seq bigint not null
);

-- When the steward last made its hourly check.
create table switchyard.hourly_check (
  one boolean primary key default true check (one),
  at timestamptz not null default '-infinity'
);
insert into switchyard.hourly_check default values;

-- What a claim answers for one message of a batch.
create type switchyard.claim_answer as (
  ord bigint, verdict text, seq bigint, epoch int, attempts smallint, max_attempts smallint, returns smallint, revision int, emits boolean);

-- What the ledger holds after a reported failure.
create type switchyard.reported as (
  ord bigint, counted boolean, state "char", attempts smallint, max_attempts smallint, epoch int);
