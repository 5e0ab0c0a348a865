-- Agents: their routing, their subscriptions, and their breakers.

create table switchyard.agent (
  id smallint generated always as identity primary key,
  name text not null unique,
  mode text not null default 'full' check (mode in ('off', 'shadow', 'percent', 'full')),
  percent int not null default 0 check (percent between 0 and 100),
  -- Projects that one side owns at every percentage. Pins count in mode `percent` only.
  pinned_new text[] not null default '{}',
  pinned_old text[] not null default '{}',
  -- In mode `percent`: the agent also decides, in shadow mode, about what the old system owns.
  beside boolean not null default false,
  routed_by text not null default 'aggregate' check (routed_by in ('aggregate', 'project')),
  -- If true, the steward reassigns unfinished deliveries to the current routing after each sweep.
  drain boolean not null default false,
  -- Increases with every change of the routing.
  routing_version int not null default 0,
  -- A transaction id that was assigned after the last change committed. Every transaction that may have read an older routing has a lower id.
  barrier xid8,
  max_attempts smallint not null default 4 check (max_attempts between 1 and 100),
  -- How long a delivery may be under way before it counts as lost. The steward then sends it again.
  grace interval not null default '2 minutes',
  -- Automatic redrive: how often for one delivery, and the wait after it was parked for the first time. Null turns it off.
  auto_redrive_times smallint check (auto_redrive_times between 1 and 100),
  auto_redrive_after interval check (auto_redrive_after > interval '0'),
  check ((auto_redrive_times is null) = (auto_redrive_after is null))
);

-- One row for each period in which an agent subscribes to a type. The periods of one agent and type do not overlap.
create table switchyard.subscription (
  agent smallint not null references switchyard.agent,
  type text not null,
  from_seq bigint not null,
  until_seq bigint,
  -- The watermark. Every event of the period up to this sequence has a delivery row, and `n` counts them.
  checked bigint not null,
  n bigint not null default 0,
  primary key (agent, type, from_seq)
);

-- The breaker of each agent's dependency. The runtime opens and closes it (`trip`, `probe`, `recovered`), the steward makes it half-open and pauses
-- the event source mappings (`half_open`, `set_paused`), and operators force it (`force_breaker`).
create table switchyard.breaker (
  agent smallint primary key references switchyard.agent,
  state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
  -- An operator has set the state. Nothing automatic changes it.
  forced boolean not null default false,
  reason text,
  since timestamptz not null default clock_timestamp(),
  -- How often it opened since it was last closed.
  opens smallint not null default 0,
  -- While open: when to probe. Null means at once, or never if it is forced.
  retry_at timestamptz,
  -- While half-open: the lease of the agent's process that probes.
  probe_until timestamptz,
  -- Ids of the event source mappings that the steward turned off. The steward turns on only these. An agent with an express queue has two, and two
  -- stacks on one database have their own.
  paused text[] not null default '{}'
);

-- The gate: the newest sequence that an agent has applied to an aggregate. An effect that overwrites state checks it first.
create table switchyard.gate (
  agent smallint not null,
  aggregate_type text not null,
  aggregate_id text not null,
  seq bigint not null,
  primary key (agent, aggregate_type, aggregate_id)
);
