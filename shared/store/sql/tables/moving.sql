-- Moving over from an old system: backfill, cutover, and the comparison with what the old system does.

-- One row for each backfill. It works its way through the log from `cursor_seq` on to `last_seq`; each step writes its rows and moves the cursor in
-- one transaction, so that whoever dies in between has lost nothing and done nothing twice.
create table switchyard.backfill (
  run int primary key references switchyard.run,
  agent smallint not null references switchyard.agent,
  -- The selection. No project means all. The times are those of the log: when an event was logged, or, of history, when it was created.
  types text[] not null,
  projects text[] not null,
  since timestamptz not null,
  until timestamptz not null,
  per_second int not null check (per_second between 1 and 1000),
  state text not null default 'running' check (state in ('running', 'paused', 'done', 'cancelled')),
  -- numbering: history gets its sequences. counting: the selection is counted. sending: deliveries are written and sent. ending: all are, and
  -- some are unfinished.
  phase text not null check (phase in ('numbering', 'counting', 'sending', 'ending')),
  -- Between these are its events in the log. The first moves down while history is numbered.
  first_seq bigint not null,
  last_seq bigint not null,
  cursor_seq bigint not null,
  selected bigint not null default 0,
  -- How many fitted, and belonged to the old system, were cancelled, or wait for their time.
  left_out bigint not null default 0,
  taken bigint not null default 0,
  -- The bucket of tokens: up to this time the rate is used up.
  spent_until timestamptz,
  -- Since when, and from how many on, the pace is measured: the last start, or change of rate.
  measured_at timestamptz,
  measured_from bigint not null default 0,
  -- How many were parked when somebody last let it go on.
  parked_before bigint not null default 0,
  -- Why it stands still, in a few words: the caller's, who sees what the database does not.
  waits text,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz
);
create unique index backfill_active on switchyard.backfill (agent) where state in ('running', 'paused');

-- Cutover plans. The steward decides whether a plan goes on; the database keeps it, and makes each of its steps one transaction with the routing
-- that it sets.
create table switchyard.cutover (
  id bigint generated always as identity primary key,
  agent smallint not null references switchyard.agent,
  state text not null default 'running' check (state in ('running', 'held', 'rolled_back', 'done')),
  -- Held by an operator: then only an operator moves it. Held by a limit it is still watched, and may roll back.
  by_operator boolean not null default false,
  -- Why it is not running.
  because text,
  percents int[] not null,
  soaks_secs bigint[] not null,
  -- From 1.
  step int not null default 1,
  step_at timestamptz not null default clock_timestamp(),
  -- The figures of a step are those of what was logged after it.
  step_seq bigint not null,
  -- A rate of fewer outcomes than these says nothing yet.
  at_least int not null check (at_least > 0),
  -- Shares of 1, and seconds. Past the first a plan is held, past the second it rolls back; null: no such limit.
  max_mismatch double precision,
  back_at_mismatch double precision,
  max_failures double precision not null,
  back_at_failures double precision,
  max_lag_secs double precision not null,
  back_at_lag_secs double precision,
  -- Where it came from.
  was_mode text not null,
  was_percent int not null,
  by text not null,
  at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  check (cardinality(percents) between 1 and 50 and cardinality(percents) = cardinality(soaks_secs)),
  check (0 < all (percents) and 100 >= all (percents) and 0 <= all (soaks_secs)),
  check (step between 1 and cardinality(percents))
);
create unique index cutover_under_way on switchyard.cutover (agent) where state in ('running', 'held');
create index cutover_latest on switchyard.cutover (agent, id desc);

-- What an agent in shadow mode would have done. JSON, not JSONB: a decision may hold what JSONB refuses.
-- `outcome` is null until the decision was compared. `differs` names the fields; their values are payload and stand nowhere.
create table switchyard.shadow (
  agent text not null,
  event_id uuid not null,
  run int not null,
  at timestamptz not null default clock_timestamp(),
  times int not null default 1,
  decision json not null,
  outcome text check (outcome in ('agreed', 'differed', 'only_old', 'only_new', 'overtaken')),
  differs text[],
  judged_by int,
  primary key (agent, event_id, run)
);
create index shadow_at on switchyard.shadow (agent, at);
-- What is still to be compared, in the order in which its time comes.
create index shadow_open on switchyard.shadow (agent, at) where outcome is null and run = 0;
create index shadow_outcome_idx on switchyard.shadow (agent, outcome, at) where outcome <> 'agreed';

-- How an agent's decisions are compared, as the team wrote it.
create table switchyard.compare_mapping (
  agent text primary key,
  mapping jsonb not null,
  -- Another one with each mapping: an outcome by an older mapping does not count.
  version int not null,
  since timestamptz not null default clock_timestamp(),
  -- Up to here the old system's rows were looked through for those that answer no event.
  strays_to timestamptz not null,
  -- Why the last comparison could not be made.
  trouble text
);
create sequence switchyard.compare_mapping_version as int;

-- Outcomes counted by the minute of the decision (of the row, for strays). By the minute and not by the hour, so that a cutover's step of ten
-- minutes is judged by its own ten minutes.
create table switchyard.comparison (
  agent text not null,
  minute timestamptz not null,
  agreed bigint not null default 0,
  differed bigint not null default 0,
  only_old bigint not null default 0,
  only_new bigint not null default 0,
  overtaken bigint not null default 0,
  -- Rows of the old system that answer no event.
  strays bigint not null default 0,
  primary key (agent, minute)
);

-- The latest strays, as examples.
create table switchyard.stray (
  agent text not null,
  answer text not null,
  key text[] not null,
  at timestamptz not null,
  primary key (agent, at, answer, key)
);

-- What an old system has claimed in a transaction that goes on, by the statement that did: looked at when it commits, and gone with that.
create unlogged table switchyard.claiming (
  id bigint generated always as identity primary key,
  statement_at timestamptz not null
);
