-- Figures: the ledger in numbers, the live view, and the numbers for advice.

-- Returns the counts of an agent's run 0. It uses the watermark's counter and the rows that are not done. So the cost grows with the unfinished,
-- superseded and expired rows (3 s at a million), and not with the done ones.
create or replace function switchyard.ledger(p_agent text, out subscribed bigint, out done bigint, out pending bigint, out assigned bigint,
  out assigned_old bigint, out failing bigint, out parked bigint, out parked_old bigint, out superseded bigint, out expired bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  lo bigint;
  counted bigint;
begin
  -- A period that has ended and was swept has no events after the watermark.
  select coalesce(min(s.checked) filter (where s.until_seq is null or s.checked < s.until_seq), switchyard.last_seq()), coalesce(sum(s.n), 0)
    into lo, counted from switchyard.subscription s where s.agent = a.id;
  with row_or_retired as (
    select d.state, d.owner, 1 as n, exists (
             select 1 from switchyard.event_log e join switchyard.subscription s on s.agent = a.id and s.type = e.type
              where e.seq = d.seq and e.seq <= s.checked and e.seq >= s.from_seq and (s.until_seq is null or e.seq <= s.until_seq)) as swept
      from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.state <> 'd'
    union all
    select r.state, r.owner, r.n, true from switchyard.retired r where r.agent = a.id and r.run = 0 and r.state <> 'd'),
  open as (
    select coalesce(sum(n) filter (where state = 'a' and owner = 'n'), 0) as a, coalesce(sum(n) filter (where state = 'a' and owner = 'o'), 0) as o,
           coalesce(sum(n) filter (where state = 'f'), 0) as f, coalesce(sum(n) filter (where state = 'p'), 0) as p, coalesce(sum(n) filter (where state = 'p' and owner = 'o'), 0) as po,
           coalesce(sum(n) filter (where state = 's'), 0) as s, coalesce(sum(n) filter (where state = 'e'), 0) as e,
           coalesce(sum(n) filter (where swept), 0) as swept
      from row_or_retired),
  tail as (
    select count(*) as n, count(*) filter (where d.seq is null) as missing, count(*) filter (where d.state = 'd') as done
      from switchyard.event_log e
      join switchyard.subscription s on s.agent = a.id and s.type = e.type and e.seq > s.checked and e.seq >= s.from_seq
                                    and (s.until_seq is null or e.seq <= s.until_seq)
      left join switchyard.delivery d on d.agent = a.id and d.run = 0 and d.seq = e.seq and d.seq > lo
     where e.seq > lo)
  select counted + t.n, counted - x.swept + t.done, t.missing, x.a, x.o, x.f, x.p, x.po, x.s, x.e
    into subscribed, done, pending, assigned, assigned_old, failing, parked, parked_old, superseded, expired
    from open x cross join tail t;
end $$;

-- Returns events for the live view: each event, its delivery to each agent, and the events that it caused.
create or replace function switchyard.stream(p_after bigint, p_at_most int)
returns table (seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, project_id text, created_at text, causation_id text,
               correlation_id text, published boolean, deliveries json, children json)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select * from switchyard.event_log x where x.seq > p_after order by x.seq limit p_at_most),
  -- A caused event follows soon, so a window of 2,000 sequences replaces an index on the application's table. It is read once for the page, event by
  -- event. A query for each cause would read the whole table each time.
  caused as materialized (
    select k.seq, k.event_id, k.type, c.cause
      from switchyard.event_log k
      cross join lateral (select e.metadata ->> 'causation_id' as cause from switchyard.event e where e.id = k.event_id offset 0) c
     where k.seq > p_after and k.seq <= (select max(p.seq) + 2000 from page p) and c.cause is not null)
  select l.seq, l.event_id, l.type, coalesce(e.aggregate_type, ''), coalesce(l.aggregate_id, ''), l.project_id,
         switchyard.rfc3339(e.created_at), e.metadata ->> 'causation_id', e.metadata ->> 'correlation_id',
         not exists (select 1 from switchyard.outbox o where o.seq = l.seq),
         (select coalesce(json_agg(json_build_object('agent', a.name, 'owner', coalesce(d.owner, w.owner), 'state', d.state,
                   'attempts', coalesce(d.attempts, 0), 'run', coalesce(d.run, 0), 'reason', d.reason, 'at', switchyard.rfc3339(d.at))
                   order by a.name, d.run), '[]')
            from switchyard.subscription s
            join switchyard.agent a on a.id = s.agent
            left join lateral (select * from switchyard.delivery x where x.agent = a.id and x.seq = l.seq offset 0) d on true
            cross join lateral (select switchyard.owner_of(a, l.aggregate_id, l.project_id) as owner) w
           where s.type = l.type and l.seq >= s.from_seq and (s.until_seq is null or l.seq <= s.until_seq)),
         (select coalesce(json_agg(json_build_object('seq', k.seq, 'id', k.event_id, 'type', k.type) order by k.seq), '[]')
            from caused k where k.cause = l.event_id::text and k.seq > l.seq and k.seq <= l.seq + 2000)
    from page l
    left join lateral (select * from switchyard.event v where v.id = l.event_id offset 0) e on true
   order by l.seq;
end $$;

-- Returns how many events a range of the event log holds. A short range is counted. For a longer one, the number of sequences is reduced by the
-- share that is missing among the newest 200,000.
create or replace function switchyard._events_between(p_first bigint, p_last bigint, out n bigint, out estimated boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  counted constant bigint := 200000;
begin
  estimated := p_last - p_first >= counted;
  select count(*) into n from switchyard.event_log l
   where l.seq between case when estimated then p_last - counted + 1 else p_first end and p_last;
  if estimated then
    n := round((p_last - p_first + 1) * (n::numeric / counted));
  end if;
end $$;

-- Returns the most events in one second. The fences, one a minute, divide the range into spans. In each of the ten fullest spans, up to 20,000
-- events are counted by second. A longer span counts with at least its average.
create or replace function switchyard._peak_between(p_first bigint, p_last bigint, p_since timestamptz, p_until timestamptz) returns double precision
language sql volatile set search_path = pg_catalog, pg_temp as $$
  with mark as (
    select p_first - 1 as seq, p_since as at
    union all select f.seq, f.at from switchyard.fence f where f.at > p_since and f.at < p_until and f.seq between p_first and p_last
    union all select p_last, p_until),
  span as (
    select lag(m.seq) over w as past, m.seq as last, extract(epoch from m.at - lag(m.at) over w) as secs
      from mark m window w as (order by m.at, m.seq)),
  fullest as materialized (select * from span s where s.last > s.past order by s.last - s.past desc limit 10)
  select coalesce(max(greatest(b.n, (f.last - f.past) / greatest(f.secs, 1))), 0)::float8
    from fullest f cross join lateral (
      select max(s.n) as n from (
        select count(*) as n from (
          select l.logged_at from switchyard.event_log l where l.seq > f.past and l.seq <= f.last order by l.seq limit 20000) e
         group by date_trunc('second', e.logged_at)) s) b
$$;

-- Returns figures of an agent's newest thousand live deliveries in a range that were tried, from its newest ten thousand. Deliveries that only wait
-- say nothing about failures. `failed` counts those that failed at least once. The latency, in milliseconds, is from the log to the transaction that
-- settled the delivery, of either owner. It leaves out delayed events and deliveries that were sent back.
create or replace function switchyard._sample_of(p_agent smallint, p_first bigint, p_last bigint, out sampled bigint, out failed bigint, out done bigint,
  out avg_ms double precision, out p95_ms double precision)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  with latest as materialized (
    select d.seq, d.state, d.attempts, d.redrives, d.at from switchyard.delivery d
     where d.agent = p_agent and d.run = 0 and d.seq between p_first and p_last
     order by d.seq desc limit 10000),
  newest as (
    select * from latest x where x.state <> 'a' or x.attempts > 0 or x.redrives > 0 order by x.seq desc limit 1000),
  told as (
    select n.state = 'p' or n.attempts > 0 or n.redrives > 0 as failed,
           case when n.state = 'd' and n.redrives = 0 and l.due_at is null
                then greatest(0, extract(epoch from n.at - l.logged_at) * 1000)::float8 end as ms
      from newest n join switchyard.event_log l on l.seq = n.seq)
  select count(*), count(*) filter (where t.failed), count(t.ms), avg(t.ms), percentile_cont(0.95) within group (order by t.ms)
    from told t
$$;

-- Returns figures of volume, latency and failures, for advice and for a team's own page. It never reads the whole event log: it finds places by the
-- primary key and samples the newest rows, and it says which numbers are estimates. The figures cover the time since `p_window` ago, or since
-- logging started if that is later. The keys are those of `Figures` in the store.
create or replace function switchyard.figures(p_window interval default '1 day') returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  most constant int := 100000;
  until constant timestamptz := clock_timestamp();
  since constant timestamptz := greatest(until - p_window, (select g.since from switchyard.logging g));
  top constant bigint := switchyard.last_seq();
  bottom constant bigint := switchyard._seq_logged_from(since);
  events record;
  sampled bigint;
  bytes double precision;
  waits double precision;
  agents json;
begin
  select * into events from switchyard._events_between(bottom, top);

  -- Stored sizes: a compressed payload counts with its compressed size, because nothing is decompressed for this.
  select avg(pg_column_size(e.payload) + coalesce(pg_column_size(e.metadata), 0)) into bytes
    from (select l.event_id from switchyard.event_log l where l.seq between bottom and top order by l.seq desc limit 200) n
    cross join lateral (select v.payload, v.metadata from switchyard.event v where v.id = n.event_id offset 0) e;

  -- How long the first event of the outbox has waited for the shim, with or without a delay.
  select coalesce(max(w.secs), 0) into waits from (
    (select extract(epoch from until - l.logged_at) as secs
       from (select o.seq from switchyard.outbox o where o.parked_at is null and o.due_at is null order by o.seq limit 1) f
       join switchyard.event_log l on l.seq = f.seq)
    union all
    (select extract(epoch from until - o.due_at) from switchyard.outbox o
      where o.parked_at is null and o.due_at <= until order by o.due_at, o.seq limit 1)) w;

  with newest as materialized (
    select l.type from switchyard.event_log l where l.seq between bottom and top order by l.seq desc limit 10000),
  kind as materialized (select n.type, count(*) as n from newest n group by n.type),
  -- An agent without a subscription is left out.
  listening as (
    select a.id, a.name, a.mode, coalesce((
             select sum(k.n) from kind k
              where exists (select 1 from switchyard.subscription s where s.agent = a.id and s.type = k.type and s.until_seq is null)), 0) as heard
      from switchyard.agent a
     where exists (select 1 from switchyard.subscription s where s.agent = a.id and s.until_seq is null))
  select (select count(*) from newest), coalesce(json_agg(json_build_object(
           'agent', g.name, 'mode', g.mode, 'heard', g.heard, 'sampled', s.sampled, 'failed', s.failed, 'done', s.done,
           'avg_latency_ms', s.avg_ms, 'p95_latency_ms', s.p95_ms,
           'parked', (select count(*) from (
              select 1 from switchyard.delivery d where d.agent = g.id and d.state = 'p' and d.run = 0 limit most) p),
           'failed_attempts', (select count(*) from (
              select 1 from switchyard.failure f where f.component = g.name and f.at >= since limit most) p)) order by g.name), '[]')
    into sampled, agents
    from listening g cross join lateral switchyard._sample_of(g.id, bottom, top) s;

  return json_build_object(
    'at', switchyard.rfc3339(until),
    'window_secs', extract(epoch from until - since)::float8,
    'events', events.n, 'events_estimated', events.estimated, 'events_sampled', sampled,
    'peak_per_second', switchyard._peak_between(bottom, top, since, until),
    'event_bytes', coalesce(bytes, 0)::float8,
    'unpublished', (select count(*) from (
       select 1 from switchyard.outbox o where o.parked_at is null and (o.due_at is null or o.due_at <= until) limit most) o),
    'oldest_unpublished_secs', greatest(0, waits)::float8,
    -- Of the whole server, because its limit is for all databases. A pooler's clients are not counted.
    'connections', (select coalesce(sum(x.numbackends), 0) from pg_stat_database x),
    'max_connections', current_setting('max_connections')::int,
    'agents', agents);
end $$;
