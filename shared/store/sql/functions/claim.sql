-- Preview, claim and settle: what an agent does with a batch in its own transaction.
--
-- The entry points switch JIT off: compilation takes 20 ms and the work 0.2 ms, and the planner's estimates for a table that was never analyzed are
-- enough to start it.
--
-- `preview` and `claim_batch` use one generic plan for each session, because planning costs more than the work, and by default Postgres plans again
-- at each call. A generic plan may be made while the tables are empty, when a sequential scan is cheapest. So sequential scans, hash joins and merge
-- joins are off, also for the functions that these two call.

-- Raises 40001, after which the caller claims again. Either a row is gone because its partition was dropped between two statements, and the next
-- claim answers `too_old`. Or a row is new because a resend, a sweep or another process wrote it between them, and the next claim takes it.
create or replace function switchyard._vanished() returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'a delivery row was added or removed during the claim: claim again' using errcode = '40001';
end $$;

-- Returns the answer for each message of a batch and one side. After a claim, the arrays hold what the claim took; if a batch has several copies of
-- one event, the first gets `take`. In a preview `p_took_seqs` is null, and a missing row gets the answer of a first ask.
create or replace function switchyard._claim_answers(
  p_agent switchyard.agent, p_events uuid[], p_runs int[], p_who "char", p_took_seqs bigint[], p_took_runs int[])
returns setof switchyard.claim_answer
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp as $$
declare
  bottom bigint := (select f.seq from switchyard.floor f);
begin
  return query
  select u.ord,
    case
      when e.seq is null then 'unknown'
      -- A delivery below the floor that still has its row is known, for example a backfill's.
      when e.seq < bottom and d.seq is null then 'too_old'
      when t.s is not null and row_number() over (partition by e.seq, u.run order by u.ord) = 1 then 'take'
      when d.seq is null and u.run <> 0 then 'unknown_run'
      when d.seq is null and not x.subscribed then 'not_subscribed'
      when d.seq is null and e.due_at is not null and exists (select 1 from switchyard.cancelled c where c.seq = e.seq) then 'already_done'
      when d.seq is null and p_took_seqs is not null then switchyard._vanished()
      when p_who = 'n' and coalesce(d.owner, o.owner) = 'o' and switchyard.shadows(p_agent) then 'shadow'
      when d.state = 'p' then 'parked'
      when d.state in ('d', 's', 'e') then 'already_done'
      -- The claim did not settle a row that appeared while it ran. The next claim does.
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

-- Returns the key of an event's seals. Who reads the event to publish it gets this key and no other.
create or replace function switchyard._seal_key(key bytea, event_id uuid) returns bytea
language sql immutable parallel safe
return sha256(convert_to('seal', 'UTF8') || key || uuid_send(event_id));

-- Returns the seal of a body about this event, by the SHA-256 of the body. The parts that are hashed have a fixed length.
create or replace function switchyard._seal(key bytea, event_id uuid, digest bytea) returns text
language sql immutable parallel safe
return encode(sha256(switchyard._seal_key(key, event_id) || digest), 'hex');

-- Returns what a claim by the agent would answer, without locks and writes. With the digests and the seals of the messages' bodies, the answer for a
-- body of an event that is logged, and without its seal, is `forged`.
create or replace function switchyard.preview(
  p_agent text, p_events uuid[], p_runs int[], p_digests bytea[] default null, p_seals text[] default null) returns setof switchyard.claim_answer
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
  select s.ord, case when p_digests is not null and s.seq is not null
                          and p_seals[s.ord] is distinct from switchyard._seal(k.key, p_events[s.ord], p_digests[s.ord]) then 'forged'
                     else s.verdict end,
         s.seq, s.epoch, s.attempts, s.max_attempts, s.returns, s.revision, s.emits
    from switchyard._claim_answers(switchyard.agent_named(p_agent), p_events, p_runs, 'n', null, null) s cross join switchyard.signing_key k
   order by s.ord;
end $$;

-- Claims a batch. Deliveries with the answer `take` are settled as done in the caller's transaction; its commit makes that permanent. Rows are
-- written and locked in the order of their sequence, so that two batches do not deadlock. Raises SY003 unless the transaction is read committed.
create or replace function switchyard.claim_batch(p_agent text, p_events uuid[], p_runs int[], p_who "char") returns setof switchyard.claim_answer
language plpgsql volatile rows 10 set search_path = pg_catalog, pg_temp set jit = off
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  a switchyard.agent;
  asked bigint[];
  asked_runs int[];
  firsts bigint[];
  won bigint[] := '{}';
  kept bigint[];
  kept_runs int[];
  late boolean;
  mark text;
  bottom bigint := (select f.seq from switchyard.floor f);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a claim needs the isolation level read committed: begin the transaction with it' using errcode = 'SY003';
  end if;
  a := switchyard.agent_named(p_agent);

  -- The triggers on the application's tables do nothing for an agent, since it emits its own events. The mark is set here, since a statement of its
  -- own would be one more for each batch.
  select array_agg(x.seq), array_agg(x.run), array_agg(x.seq) filter (where x.run = 0 and x.seq >= bottom), bool_or(x.seq < bottom),
         case when p_who = 'n' then (select set_config('switchyard.agent', switchyard._mark(k.key), true) from switchyard.signing_key k) end
    into asked, asked_runs, firsts, late, mark
    from (select distinct e.seq, u.run
            from unnest(p_events, p_runs) u (event_id, run)
            join switchyard.event_log e on e.event_id = u.event_id order by 1, 2) x;
  if firsts is not null then
    won := (switchyard._create_deliveries(a.id, 0, firsts, 'asked', p_who, true)).won;
  end if;

  -- Lock the rows that this call did not insert, read their present state, and settle those that are unfinished and belong to `p_who`.
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
    perform switchyard._note_late(a.id, p_events, p_runs);
  end if;

  return query
  select s.* from switchyard._claim_answers(a, p_events, p_runs, p_who,
      won || kept, array_fill(0, array[cardinality(won)]) || kept_runs) s
   order by s.ord;
end $$;

-- Gives a delivery that this transaction has claimed another final state, or parks it. Raises SY003 if this transaction has not claimed it, which
-- the row's xmin shows.
create or replace function switchyard.settle(p_agent text, p_event uuid, p_run int, p_state "char", p_reason text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  if p_state not in ('s', 'e', 'p') then
    raise exception 'a delivery cannot be settled as "%": use s, e or p', p_state using errcode = 'SY003';
  end if;
  update switchyard.delivery d set state = p_state, reason = p_reason, at = now()
    from switchyard.event_log e
   where e.event_id = p_event and d.agent = a.id and d.run = p_run and d.seq = e.seq and d.state = 'd'
     and d.xmin = pg_current_xact_id()::xid;
  if not found then
    raise exception 'this transaction has not claimed the delivery: claim it before settle' using errcode = 'SY003';
  end if;
  if p_state = 'p' then
    insert into switchyard.failure (component, event_id, run, seq, attempt, parked, reason)
    select p_agent, p_event, p_run, d.seq, d.attempts, true, p_reason
      from switchyard.event_log e join switchyard.delivery d on d.agent = a.id and d.run = p_run and d.seq = e.seq
     where e.event_id = p_event;
  end if;
end $$;

-- Returns the records that are superseded: those with a state to which a newer sequence was applied. For the other records it sets the gates to
-- their sequences. A record with several states passes all gates or none. Gates are locked in one order, whatever the order of the records, so that
-- two batches never deadlock.
create or replace function switchyard.pass_gates(
  p_agent text, p_records bigint[], p_types text[], p_ids text[], p_seqs bigint[]) returns bigint[]
language plpgsql volatile set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  superseded bigint[];
begin
  -- Most batches have one record with one state. One statement then checks and sets the gate.
  if cardinality(p_records) = 1 then
    insert into switchyard.gate as g (agent, aggregate_type, aggregate_id, seq) values (
      coalesce((select a.id from switchyard.agent a where a.name = p_agent), (switchyard.agent_named(p_agent)).id), p_types[1], p_ids[1], p_seqs[1])
    on conflict (agent, aggregate_type, aggregate_id) do update set seq = excluded.seq where g.seq <= excluded.seq;
    return case when found then '{}' else p_records end;
  end if;

  insert into switchyard.gate (agent, aggregate_type, aggregate_id, seq)
  select distinct coalesce((select a.id from switchyard.agent a where a.name = p_agent), (switchyard.agent_named(p_agent)).id), u.type, u.id,
         '-9223372036854775808'::bigint
    from unnest(p_types, p_ids) u (type, id) order by 2, 3
  on conflict (agent, aggregate_type, aggregate_id) do nothing;

  select coalesce(array_agg(distinct u.record), '{}') into superseded
    from (select g.aggregate_type, g.aggregate_id, g.seq from switchyard.gate g
           where g.agent = (select a.id from switchyard.agent a where a.name = p_agent)
             and (g.aggregate_type, g.aggregate_id) in (select u.type, u.id from unnest(p_types, p_ids) u (type, id))
           order by g.aggregate_type, g.aggregate_id for update) g
    join unnest(p_records, p_types, p_ids, p_seqs) u (record, type, id, seq) on u.type = g.aggregate_type and u.id = g.aggregate_id
   where g.seq > u.seq;

  update switchyard.gate g set seq = n.seq
    from (select u.type, u.id, max(u.seq) as seq from unnest(p_records, p_types, p_ids, p_seqs) u (record, type, id, seq)
           where u.record <> all (superseded) group by u.type, u.id) n
   where g.agent = (select a.id from switchyard.agent a where a.name = p_agent)
     and g.aggregate_type = n.type and g.aggregate_id = n.id and g.seq < n.seq;
  return superseded;
end $$;
