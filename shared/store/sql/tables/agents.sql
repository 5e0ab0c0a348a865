-- Agents: how their events are routed, what they subscribe to, and whether what they depend on is up.

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

-- Whether what an agent depends on is believed to be up. Written by the runtime (trip, probe, recovered), by the steward (half_open, which also
-- pauses the queue) and by operators (force).
create table switchyard.breaker (
  agent smallint primary key references switchyard.agent,
  state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
  -- An operator has set it: nothing automatic moves it.
  forced boolean not null default false,
  reason text,
  since timestamptz not null default clock_timestamp(),
  -- How often it has opened since it was last closed.
  opens smallint not null default 0,
  -- Open: when to try again; null: at once, or never while it is forced.
  retry_at timestamptz,
  -- Half-open: until then somebody is trying.
  probe_until timestamptz,
  -- The event source mappings that the steward has turned off, by their ids, so that it turns on only what it has turned off itself: of an agent
  -- with an express queue each for itself, and of two stacks on one database each stack its own.
  paused text[] not null default '{}'
);

-- The newest sequence that an agent has applied to an aggregate: what overwrites state asks here first.
create table switchyard.gate (
  agent text not null,
  aggregate_type text not null,
  aggregate_id text not null,
  seq bigint not null,
  primary key (agent, aggregate_type, aggregate_id)
);
