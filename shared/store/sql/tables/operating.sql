-- What operators look at: failures, and who changed what.

-- Each failed or parked attempt. An event that is not in the table has no sequence.
create table switchyard.failure (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  agent text not null,
  event_id uuid,
  run int not null,
  seq bigint,
  attempt int not null,
  parked boolean not null,
  reason text not null,
  error text,
  -- The queue's id of the message, where its body has no id of an event.
  message_id text,
  -- Parked in the dead-letter queue alone: no delivery row says so.
  unmatched boolean not null default false,
  -- For what is unmatched: when it was sent back. Should it fail again, that is another row.
  redriven_at timestamptz
);
create index failure_event_idx on switchyard.failure (event_id);
create index failure_agent_idx on switchyard.failure (agent, at desc);
-- What is unmatched and was not sent back; a message that is parked twice, since a process died in between, is one.
create unique index failure_unidentified_idx on switchyard.failure (agent, message_id, run) where message_id is not null and redriven_at is null;
create index failure_unmatched_idx on switchyard.failure (agent, at) where unmatched and redriven_at is null;

-- What operators, agents and the steward have changed.
create table switchyard.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  by text not null,
  action text not null,
  agent text,
  detail jsonb not null default '{}'
);

-- Which parked deliveries. An empty list means all; `since` is included, `until` is not.
create type switchyard.selection as (
  events uuid[], types text[], reasons text[], projects text[], since timestamptz, until timestamptz, at_most bigint);
