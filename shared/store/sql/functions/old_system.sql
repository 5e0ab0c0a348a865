-- For the systems that are being replaced.

-- True work may be done only on `take`, in this same transaction.
-- Answers take, not_yours, already_done, parked, not_subscribed, unknown, too_old.
--
-- Refuses to be a transaction of its own, since its commit would come before the work. Where its statement is the transaction's first, or came
-- through an HTTP gateway (PostgREST) that commits after each call, that shows at once. A driver sends a statement with parameters in several messages,
-- each of which counts as a statement of its own; that shows at the commit, which is then part of the same message (`_claimed`). Neither matters
-- where a function or DO block called it: that does the work in the same transaction, so the way for pg_cron and `rpc`
-- is one function that claims and works. A claim that is sent together with its `begin` in one message looks like the first case:
-- send them one by one. Not even this sees a function that does nothing but call `claim`.
create or replace function switchyard.claim(agent text, event_id uuid) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  answer text;
  callers text;
begin
  -- One line is this function; each further one says who called it. Only the last, after all callers, may be another: the statement's parameters,
  -- where they are told with its errors.
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

create or replace function switchyard._claim_alone() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'claim needs the transaction of its work: begin; claim; the work; commit, or one function that does both'
    using errcode = 'SY003';
end $$;

-- At the commit of what has claimed: refuses where nothing came between the two, not even the message that commits.
create or replace function switchyard._claimed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if statement_timestamp() = new.statement_at then
    perform switchyard._claim_alone();
  end if;
  delete from switchyard.claiming c where c.id = new.id;
  return null;
end $$;

-- The same for one event of an old system: it waits out the grace for `todo_old`, or, when its attempts are used up, for a
-- person: there is no dead-letter queue that it would have to be sent to first.
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

create or replace function switchyard.park(agent text, event_id uuid, reason text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select from switchyard.park_batch(agent, 'o', array[event_id], array[0], array[null::int], array[reason], array[null::text])
$$;

-- What belongs to the old system, is unfinished, and whose time has come, oldest first.
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

-- What the old system has parked, or failed until its attempts were used up: for a person to look at, the longest first.
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

-- Puts one of these back into the old system's list, with its attempts counted anew. False where it is not parked for the old system: nothing
-- was done then.
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
