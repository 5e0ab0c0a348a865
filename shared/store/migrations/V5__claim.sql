-- Claim, settle, fail, park: the transitions that agents (owner n) and the old systems (owner o) make.
--
-- The entry points switch JIT off: compiling takes twenty milliseconds where the work takes a fifth of one, and what the
-- planner believes of a table that was never analysed is enough to set it off.

-- The routing. Not salted by agent, so that the same aggregates move first for all of them, and growing: whoever was in
-- at 10 percent is in at 50. A pinned project is beyond the percentage.
create function switchyard.owner_of(p_agent switchyard.agent, aggregate_id text, project_id text) returns "char"
language sql immutable parallel safe
return (case (p_agent).mode
  when 'full' then 'n'
  when 'percent' then case
    when project_id = any ((p_agent).pinned_new) then 'n'
    when project_id = any ((p_agent).pinned_old) then 'o'
    when ('x' || substr(md5(coalesce(case when (p_agent).routed_by = 'project' then project_id end, aggregate_id, '')), 1, 7))::bit(28)::int % 100
         < (p_agent).percent then 'n' else 'o' end
  else 'o' end)::"char";

-- Whether the agent decides in shadow what the old system owns.
create function switchyard.shadows(p_agent switchyard.agent) returns boolean
language sql immutable parallel safe
return (p_agent).mode = 'shadow' or ((p_agent).mode = 'percent' and (p_agent).beside);

create function switchyard.agent_named(p_name text) returns switchyard.agent
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
begin
  select * into a from switchyard.agent where name = p_name;
  if not found then
    raise exception 'agent % is not registered', p_name using errcode = 'SY002';
  end if;
  return a;
end $$;

create type switchyard.standing as (
  ord bigint, verdict text, seq bigint, epoch int, attempts smallint, max_attempts smallint, returns smallint, revision int, says boolean);

-- A row that must be there is not (its partition was dropped between our statements; asking again finds it too old), or
-- one is there that was not (a resend, a sweep or another's report wrote it between them; asking again takes it).
create function switchyard._vanished() returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'a delivery row came or went during the claim' using errcode = '40001';
end $$;

-- Where each of a batch stands for one side. After a claim the arrays name what it has just taken: of several copies of
-- one event in a batch, the first gets it. Before one (`p_took_seqs` null) a missing row is foretold as a first ask.
create function switchyard._standing(
  p_agent switchyard.agent, p_events uuid[], p_runs int[], p_who "char", p_took_seqs bigint[], p_took_runs int[])
returns setof switchyard.standing
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp as $$
declare
  bottom bigint := (select f.seq from switchyard.floor f);
begin
  return query
  select u.ord,
    case
      when e.seq is null then 'unknown'
      -- A row that is there is remembered, wherever it is: a backfill's.
      when e.seq < bottom and d.seq is null then 'too_old'
      when t.s is not null and row_number() over (partition by e.seq, u.run order by u.ord) = 1 then 'take'
      when d.seq is null and u.run <> 0 then 'unknown_run'
      when d.seq is null and not x.subscribed then 'not_subscribed'
      when d.seq is null and e.due_at is not null and exists (select 1 from switchyard.cancelled c where c.seq = e.seq) then 'already_done'
      when d.seq is null and p_took_seqs is not null then switchyard._vanished()
      when p_who = 'n' and coalesce(d.owner, o.owner) = 'o' and switchyard.shadows(p_agent) then 'shadow'
      when d.state = 'p' then 'parked'
      when d.state in ('d', 's', 'e') then 'already_done'
      -- A row that appeared while the claim was under way was not settled by it: asked again, it is.
      when coalesce(d.owner, o.owner) = p_who then case when p_took_seqs is null then 'take' else switchyard._vanished() end
      else 'not_yours'
    end,
    e.seq, coalesce(d.epoch, 0), coalesce(d.attempts, 0::smallint), coalesce(e.max_attempts, p_agent.max_attempts),
    coalesce(d.returns, 0::smallint), coalesce((select max(v.revision) from switchyard.revision v where v.event_id = u.event_id), 0),
    u.run = 0 or exists (select 1 from switchyard.run r where r.run = u.run and r.kind = 'backfill')
    from unnest(p_events, p_runs) with ordinality u (event_id, run, ord)
    left join switchyard.event_log e on e.event_id = u.event_id
    left join switchyard.delivery d on d.agent = p_agent.id and d.run = u.run and d.seq = e.seq
    left join unnest(p_took_seqs, p_took_runs) t (s, r) on t.s = e.seq and t.r = u.run
    cross join lateral (select switchyard.owner_of(p_agent, e.aggregate_id, e.project_id) as owner) o
    cross join lateral (select exists (
      select 1 from switchyard.subscription s where s.agent = p_agent.id and s.type = e.type and e.seq >= s.from_seq
                and (s.until_seq is null or e.seq <= s.until_seq)) as subscribed) x
   order by u.ord;
end $$;

-- A claim's answer, foretold: no lock, no write.
create function switchyard.look(p_agent text, p_events uuid[], p_runs int[]) returns setof switchyard.standing
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select * from switchyard._standing(switchyard.agent_named(p_agent), p_events, p_runs, 'n', null, null) s order by s.ord;
end $$;

-- Writes the rows of first asks and returns the sequences that it wrote and that belong to `p_who`. The owner comes from
-- the routing as the inserting statement reads it, and waits for a concurrent first ask of the same event. What was cancelled before its time is
-- nobody's to work on: its row is final from the first.
-- Takes a transaction id first: reassign relies on it that whoever reads the routing has one already.
create function switchyard._ask(p_agent smallint, p_seqs bigint[], p_who "char", p_settle boolean) returns bigint[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  won bigint[];
begin
  perform pg_current_xact_id();
  with written as (
    insert into switchyard.delivery (agent, run, seq, owner, state, next_attempt_at, reason)
    select a.id, 0, e.seq, o.owner,
           case when o.cancelled then 'e' when p_settle and o.owner = p_who then 'd' else 'a' end::"char",
           case when o.cancelled or (p_settle and o.owner = p_who) then null else greatest(now(), e.due_at) + a.grace end,
           case when o.cancelled then 'cancelled' end
      from switchyard.agent a
      cross join switchyard.event_log e
      cross join lateral (select switchyard.owner_of(a, e.aggregate_id, e.project_id) as owner,
                                 e.due_at is not null and exists (select 1 from switchyard.cancelled c where c.seq = e.seq) as cancelled) o
     where a.id = p_agent and e.seq = any (p_seqs) and e.seq >= (select f.seq from switchyard.floor f)
       and exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = e.type and e.seq >= s.from_seq
                      and (s.until_seq is null or e.seq <= s.until_seq))
     order by e.seq
    on conflict do nothing
    returning seq, owner, state)
  select coalesce(array_agg(w.seq), '{}') into won from written w where w.owner = p_who and w.state <> 'e';
  return won;
end $$;

-- Claims a batch: what is `take` is settled as done in the caller's transaction, whose commit makes it true.
-- The rows are written and locked in the order of their sequence, so that two batches do not deadlock.
create function switchyard.claim_batch(p_agent text, p_events uuid[], p_runs int[], p_who "char") returns setof switchyard.standing
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent;
  asked bigint[];
  asked_runs int[];
  firsts bigint[];
  won bigint[] := '{}';
  kept bigint[];
  kept_runs int[];
  late boolean;
  bottom bigint := (select f.seq from switchyard.floor f);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a claim needs read committed' using errcode = 'SY003';
  end if;
  a := switchyard.agent_named(p_agent);
  if p_who = 'n' then
    -- The triggers on the application's tables are silent for an agent: its own events say what it did.
    perform set_config('switchyard.agent', p_agent, true);
  end if;

  select array_agg(x.seq), array_agg(x.run), array_agg(x.seq) filter (where x.run = 0 and x.seq >= bottom), bool_or(x.seq < bottom)
    into asked, asked_runs, firsts, late
    from (select distinct e.seq, u.run
            from unnest(p_events, p_runs) u (event_id, run)
            join switchyard.event_log e on e.event_id = u.event_id order by 1, 2) x;
  if firsts is not null then
    won := switchyard._ask(a.id, firsts, p_who, true);
  end if;

  -- Whatever we did not just write ourselves is locked, read as it is now, and settled where it is ours and unfinished.
  with open as materialized (
    select d.seq, d.run, d.owner, d.state from switchyard.delivery d
     where d.agent = a.id and d.seq = any (asked) and d.run = any (asked_runs) and (d.run <> 0 or not d.seq = any (won))
       and exists (select 1 from unnest(asked, asked_runs) p (s, r) where p.s = d.seq and p.r = d.run)
     order by d.seq, d.run
       for update of d),
  taken as (
    update switchyard.delivery d set state = 'd', at = now(), next_attempt_at = null
      from open o
     where d.agent = a.id and d.seq = o.seq and d.run = o.run and o.state in ('a', 'f') and o.owner = p_who
    returning d.seq, d.run)
  select array_agg(t.seq), array_agg(t.run) into kept, kept_runs from taken t;

  if late then
    insert into switchyard.late as l (agent, event_id, run)
    select distinct a.id, u.event_id, u.run from unnest(p_events, p_runs) u (event_id, run)
      join switchyard.event_log e on e.event_id = u.event_id
     where e.seq < (select f.seq from switchyard.floor f)
       and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = u.run and d.seq = e.seq)
    on conflict (agent, event_id, run) do update set n = l.n + 1;
  end if;

  return query
  select s.* from switchyard._standing(a, p_events, p_runs, p_who,
      won || kept, array_fill(0, array[cardinality(won)]) || kept_runs) s
   order by s.ord;
end $$;

-- For the systems that are being replaced: true work may be done only on `take`, in this same transaction.
-- Answers take, not_yours, already_done, parked, not_subscribed, unknown, too_old.
--
-- Refuses to be a transaction of its own, since its commit would come before the work. It can tell in two ways: its statement
-- is the transaction's first, or it came through an HTTP gateway (PostgREST) that commits after each call. Neither matters where
-- a function or DO block called it: that does the work in the same transaction, so the way for pg_cron and `rpc`
-- is one function that claims and works. A claim that is sent together with its `begin` in one message looks like the first case:
-- send them one by one. Not even this sees a function that does nothing but call `claim`.
create function switchyard.claim(agent text, event_id uuid) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  answer text;
  callers text;
begin
  -- One line is this function; each further one says who called it.
  get diagnostics callers = pg_context;
  if strpos(callers, chr(10)) = 0
     and (statement_timestamp() = transaction_timestamp() or coalesce(current_setting('request.method', true), '') <> '') then
    raise exception 'claim needs the transaction of its work: begin; claim; the work; commit, or one function that does both'
      using errcode = 'SY003';
  end if;
  select s.verdict into answer from switchyard.claim_batch(agent, array[event_id], array[0], 'o') s;
  return answer;
end $$;

-- Settles otherwise what was claimed in this transaction and in no other: a row's xmin is the transaction that wrote it.
create function switchyard.settle(p_agent text, p_event uuid, p_run int, p_state "char", p_reason text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  if p_state not in ('s', 'e', 'p') then
    raise exception 'no such settlement: %', p_state using errcode = 'SY003';
  end if;
  update switchyard.delivery d set state = p_state, reason = p_reason, at = now()
    from switchyard.event_log e
   where e.event_id = p_event and d.agent = a.id and d.run = p_run and d.seq = e.seq and d.state = 'd'
     and d.xmin = pg_current_xact_id()::xid;
  if not found then
    raise exception 'settle: not claimed in this transaction' using errcode = 'SY003';
  end if;
  if p_state = 'p' then
    insert into switchyard.failure (agent, event_id, run, seq, attempt, parked, reason)
    select p_agent, p_event, p_run, d.seq, d.attempts, true, p_reason
      from switchyard.event_log e join switchyard.delivery d on d.agent = a.id and d.run = p_run and d.seq = e.seq
     where e.event_id = p_event;
  end if;
end $$;

create type switchyard.reported as (
  ord bigint, counted boolean, state "char", attempts smallint, max_attempts smallint, epoch int);

-- Failed and parked attempts of a batch, reported after the claim's transaction was rolled back, in one of their own.
-- A report is void where the row is final or parked, belongs to the other side, or is of another epoch. Never parks what
-- was only reported as failed: its message must reach the dead-letter queue first.
create function switchyard._report(
  p_agent text, p_who "char", p_park boolean, p_events uuid[], p_runs int[], p_epochs int[],
  p_reasons text[], p_errors text[], p_delays_ms bigint[]) returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  firsts bigint[];
  counted bigint[];
  counted_runs int[];
begin
  select array_agg(e.seq) into firsts
    from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id where u.run = 0;
  if firsts is not null then
    perform switchyard._ask(a.id, firsts, p_who, false);
  end if;

  -- Copies of one event in a batch count once; of two epochs the newest speaks.
  with given as materialized (
    select distinct on (e.seq, u.run) e.seq, u.*
      from unnest(p_events, p_runs, p_epochs, p_reasons, p_errors, p_delays_ms)
             with ordinality u (event_id, run, epoch, reason, error, delay_ms, ord)
      left join switchyard.event_log e on e.event_id = u.event_id
     where e.seq is not null
     order by e.seq, u.run, u.epoch desc nulls last, u.ord),
  open as materialized (
    select d.seq, d.run, d.state, d.owner, d.epoch from switchyard.delivery d
     where d.agent = a.id and d.seq = any (select g.seq from given g) and d.run = any (p_runs)
       and exists (select 1 from given g where g.seq = d.seq and g.run = d.run)
     order by d.seq, d.run
       for update of d),
  changed as (
    update switchyard.delivery d set
      state = case when p_park then 'p'::"char" else 'f' end,
      attempts = case when p_park then greatest(d.attempts, 1) else least(d.attempts + 1, 32767) end,
      -- An answer, if a bad one: the transport works.
      sends = 0,
      touched = d.touched or p_who = 'o',
      -- Twelve hours is the most that a queue can hold a message back.
      next_attempt_at = case when p_park then null else now() + least(g.delay_ms, 43200000) * interval '1 millisecond' + a.grace end,
      at = now(), reason = g.reason
      from given g join open o on o.seq = g.seq and o.run = g.run
     where d.agent = a.id and d.seq = g.seq and d.run = g.run
       and o.state in ('a', 'f') and o.owner = p_who and o.epoch = coalesce(g.epoch, o.epoch)
    returning d.seq, d.run, d.attempts, g.event_id, g.reason, g.error),
  kept as (
    insert into switchyard.failure (agent, event_id, run, seq, attempt, parked, reason, error)
    select p_agent, c.event_id, c.run, c.seq, c.attempts, p_park, c.reason, c.error from changed c order by c.seq)
  select coalesce(array_agg(c.seq), '{}'), coalesce(array_agg(c.run), '{}') into counted, counted_runs from changed c;

  if p_park then
    -- What has no row (unknown, too old, not subscribed) is parked in its queue alone: here is its trace.
    insert into switchyard.failure (agent, event_id, run, seq, attempt, parked, reason, error, loose)
    select distinct on (u.event_id, u.run) p_agent, u.event_id, u.run, e.seq, 1, true, u.reason, u.error, true
      from unnest(p_events, p_runs, p_reasons, p_errors) u (event_id, run, reason, error)
      left join switchyard.event_log e on e.event_id = u.event_id
     where not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = u.run and d.seq = e.seq);
    insert into switchyard.late as l (agent, event_id, run)
    select distinct a.id, u.event_id, u.run from unnest(p_events, p_runs) u (event_id, run)
      join switchyard.event_log e on e.event_id = u.event_id
     where e.seq < (select f.seq from switchyard.floor f)
       and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = u.run and d.seq = e.seq)
    on conflict (agent, event_id, run) do update set n = l.n + 1;
  end if;

  return query
  select u.ord, c.s is not null, d.state, coalesce(d.attempts, 0::smallint), coalesce(e.max_attempts, a.max_attempts), coalesce(d.epoch, 0)
    from unnest(p_events, p_runs) with ordinality u (event_id, run, ord)
    left join switchyard.event_log e on e.event_id = u.event_id
    left join switchyard.delivery d on d.agent = a.id and d.run = u.run and d.seq = e.seq
    left join unnest(counted, counted_runs) c (s, r) on c.s = e.seq and c.r = u.run
   order by u.ord;
end $$;

create function switchyard.fail_batch(
  p_agent text, p_who "char", p_events uuid[], p_runs int[], p_epochs int[], p_reasons text[], p_errors text[], p_delays_ms bigint[])
returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select * from switchyard._report(p_agent, p_who, false, p_events, p_runs, p_epochs, p_reasons, p_errors, p_delays_ms) r order by r.ord;
end $$;

create function switchyard.park_batch(
  p_agent text, p_who "char", p_events uuid[], p_runs int[], p_epochs int[], p_reasons text[], p_errors text[])
returns setof switchyard.reported
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return query select * from switchyard._report(p_agent, p_who, true, p_events, p_runs, p_epochs, p_reasons, p_errors, null) r order by r.ord;
end $$;

-- Counts a death beforehand: the caller is about to try alone what may have killed the process that tried it last. If it lives it says so
-- to `survived`. Returns the deaths, this trial's included; 0 where there is nothing of the agent's to try, or another epoch counts. An agent in
-- shadow mode tries what the old system owns, however far that has come with it.
create function switchyard.suspect(p_agent text, p_event uuid, p_run int, p_epoch int) returns smallint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  s bigint := (select e.seq from switchyard.event_log e where e.event_id = p_event);
  counted smallint;
begin
  if p_run = 0 and s is not null then
    perform switchyard._ask(a.id, array[s], 'n', false);
  end if;
  update switchyard.delivery d set deaths = least(d.deaths + 1, 32767), sends = 0
   where d.agent = a.id and d.run = p_run and d.seq = s and d.epoch = coalesce(p_epoch, d.epoch)
     and case d.owner when 'n' then d.state in ('a', 'f') else switchyard.shadows(a) end
  returning d.deaths into counted;
  return coalesce(counted, 0);
end $$;

-- Messages of these were given back to their queue without an attempt, for it to bring them again in `p_delay`: the transport works, and nothing
-- is lost. What somebody holds just now is left to them. Of the old system's rows, which an agent in shadow mode gives back too, only the count.
create function switchyard.returned(p_agent text, p_events uuid[], p_runs int[], p_epochs int[], p_delay interval) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  firsts bigint[];
begin
  -- Only what has no row: the insert would wait for whoever is working on the one that is there.
  select array_agg(e.seq) into firsts
    from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id
   where u.run = 0 and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq);
  if firsts is not null then
    perform switchyard._ask(a.id, firsts, 'n', false);
  end if;
  with given as materialized (
    select e.seq, u.run, u.epoch, count(*) as n
      from unnest(p_events, p_runs, p_epochs) u (event_id, run, epoch) join switchyard.event_log e on e.event_id = u.event_id
     group by e.seq, u.run, u.epoch),
  -- Copies of one event in a batch are each a return; of two epochs only the row's counts.
  open as materialized (
    select d.seq, d.run, d.owner, d.epoch from switchyard.delivery d
     where d.agent = a.id and d.seq = any (array(select g.seq from given g)) and d.run = any (p_runs)
       and exists (select 1 from given g where g.seq = d.seq and g.run = d.run)
       and case d.owner when 'n' then d.state in ('a', 'f') else switchyard.shadows(a) end
     order by d.seq, d.run
       for update of d skip locked),
  counted as (
    select o.seq, o.run, o.owner, sum(g.n) as n
      from open o join given g on g.seq = o.seq and g.run = o.run and coalesce(g.epoch, o.epoch) = o.epoch
     group by o.seq, o.run, o.owner)
  update switchyard.delivery d set
         returns = least(d.returns + c.n, 32767), sends = case c.owner when 'n' then 0 else d.sends end,
         next_attempt_at = case c.owner when 'n' then greatest(d.next_attempt_at, now() + p_delay + a.grace) else d.next_attempt_at end
    from counted c
   where d.agent = a.id and d.seq = c.seq and d.run = c.run;
end $$;

create function switchyard.survived(p_agent text, p_events uuid[], p_runs int[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  with alive as materialized (
    select d.seq, d.run from switchyard.delivery d
     where d.agent = a.id and d.deaths > 0
       and d.seq = any (array(select e.seq from switchyard.event_log e where e.event_id = any (p_events)))
       and exists (select 1 from unnest(p_events, p_runs) u (event_id, run) join switchyard.event_log e on e.event_id = u.event_id
                    where e.seq = d.seq and u.run = d.run)
     order by d.seq, d.run
       for update of d)
  update switchyard.delivery d set deaths = 0
    from alive v where d.agent = a.id and d.seq = v.seq and d.run = v.run;
end $$;

-- The same for one event of an old system: it waits out the grace for `todo_old`, or, when its attempts are used up, for a
-- person: there is no dead-letter queue that it would have to be sent to first.
create function switchyard.fail(agent text, event_id uuid, reason text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  r switchyard.reported;
begin
  select * into r from switchyard.fail_batch(agent, 'o', array[event_id], array[0], array[null::int], array[reason], array[null::text], array[0::bigint]);
  if r.counted and r.attempts >= r.max_attempts then
    perform switchyard.park_batch(agent, 'o', array[event_id], array[0], array[r.epoch], array[reason], array['attempts used up']);
  end if;
end $$;
create function switchyard.park(agent text, event_id uuid, reason text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select from switchyard.park_batch(agent, 'o', array[event_id], array[0], array[null::int], array[reason], array[null::text])
$$;
