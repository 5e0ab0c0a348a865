-- The leases of the shards, and the shims that share them.

-- Locks all leases of a name, and creates them if there are none. Callers run one after the other, so each sees what the one before has taken. They
-- lock in one order.
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

-- Joins the participants or stays one: gives back the shards `p_back`, renews the caller's leases, and takes free shards up to its fair share.
-- Returns the shards that it holds, the time left, its fair share, whether it stays, and whether it is alone. The newest `p_at_once` participants
-- stay and share evenly. An older one has a fair share of 0, so it hands over and leaves. A lease is never taken from its holder before it ends: a
-- holder of more than `fair` gives a shard back when it has no call open for it.
create or replace function switchyard.share(p_name text, p_holder uuid, p_shards int, p_at_once int, p_ttl_ms bigint, p_back int[])
returns table (held int[], left_ms bigint, fair int, stays boolean, alone boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  -- Read the time before a possible wait for the locks. An earlier time is the safe side: the caller's own lease ends earlier, and others look
  -- later.
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

  -- The caller's place by age, the newest first. If the shards do not divide evenly, the older of those that stay take the rest.
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

-- Gives all leases back, removes the participant and returns true. If `notify` has marked the participant meanwhile, the function only clears the
-- mark and returns false, and the caller reads the outbox once more. With `p_anyway` it leaves in any case.
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

-- Marks all live participants, so that each reads the outbox once more before it leaves. Returns whether there is one. It takes no lock that `share`
-- waits for.
create or replace function switchyard.notify(p_name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.participant s set notified = true where s.name = p_name and s.until > clock_timestamp() and not s.notified;
  -- Asked after the update, which does not count participants that were marked before.
  return found or exists (select from switchyard.participant s where s.name = p_name and s.until > clock_timestamp());
end $$;

-- Ends every lease and forgets who takes part. For a start at which nobody can hold one: a holder that lives goes on until it renews.
create or replace function switchyard.end_leases() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  delete from switchyard.participant;
  update switchyard.lease set holder = null;
end $$;
