-- Moving from an old system: backfills, cutover plans, and the comparison of both sides.

-- One row for each backfill. It reads the event log from `cursor_seq` to `last_seq`. Each step writes its deliveries and moves the cursor in one
-- transaction, so a step that dies loses nothing and repeats nothing.
create table switchyard.backfill (
  run int primary key references switchyard.run,
  agent smallint not null references switchyard.agent,
  -- The selection. An empty list of projects selects all. Times are the time of logging, or for history the time of creation.
  types text[] not null,
  projects text[] not null,
  since timestamptz not null,
  until timestamptz not null,
  per_second int not null check (per_second between 1 and 1000),
  state text not null default 'running' check (state in ('running', 'paused', 'done', 'cancelled')),
  --   numbering  history gets its sequences
  --   counting   the selection is counted
  --   sending    deliveries are written and sent
  --   ending     all deliveries are written, some are unfinished
  phase text not null check (phase in ('numbering', 'counting', 'sending', 'ending')),
  -- The range of its events in the event log. `first_seq` decreases while history is numbered.
  first_seq bigint not null,
  last_seq bigint not null,
  cursor_seq bigint not null,
  selected bigint not null default 0,
  -- How many events match but belong to the old system, are cancelled, or are not due.
  left_out bigint not null default 0,
  taken bigint not null default 0,
  -- The token bucket: the rate is used up until this time.
  spent_until timestamptz,
  -- Where the measured rate starts: the last start, resume or change of rate, and the count at that time.
  measured_at timestamptz,
  measured_from bigint not null default 0,
  -- How many deliveries were parked when an operator last resumed it.
  parked_before bigint not null default 0,
  -- Why it does not advance. The steward writes it, since it sees queues and breakers.
  waits text,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz
);
create unique index backfill_active on switchyard.backfill (agent) where state in ('running', 'paused');

-- Cutover plans. The steward decides whether a plan goes on. The functions change a plan and the routing in one transaction.
create table switchyard.cutover (
  id bigint generated always as identity primary key,
  agent smallint not null references switchyard.agent,
  state text not null default 'running' check (state in ('running', 'paused', 'rolled_back', 'done')),
  -- An operator paused the plan, and only an operator resumes it. A plan that a limit paused is still watched and may roll back.
  by_operator boolean not null default false,
  -- Why the plan is paused or rolled back.
  because text,
  percents int[] not null,
  soaks_secs bigint[] not null,
  -- Counts from 1.
  step int not null default 1,
  step_at timestamptz not null default clock_timestamp(),
  -- The figures of a step count events that were logged after this sequence.
  step_seq bigint not null,
  -- The fewest outcomes from which a rate is computed.
  at_least int not null check (at_least > 0),
  -- Shares between 0 and 1, and seconds. Above `max_*` the plan is paused, above `back_at_*` it rolls back. Null means no limit.
  max_mismatch double precision,
  back_at_mismatch double precision,
  max_failures double precision not null,
  back_at_failures double precision,
  max_lag_secs double precision not null,
  back_at_lag_secs double precision,
  -- The routing before the plan.
  was_mode text not null,
  was_percent int not null,
  by text not null,
  at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  check (cardinality(percents) between 1 and 50 and cardinality(percents) = cardinality(soaks_secs)),
  check (0 < all (percents) and 100 >= all (percents) and 0 <= all (soaks_secs)),
  check (step between 1 and cardinality(percents))
);
create unique index cutover_under_way on switchyard.cutover (agent) where state in ('running', 'paused');
create index cutover_latest on switchyard.cutover (agent, id desc);

-- What agents decided in shadow mode. The type is JSON because a decision may hold text that JSONB refuses. `outcome` is null until the decision is
-- compared. `differs` names the fields that differ; it holds no values, because those are payload.
create table switchyard.shadow (
  agent smallint not null,
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
-- Decisions that are not yet compared, in the order in which they become due.
create index shadow_open on switchyard.shadow (agent, at) where outcome is null and run = 0;
create index shadow_outcome_idx on switchyard.shadow (agent, outcome, at) where outcome <> 'agreed';

-- How an agent's decisions are compared, as the team wrote it.
create table switchyard.compare_mapping (
  agent smallint primary key references switchyard.agent,
  mapping jsonb not null,
  -- Changes with each mapping. An outcome by an older mapping does not count.
  version int not null,
  since timestamptz not null default clock_timestamp(),
  -- Rows of the old system up to this time were searched for rows that answer no event.
  unmatched_to timestamptz not null,
  -- Why the last comparison failed.
  trouble text
);
create sequence switchyard.compare_mapping_version as int;

-- Outcomes for each minute of the decision (for rows that answer no event, of the row). Minutes and not hours, so that a cutover's step of ten
-- minutes is judged by its own ten minutes.
create table switchyard.comparison (
  agent smallint not null references switchyard.agent,
  minute timestamptz not null,
  agreed bigint not null default 0,
  differed bigint not null default 0,
  only_old bigint not null default 0,
  only_new bigint not null default 0,
  overtaken bigint not null default 0,
  -- Rows of the old system that answer no event.
  unmatched bigint not null default 0,
  primary key (agent, minute)
);

-- The latest rows of the old system that answer no event, as examples.
create table switchyard.unmatched_row (
  agent smallint not null references switchyard.agent,
  answer text not null,
  key text[] not null,
  at timestamptz not null,
  primary key (agent, at, answer, key)
);

-- One row for each claim by an old system in an open transaction. The trigger `claimed` checks it at the commit and deletes it.
create unlogged table switchyard.claiming (
  id bigint generated always as identity primary key,
  statement_at timestamptz not null
);
