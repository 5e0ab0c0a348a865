-- Functions for old systems, which an agent replaces.

-- Claims one event for the old system. The caller may do the work only if the answer is `take`, and in the same transaction. Other answers:
-- not_yours, already_done, parked, not_subscribed, unknown, too_old.
--
-- Raises SY003 if the claim is a transaction of its own, because that would commit before the work. Three cases exist:
--   - The claim is the transaction's first statement, or came through an HTTP gateway (PostgREST) that commits after each call. The error is raised
--     at once.
--   - A driver sends a claim with parameters in several messages, and each counts as a statement. `_claimed` raises the error at the commit, which
--     is then part of the same message.
--   - A function or DO block calls `claim` and works in the same transaction. That is allowed, and it is the way for pg_cron and `rpc`.
-- A claim that is sent in one message with its `begin` looks like the first case, so send them apart. A function that only calls `claim` is not
-- detected.
create or replace function switchyard.claim(agent text, event_id uuid) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  answer text;
  callers text;
begin
  -- The context has one line for this function and one for each caller. A last line may hold the statement's parameters, if the server logs them
  -- with errors. It is no caller.
  get diagnostics callers = pg_context;
  if current_setting('log_parameter_max_length_on_error') <> '0' then
    callers := regexp_replace(callers, '\n[^\n]* \$1 = (?!.*\n[^\n]* \$1 = ).*$', '');
  end if;
  if strpos(callers, chr(10)) = 0 then
    if statement_timestamp() = transaction_timestamp() or coalesce(current_setting('request.method', true), '') <> '' then
      perform switchyard._claim_alone();
    end if;
    insert into switchyard.claiming (statement_at) values (statement_timestamp());
  end if;
  select s.verdict into answer from switchyard.claim_batch(agent, array[event_id], array[0], 'o') s;
  return answer;
end $$;

-- Raises the error for a claim without its work.
create or replace function switchyard._claim_alone() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'claim must be in the transaction of the work: use begin, claim, the work and commit, or one function that claims and works'
    using errcode = 'SY003';
end $$;

-- Runs at the commit of a transaction that claimed. Raises SY003 if no statement came between the claim and the commit, not even the message that
-- commits.
create or replace function switchyard._claimed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if statement_timestamp() = new.statement_at then
    perform switchyard._claim_alone();
  end if;
  delete from switchyard.claiming c where c.id = new.id;
  return null;
end $$;

-- Reports a failed attempt of the old system. `todo_old` returns the event again after the grace. After the last attempt the delivery is parked at
-- once, because the old system has no dead-letter queue.
create or replace function switchyard.fail(agent text, event_id uuid, reason text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  r switchyard.reported;
begin
  select * into r from switchyard.fail_batch(agent, 'o', array[event_id], array[0], array[null::int], array[reason], array[null::text], array[0::bigint]);
  if r.counted and r.attempts >= r.max_attempts then
    perform switchyard.park_batch(agent, 'o', array[event_id], array[0], array[r.epoch], array[reason], array['attempts used up']);
  end if;
end $$;

-- Parks an event of the old system. `parked_old` lists it.
create or replace function switchyard.park(agent text, event_id uuid, reason text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select from switchyard.park_batch(agent, 'o', array[event_id], array[0], array[null::int], array[reason], array[null::text])
$$;

-- Returns the unfinished events of the old system that are due, the oldest first.
create or replace function switchyard.todo_old(agent text, at_most int default 100) returns setof uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  return query
  select e.event_id
    from (select d.seq, d.next_attempt_at from switchyard.delivery d
           where d.agent = a.id and d.owner = 'o' and d.state in ('a', 'f') and d.run = 0 and d.next_attempt_at <= now()
           order by d.next_attempt_at, d.seq limit at_most) x
    join switchyard.event_log e on e.seq = x.seq
   order by x.next_attempt_at, x.seq;
end $$;

-- Returns the events that the old system has parked or failed at every attempt, for an operator, by their sequence.
create or replace function switchyard.parked_old(agent text, at_most int default 100) returns table (event_id uuid, reason text, attempts int, at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  return query
  select e.event_id, x.reason, x.attempts::int, x.at
    from (select d.seq, d.reason, d.attempts, d.at from switchyard.delivery d
           where d.agent = a.id and d.owner = 'o' and d.state = 'p' and d.run = 0 order by d.seq limit at_most) x
    join switchyard.event_log e on e.seq = x.seq
   order by x.seq;
end $$;

-- Sends a parked event back to the old system's list, with no attempts. Returns false, and changes nothing, if it is not parked for the old system.
create or replace function switchyard.retry(agent text, event_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(agent);
begin
  update switchyard.delivery d set state = 'a', attempts = 0, epoch = d.epoch + 1, redrives = least(d.redrives + 1, 32767),
         next_attempt_at = now(), at = now(), given_at = clock_timestamp()
    from switchyard.event_log e
   where e.event_id = retry.event_id and d.agent = a.id and d.seq = e.seq and d.run = 0 and d.owner = 'o' and d.state = 'p';
  if found then
    perform switchyard.note('retry', agent, jsonb_build_object('event_id', event_id));
  end if;
  return found;
end $$;
