-- Who may work on a shard.

-- Those who share come one after the other, so that each sees what the one before has taken; the locks are taken in order.
create or replace function switchyard._lock_leases(p_name text, p_shards int) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform 1 from switchyard.lease l where l.name = p_name order by l.shard for update;
  if not found then
    insert into switchyard.lease (name, shard, until) select p_name, s, '-infinity' from generate_series(0, p_shards - 1) s
    on conflict do nothing;
    perform 1 from switchyard.lease l where l.name = p_name order by l.shard for update;
  end if;
end $$;

-- Takes part: gives back `p_back`, renews what the caller holds, and takes what is free up to its fair share. The newest `p_at_once` stay and
-- share evenly; an older one has a fair share of nothing, so it hands over and leaves. Nothing is taken from its holder before its lease has
-- run out: who holds more than `fair` gives back when nothing is on its way for what it gives.
create or replace function switchyard.share(p_name text, p_holder uuid, p_shards int, p_at_once int, p_ttl_ms bigint, p_back int[])
returns table (held int[], left_ms bigint, fair int, stays boolean, alone boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  -- Read before a possible wait for the locks, which errs on the safe side for all.
  t timestamptz := clock_timestamp();
  ends timestamptz := t + p_ttl_ms * interval '1 millisecond';
  have int;
  place record;
  free int[];
begin
  perform switchyard._lock_leases(p_name, p_shards);
  delete from switchyard.participant s where s.name = p_name and s.until <= t and s.holder <> p_holder;
  insert into switchyard.participant as s (name, holder, until) values (p_name, p_holder, ends)
  on conflict (name, holder) do update set until = excluded.until;

  -- Its place among them, the newest first; those who stay take the odd shards by age.
  select x.newest, x.others, least(x.others + 1, greatest(p_at_once, 1)) as staying into place
    from (select s.holder, row_number() over (order by s.since desc, s.holder) as newest, count(*) over () - 1 as others
            from switchyard.participant s where s.name = p_name) x
   where x.holder = p_holder;
  stays := place.newest <= place.staying;
  alone := place.others = 0;
  fair := case when stays then p_shards / place.staying + (place.staying - place.newest < p_shards % place.staying)::int else 0 end;

  update switchyard.lease l set holder = null where l.name = p_name and l.holder = p_holder and l.shard = any (p_back);
  update switchyard.lease l set until = ends where l.name = p_name and l.holder = p_holder;
  get diagnostics have = row_count;
  if have < fair then
    free := array(select l.shard from switchyard.lease l
                   where l.name = p_name and (l.holder is null or (l.holder <> p_holder and l.until <= t))
                   order by l.shard limit fair - have);
    update switchyard.lease l set holder = p_holder, until = ends where l.name = p_name and l.shard = any (free);
  end if;

  held := array(select l.shard from switchyard.lease l where l.name = p_name and l.holder = p_holder order by l.shard);
  left_ms := greatest(0, floor(extract(epoch from ends - clock_timestamp()) * 1000));
  return next;
end $$;

-- Gives everything back and takes part no more. Where somebody has notified it meanwhile it does nothing but forget that, and the answer is
-- false: look once more; `p_anyway` leaves all the same.
create or replace function switchyard.leave(p_name text, p_holder uuid, p_shards int, p_anyway boolean) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchyard._lock_leases(p_name, p_shards);
  if not p_anyway then
    update switchyard.participant s set notified = false where s.name = p_name and s.holder = p_holder and s.notified;
    if found then
      return false;
    end if;
  end if;
  update switchyard.lease l set holder = null where l.name = p_name and l.holder = p_holder;
  delete from switchyard.participant s where s.name = p_name and s.holder = p_holder;
  return true;
end $$;

-- Whether somebody is there already; whoever is looks once more before it leaves of its own accord. Takes no lock that sharing waits for.
create or replace function switchyard.notify(p_name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.participant s set notified = true where s.name = p_name and s.until > clock_timestamp() and not s.notified;
  -- Asked again even so: one that has left meanwhile is no longer among those found.
  return found or exists (select from switchyard.participant s where s.name = p_name and s.until > clock_timestamp());
end $$;
