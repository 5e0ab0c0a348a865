-- What operators read: failures, and the audit.

-- One row for each failed or parked attempt. `seq` is null if the event is not in the event log.
create table switchyard.failure (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- An agent, or what is no agent, such as `shim`.
  component text not null,
  event_id uuid,
  run int not null,
  seq bigint,
  attempt int not null,
  parked boolean not null,
  reason text not null,
  error text,
  -- The queue's id of a message whose body names no event.
  message_id text,
  -- The dead-letter queue has the message, and no delivery row exists.
  unmatched boolean not null default false,
  -- For an unmatched dead letter: when it was sent back. If it fails again, the failure is a new row.
  redriven_at timestamptz
);
create index failure_event_idx on switchyard.failure (event_id);
create index failure_component_idx on switchyard.failure (component, at desc);
-- Unidentified messages that were not sent back. If a process died after it had parked a message, the second copy adds no row.
create unique index failure_unidentified_idx on switchyard.failure (component, message_id, run) where message_id is not null and redriven_at is null;
create index failure_unmatched_idx on switchyard.failure (component, at) where unmatched and redriven_at is null;

-- The audit: what operators, agents and the steward have changed.
create table switchyard.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  action text not null,
  -- What was changed: an agent, or what is no agent. Null for what concerns them all.
  component text,
  detail jsonb not null default '{}'
);

-- A selection of parked deliveries. An empty list selects all; `since` is inclusive, `until` exclusive.
create type switchyard.selection as (
  events uuid[], types text[], reasons text[], projects text[], since timestamptz, until timestamptz, at_most bigint);
