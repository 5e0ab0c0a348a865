-- Retention: partitions of the ledger are added and dropped, and old rows of other tables are deleted.

-- Adds the partition for [first, past). It creates a table and then attaches it. `create table ... partition of` would block every claim while it
-- waits for running ones.
create or replace function switchyard.add_partition(first bigint, past bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  name text := 'delivery_' || first;
begin
  execute format('create table switchyard.%I (like switchyard.delivery including all)', name);
  execute format('alter table switchyard.delivery attach partition switchyard.%I for values from (%s) to (%s)', name, first, past);
end $$;

-- Returns the partitions for live events.
create or replace function switchyard.delivery_partitions() returns table (name text, first bigint, past bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select c.relname::text, b.bounds[1]::bigint, b.bounds[2]::bigint
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    cross join lateral (select regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\) TO \(''?(\d+)''?\)') as bounds) b
   where i.inhparent = 'switchyard.delivery'::regclass and c.relname <> 'delivery_history'
$$;

-- Keeps partitions for `ahead` sequences above the last one that was assigned. Returns how many it added.
create or replace function switchyard.ensure_partitions(ahead bigint default 5000000, size bigint default 1000000) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  top bigint;
  added int := 0;
begin
  -- The common case takes no lock.
  select max(past) into top from switchyard.delivery_partitions();
  if top is not null and top > switchyard.last_seq() + ahead then
    return 0;
  end if;
  lock table switchyard.delivery in share update exclusive mode;
  select coalesce(max(past), 1) into top from switchyard.delivery_partitions();
  while top <= switchyard.last_seq() + ahead loop
    perform switchyard.add_partition(top, top + size);
    top := top + size;
    added := added + 1;
  end loop;
  return added;
end $$;

-- Drops the oldest partition if none of its deliveries is unfinished or parked and every subscription was swept past it. Returns its name, or why
-- none was dropped. Copies of a message can arrive for 37 days (23 of the topic's retries, 14 of the queue's retention), so deliveries are kept for
-- longer than that. A backfill's deliveries are kept for ever, because a later backfill skips what they list: a partition with some stays, and the
-- floor moves past it.
create or replace function switchyard.drop_oldest(p_older_than interval default '45 days', out dropped text, out kept_because text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  p record;
  earlier record;
  unfinished boolean;
begin
  -- All claims wait for this transaction while it waits for its lock.
  perform set_config('lock_timeout', '200ms', true);
  -- A partition below the floor holds a backfill's deliveries and stays.
  select x.* into p from switchyard.delivery_partitions() x where x.past > (select f.seq from switchyard.floor f) order by x.first limit 1;
  if not found or p.past > switchyard.last_seq() then
    kept_because := 'in use';
    return;
  end if;
  if exists (select 1 from switchyard.event_log e where e.seq >= p.first and e.seq < p.past and e.logged_at > clock_timestamp() - p_older_than) then
    kept_because := 'too young';
    return;
  end if;
  -- Check once without a lock, so that a common refusal blocks no claim, and once more with it.
  for locked in 0..1 loop
    if locked = 1 then
      -- Lock the parent first, as every claim does. The other order deadlocks.
      lock table only switchyard.delivery in access exclusive mode;
      perform 1 from switchyard.floor for update;
    end if;
    -- A backfill's deliveries are as young as the backfill, however old the events are.
    if exists (select 1 from switchyard.backfill b where b.first_seq < p.past and b.last_seq >= p.first
                  and (b.ended_at is null or b.ended_at > clock_timestamp() - p_older_than)) then
      kept_because := 'a backfill';
      return;
    end if;
    if exists (select 1 from switchyard.subscription s
                where s.checked < least(coalesce(s.until_seq, p.past - 1), p.past - 1)) then
      kept_because := 'not swept';
      return;
    end if;
    execute format('select exists (select 1 from switchyard.%I where state in (''a'', ''f'', ''p''))', p.name) into unfinished;
    if unfinished then
      kept_because := 'unfinished rows';
      return;
    end if;
  end loop;
  update switchyard.floor set seq = p.past;
  for earlier in select x.agent, x.run from switchyard.backfill x where x.taken > 0 and x.first_seq < p.past and x.last_seq >= p.first loop
    if exists (select 1 from switchyard.delivery d where d.agent = earlier.agent and d.run = earlier.run and d.seq >= p.first and d.seq < p.past) then
      kept_because := 'what a backfill has done';
      perform switchyard.note('floor_passed', null, jsonb_build_object('partition', p.name, 'first', p.first, 'past', p.past, 'because', kept_because));
      return;
    end if;
  end loop;
  execute format('insert into switchyard.retired select agent, run, state, owner, count(*), min(seq), max(seq) from switchyard.%I group by 1, 2, 3, 4', p.name);
  execute format('drop table switchyard.%I', p.name);
  perform switchyard.note('drop_oldest', null, jsonb_build_object('partition', p.name, 'first', p.first, 'past', p.past));
  dropped := p.name;
end $$;

-- Deletes old rows: idempotency keys when their window is over, failures and audit rows after a year, late messages after 45 days. It deletes at
-- most `p_at_most` rows of each table, in the order of their ids, which grow with time. Returns how many it deleted.
create or replace function switchyard.prune(p_at_most int default 10000) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  n bigint;
  went bigint;
begin
  delete from switchyard.failure f using (select x.id from switchyard.failure x order by x.id limit p_at_most) old
   where f.id = old.id and f.at < now() - interval '1 year';
  get diagnostics went = row_count;
  delete from switchyard.audit r using (select x.id from switchyard.audit x order by x.id limit p_at_most) old
   where r.id = old.id and r.at < now() - interval '1 year';
  get diagnostics n = row_count;
  went := went + n;
  delete from switchyard.late l using (
    select x.agent, x.event_id, x.run from switchyard.late x where x.first_at < now() - interval '45 days' limit p_at_most) old
   where l.agent = old.agent and l.event_id = old.event_id and l.run = old.run;
  get diagnostics n = row_count;
  return went + n + switchyard.forget_keys(p_at_most);
end $$;
