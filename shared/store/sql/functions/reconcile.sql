-- Reconciliation: the ledger finds missing deliveries, and hands out due ones to be sent again.

-- Creates missing deliveries of events that are older than the agent's grace, and moves the watermark up to the stable point. Returns how many rows
-- it wrote, and in `more` whether the watermark can move further. A pass covers at most `p_window` sequences, so that it is short and its work is
-- kept. Inside the window it writes rows for all visible events. The watermark waits for the stable point, and any long write transaction in the
-- cluster, also in another database, holds that back. Events more than a window above a stable point that is held back wait too.
create or replace function switchyard.sweep(p_agent text, p_window bigint default 50000, out written bigint, out more boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  lo bigint;
  hi bigint;
  stable bigint;
begin
  written := 0;
  more := false;
  -- This lock lets one sweep of an agent run at a time. The sweep must never lock the agent's row, here or later, because a registration locks that
  -- row before the subscriptions.
  perform 1 from switchyard.subscription s where s.agent = a.id order by s.type, s.from_seq for update;
  select min(s.checked) into lo from switchyard.subscription s where s.agent = a.id and (s.until_seq is null or s.checked < s.until_seq);
  if lo is not null then
    stable := switchyard.stable_seq(a.grace);
    hi := least(greatest(stable, lo), lo + p_window);
    more := hi < stable;
    -- One statement, so that both halves see a period that a registration adds meanwhile, or neither does. A period that reaches further down than
    -- this pass stays as it is.
    with missing as (
      select array_agg(distinct e.seq) as seqs
        from switchyard.event_log e
        join switchyard.subscription s on s.agent = a.id and s.type = e.type and e.seq > s.checked and e.seq >= s.from_seq
                                      and (s.until_seq is null or e.seq <= s.until_seq)
       where e.seq > lo and e.seq <= lo + p_window and (e.seq <= hi or e.logged_at < clock_timestamp() - a.grace)
         and e.seq >= (select f.seq from switchyard.floor f)
         and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq)),
    moved as (
      update switchyard.subscription s set checked = hi, n = s.n + (
               select count(*) from switchyard.event_log e
                where e.type = s.type and e.seq > s.checked and e.seq <= hi and e.seq >= s.from_seq
                  and (s.until_seq is null or e.seq <= s.until_seq))
       where s.agent = a.id and s.checked >= lo and s.checked < hi and (s.until_seq is null or s.checked < s.until_seq))
    select coalesce((switchyard._create_deliveries(a.id, 0, m.seqs, 'missing', p_reason => 'missing')).written, 0) into written
      from missing m where m.seqs is not null;
    written := coalesce(written, 0);
  end if;
end $$;

-- Returns events without a delivery that are older than the grace. Right after a sweep there are none.
create or replace function switchyard.missing(p_agent text, p_at_most int default 1000) returns table (seq bigint, event_id uuid)
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  lo bigint;
begin
  select min(s.checked) into lo from switchyard.subscription s where s.agent = a.id and (s.until_seq is null or s.checked < s.until_seq);
  return query
  select e.seq, e.event_id
    from switchyard.event_log e
    join switchyard.subscription s on s.agent = a.id and s.type = e.type and e.seq > s.checked and e.seq >= s.from_seq
                                  and (s.until_seq is null or e.seq <= s.until_seq)
   where e.seq > lo and e.logged_at < clock_timestamp() - a.grace and e.seq >= (select f.seq from switchyard.floor f)
     and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq)
   order by e.seq limit p_at_most;
end $$;

-- Expires unfinished deliveries of deleted events, since there is nothing to send and an agent with a copy would find nothing. Also of cancelled
-- events, for an agent that subscribed afterwards. It skips rows that a transaction holds.
create or replace function switchyard._expire_deleted(p_agent smallint, p_seqs bigint[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchyard._see_every_event();
  with gone as materialized (
    select d.seq, d.run from switchyard.delivery d
     where d.agent = p_agent and d.seq = any (p_seqs) and d.state in ('a', 'f')
     order by d.seq, d.run for update skip locked)
  update switchyard.delivery d set state = 'e', at = now(), next_attempt_at = null,
         reason = case when exists (select 1 from switchyard.cancelled c where c.seq = d.seq) then 'cancelled' else 'event_deleted' end
    from gone g where d.agent = p_agent and d.seq = g.seq and d.run = g.run;
end $$;

-- Expires deliveries of deleted events that the old systems would get next, up to a thousand for each agent. `due` does this for the agents. It
-- looks up each event, because a join would read all of the event log or of the events.
create or replace function switchyard._expire_deleted_of_old() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  gone record;
begin
  for gone in
    select a.id, array_agg(n.seq) as seqs
      from switchyard.agent a cross join lateral (
        select d.seq from switchyard.delivery d
         where d.agent = a.id and d.owner = 'o' and d.state in ('a', 'f') and d.run = 0 and d.next_attempt_at <= now()
         order by d.next_attempt_at, d.seq limit 1000) n
      join switchyard.event_log l on l.seq = n.seq
     where not exists (select 1 from switchyard.event e where e.id = l.event_id)
     group by a.id
  loop
    perform switchyard._expire_deleted(gone.id, gone.seqs);
  end loop;
end $$;

-- Returns the wait until a delivery is sent again that was sent `sends` times without an answer: the grace, doubled each time, up to an hour (or the
-- grace, if that is longer). Up to a fifth more, by the sequence, spreads deliveries that were lost together.
create or replace function switchyard._resend_after(grace interval, sends smallint, seq bigint) returns interval
language sql immutable parallel safe
return greatest(grace, least(grace * power(2, least(sends, 30)), interval '1 hour')) * (1 + (hashint8(seq) & 1023) / 5120.0);

-- Leases deliveries of the agent that are due, the longest overdue first, and returns them. The caller sends them after the commit; if a send is
-- lost, the delivery is due again when the lease ends. It leaves unpublished events to the shim, which keeps the order. After twenty sends without
-- an answer it parks the delivery as `unanswered`, for an operator. With `p_overdue` above 0 the queue may still hold messages, so the send does not
-- count: a copy may be among them.
create or replace function switchyard.due(p_agent text, p_at_most int, p_overdue interval default '0')
returns table (seq bigint, run int, epoch int, sends smallint)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  most_sends constant smallint := 20;
  counts constant boolean := p_overdue <= interval '0';
  a switchyard.agent := switchyard.agent_named(p_agent);
  deleted bigint[];
  seqs bigint[];
  runs int[];
  epochs int[];
  sent smallint[];
  parked bigint;
begin
  select array_agg(x.seq) into deleted
    from (select d.seq from switchyard.delivery d
           where d.agent = a.id and d.owner = 'n' and d.state in ('a', 'f') and d.next_attempt_at <= now() - p_overdue
             and (d.run <> 0 or not exists (select 1 from switchyard.outbox o where o.seq = d.seq))
           order by d.next_attempt_at, d.seq limit p_at_most) x
    join switchyard.event_log l on l.seq = x.seq
   where not exists (select 1 from switchyard.event e where e.id = l.event_id) or exists (select 1 from switchyard.cancelled c where c.seq = x.seq);
  if deleted is not null then
    perform switchyard._expire_deleted(a.id, deleted);
  end if;

  with ripe as materialized (
    select d.run, d.seq, d.sends from switchyard.delivery d
     where d.agent = a.id and d.owner = 'n' and d.state in ('a', 'f') and d.next_attempt_at <= now() - p_overdue
       and (d.run <> 0 or not exists (select 1 from switchyard.outbox o where o.seq = d.seq))
     order by d.next_attempt_at, d.seq limit p_at_most
       for update of d skip locked),
  handed_out as (
    update switchyard.delivery d set sends = d.sends + counts::int, next_attempt_at = now() + switchyard._resend_after(a.grace, d.sends, d.seq)
      from ripe r
     where d.agent = a.id and d.run = r.run and d.seq = r.seq and d.owner = 'n' and d.state in ('a', 'f')
       and (d.sends < most_sends or not counts)
    returning d.seq, d.run, d.epoch, d.sends),
  given_up as (
    update switchyard.delivery d set state = 'p', reason = 'unanswered', at = now(), next_attempt_at = null
      from ripe r
     where d.agent = a.id and d.run = r.run and d.seq = r.seq and d.owner = 'n' and d.state in ('a', 'f') and d.sends >= most_sends and counts
    returning d.seq, d.run, d.attempts),
  told as (
    insert into switchyard.failure (component, event_id, run, seq, attempt, parked, reason, error)
    select p_agent, l.event_id, g.run, g.seq, g.attempts, true, 'unanswered',
           format('sent %s times without an answer', most_sends)
      from given_up g join switchyard.event_log l on l.seq = g.seq
     order by g.seq, g.run)
  select coalesce(array_agg(h.seq order by h.seq, h.run), '{}'), coalesce(array_agg(h.run order by h.seq, h.run), '{}'),
         coalesce(array_agg(h.epoch order by h.seq, h.run), '{}'), coalesce(array_agg(h.sends order by h.seq, h.run), '{}'),
         (select count(*) from given_up)
    into seqs, runs, epochs, sent, parked
    from handed_out h;
  if cardinality(seqs) > 0 or parked > 0 then
    perform switchyard.note('resent', p_agent, jsonb_build_object(
      'sent', cardinality(seqs), 'again', (select count(*) from unnest(sent) n where n > 1), 'parked', parked));
  end if;
  return query select u.s, u.r, u.e, u.n from unnest(seqs, runs, epochs, sent) u (s, r, e, n);
end $$;

-- Adds events to the event log and the outbox that were inserted since `p_since`, and since logging started, and have no row in the event log: they
-- came while the trigger was disabled or the sequence was behind. Returns how many. It needs the application's index on `created_at`: without the
-- index it finds nothing, and a row without that time is never found. It looks up each event, because a join would read all of the event log.
create or replace function switchyard.unlogged(p_since timestamptz, p_at_most int default 1000) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  n bigint;
begin
  perform switchyard._see_every_event();
  if not switchyard.found_by_time() then
    return 0;
  end if;
  with found as materialized (
    select e.id, e.type, e.aggregate_id, e.payload, e.metadata, e.created_at from switchyard.event e
     where e.created_at >= greatest(p_since, (select l.since from switchyard.logging l))
       and not exists (select 1 from switchyard.event_log l where l.event_id = e.id)
     order by e.created_at, e.id limit p_at_most),
  logged as (
    insert into switchyard.event_log (event_id, type, aggregate_id, project_id, due_at, max_attempts)
    select f.id, coalesce(f.type, ''), f.aggregate_id, switchyard._project_of(f.metadata, f.payload),
           switchyard._due_at_of(f.metadata), switchyard._max_attempts_of(f.metadata)
      from found f order by f.created_at, f.id
    on conflict do nothing
    returning seq, due_at, aggregate_id)
  insert into switchyard.outbox (seq, due_at, shard) select l.seq, l.due_at, switchyard.shard_of(l.aggregate_id) from logged l
  on conflict do nothing;
  get diagnostics n = row_count;
  if n > 0 then
    perform switchyard.note('unlogged', null, jsonb_build_object('logged', n));
  end if;
  return n;
end $$;

-- The tick, for the whole ledger, once a minute: corrects the sequence, logs events of the last ten minutes without a row in the event log, sets a
-- fence, adds partitions, and deletes outbox rows of deleted events. Returns what it measured, among it the room that is left in the partitions and
-- the time that the oldest delivery of an old system has waited.
create or replace function switchyard.tick(
  out last_seq bigint, out stable_seq bigint, out oldest_fence_secs double precision, out partitions_added int,
  out room bigint, out old_waits_secs double precision, out logged_late bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  -- Read before the sequence. So it is above the sequence only if rows were inserted without the sequence's value.
  top bigint := (select max(e.seq) from switchyard.event_log e);
begin
  perform switchyard._see_every_event();
  if top > switchyard.last_seq() then
    -- A thousand above, because others use the sequence at the same time, and it must never go back.
    perform setval('switchyard.event_log_seq_seq', top + 1000);
    perform switchyard.note('sequence_raised', null, jsonb_build_object('to', top + 1000));
  end if;
  logged_late := switchyard.unlogged(clock_timestamp() - interval '10 minutes');
  last_seq := switchyard.set_fence();
  stable_seq := switchyard.stable_seq();
  -- How long the stable point has been held back: the age of the first fence above it.
  select coalesce(extract(epoch from clock_timestamp() - min(f.at)), 0) into oldest_fence_secs
    from switchyard.fence f where f.seq > tick.stable_seq;
  partitions_added := switchyard.ensure_partitions();
  room := (select max(p.past) - 1 - tick.last_seq from switchyard.delivery_partitions() p);
  perform switchyard._expire_deleted_of_old();
  select coalesce(greatest(0, extract(epoch from clock_timestamp() - min(w.next_attempt_at))), 0) into old_waits_secs
    from switchyard.agent a cross join lateral (
      select min(d.next_attempt_at) as next_attempt_at from switchyard.delivery d
       where d.agent = a.id and d.owner = 'o' and d.state in ('a', 'f')) w;
  delete from switchyard.outbox o using (
    select x.seq from (select y.seq from switchyard.outbox y order by y.seq limit 10000) x
      join switchyard.event_log e on e.seq = x.seq
     where not exists (select 1 from switchyard.event v where v.id = e.event_id)) gone
   where o.seq = gone.seq;
end $$;

-- Returns whether the hourly check is due, and records that it was made. One of several concurrent callers gets true.
create or replace function switchyard.take_hourly_check(p_every interval) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.hourly_check x set at = clock_timestamp() where x.at <= clock_timestamp() - p_every;
  return found;
end $$;
