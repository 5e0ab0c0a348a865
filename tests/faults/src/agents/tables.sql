-- The world of the suite's agents. No unique constraint anywhere that could hide a second effect.

-- One row for each effect.
create table applied (agent text not null, event_id uuid not null, by text not null default 'new');

-- One row for each time that a flaky event was tried.
create table tried (agent text not null, event_id uuid not null);

-- The last writer wins, and `written` is the history of who did: `n` is drawn while the row of `latest` is locked, so its order is the order of
-- the writes to one aggregate.
create table latest (aggregate_id uuid primary key, seq bigint not null);
create table written (n bigint generated always as identity, aggregate_id uuid not null, seq bigint not null);

-- What the agents depend on: up or down.
create table dependency (up boolean not null);
insert into dependency values (true);

-- What the writers wanted, and what they were told. An intent is written down before it is tried, in a transaction of its own elsewhere.
alter table applied set (autovacuum_enabled = false);
alter table written set (autovacuum_enabled = false);
