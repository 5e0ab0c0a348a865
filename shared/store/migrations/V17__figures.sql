-- How much there is, how quick and how faulty: what advice is given from, and what a team's own page shows. Nothing here reads the whole log:
-- places in it are found by its key, samples are its newest rows, and where counting would be dear the answer says that it is an estimate.

-- How many events a range of the log holds: counted where it is short; else the sequences drawn, less as many as are missing among the newest.
create function switchyard._events_between(p_first bigint, p_last bigint, out n bigint, out estimated boolean)
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

-- The most events in one second. The fences that a schedule sets every minute divide the range; of the ten fullest spans up to twenty thousand
-- events each are counted by second, and a span that is longer counts with its average at least.
create function switchyard._peak_between(p_first bigint, p_last bigint, p_since timestamptz, p_until timestamptz) returns double precision
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

-- What the newest thousand deliveries of an agent in a range came to, live ones alone, that were tried: what only waits says nothing of how often
-- it goes wrong. They are looked for among the newest ten thousand. `failed`: at least once, whatever became of it. Latency is from the log to the
-- transaction that settled it, by whoever owned it, in milliseconds; without what was to wait (`deliver_at`) and what a person has sent again.
create function switchyard._sample_of(p_agent smallint, p_first bigint, p_last bigint, out sampled bigint, out failed bigint, out done bigint,
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

-- Everything, of the time since `p_window` ago, or since events are logged where that is shorter. The keys are those of the store's `Figures`.
create function switchyard.figures(p_window interval default '1 day') returns json
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

  -- As they are stored: a payload that is compressed counts with what is left of it, since nothing is unpacked for this.
  select avg(pg_column_size(e.payload) + coalesce(pg_column_size(e.metadata), 0)) into bytes
    from (select l.event_id from switchyard.event_log l where l.seq between bottom and top order by l.seq desc limit 200) n
    cross join lateral (select v.payload, v.metadata from switchyard.event v where v.id = n.event_id offset 0) e;

  -- For how long the first in line has been waiting for the shim: of what is to go at once, and of what has waited for its time.
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
  -- Of an agent that listens to nothing any more there is nothing to tell.
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
              select 1 from switchyard.failure f where f.agent = g.name and f.at >= since limit most) p)) order by g.name), '[]')
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
    -- Of the whole server, since its limit is for all; a pooler's clients are its own affair.
    'connections', (select coalesce(sum(x.numbackends), 0) from pg_stat_database x),
    'max_connections', current_setting('max_connections')::int,
    'agents', agents);
end $$;
