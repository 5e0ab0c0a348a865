-- What the checker adds to a migrated database: a lossy queue, effects without a unique constraint, and a memory of
-- every change of every delivery row, with the function that made it.
create schema checker;
create table checker.queue (id bigserial primary key, agent text, event_id uuid, run int, epoch int, visible_at timestamptz not null default clock_timestamp());
create table checker.effect (id bigserial primary key, agent text, event_id uuid, run int, who "char", gated text);
create table checker.seen (id bigint primary key);
create table checker.dead_letter (agent text, event_id uuid, run int);
create table checker.cancelled (run int, at timestamptz);
create table checker.routing (agent smallint, version int, as_it_was switchyard.agent, at timestamptz, committed_by timestamptz);
-- When reassign said that it was complete, and who was still running then.
create table checker.completed (agent smallint, version int, snapshot pg_snapshot);
create table checker.history (
  id bigserial primary key, agent smallint, run int, seq bigint,
  was_state "char", was_owner "char", was_epoch int, was_attempts int, was_sends int, was_redrives int,
  state "char", owner "char", epoch int, attempts int, sends int, redrives int,
  reason text, writer text, xid xid8, asked_at timestamptz, at timestamptz);
create index on checker.history (agent, run, seq);
create index on checker.effect (event_id);

create function checker.remember() returns trigger language plpgsql as $$
declare
  stack text;
  writers text[];
begin
  get diagnostics stack = pg_context;
  -- From the innermost outwards.
  writers := array(select m[1] from regexp_matches(stack, 'function switchyard\.(\w+)\(', 'g') m);
  insert into checker.history (agent, run, seq, was_state, was_owner, was_epoch, was_attempts, was_sends, was_redrives,
    state, owner, epoch, attempts, sends, redrives, reason, writer, xid, asked_at, at)
  values (new.agent, new.run, new.seq, case when tg_op = 'UPDATE' then old.state end, case when tg_op = 'UPDATE' then old.owner end,
          case when tg_op = 'UPDATE' then old.epoch end, case when tg_op = 'UPDATE' then old.attempts end,
          case when tg_op = 'UPDATE' then old.sends end, case when tg_op = 'UPDATE' then old.redrives end,
          new.state, new.owner, new.epoch, new.attempts, new.sends, new.redrives,
          new.reason,
          case when writers[1] <> '_create_deliveries' then writers[1]
               when writers[2] in ('sweep', 'resend') then writers[2] else 'first_ask' end, pg_current_xact_id(), statement_timestamp(), clock_timestamp());
  return null;
end $$;
create trigger checker_memory after insert or update on switchyard.delivery for each row execute function checker.remember();

create function checker.remember_routing() returns trigger language plpgsql as $$
begin
  insert into checker.routing (agent, version, as_it_was, at) values (new.id, new.routing_version, new, clock_timestamp());
  return null;
end $$;
create trigger checker_memory after update of routing_version on switchyard.agent for each row execute function checker.remember_routing();

-- A fresh world for the next seed: small partitions at the front, so that retention has something to drop.
create function checker.reset() returns void language plpgsql as $$
declare
  p record;
begin
  for p in select name from switchyard.delivery_partitions() loop
    execute format('drop table switchyard.%I', p.name);
  end loop;
  if to_regclass('checker.cached_routing') is not null then truncate checker.cached_routing; end if;
  truncate events, switchyard.event_log, switchyard.outbox, switchyard.fence, switchyard.run, switchyard.backfill, switchyard.subscription, switchyard.late,
    switchyard.retired, switchyard.failure, switchyard.shadow, switchyard.audit, switchyard.gate, switchyard.lease, switchyard.breaker, switchyard.revision, switchyard.cutover,
    switchyard.compare_mapping, switchyard.comparison, switchyard.unmatched_row, switchyard.agent,
    checker.queue, checker.effect, checker.seen, checker.dead_letter, checker.cancelled, checker.completed, checker.routing, checker.history restart identity;
  update switchyard.floor set seq = 1;
  perform switchyard.add_partition(1 + g * 8, 9 + g * 8) from generate_series(0, 5) g;
  perform switchyard.add_partition(49, 10000000);
  perform switchyard.register('A', array['t1', 't2'], 'aggregate', 3, 'off', 0, false),
    switchyard.register('B', array['t2'], 'aggregate', 3, 'off', 0, false);
  update switchyard.agent set grace = '120 ms';
  insert into checker.routing select a.id, a.routing_version, a, '-infinity', '-infinity' from switchyard.agent a;
end $$;
