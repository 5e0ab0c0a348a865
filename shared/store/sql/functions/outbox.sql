-- The outbox: what the shim reads, and what happens to each row.

-- The most bytes of metadata that are read. A row must not decide how much memory a function needs. No message could carry more metadata than this.
create or replace function switchyard.most_metadata_bytes() returns int language sql immutable parallel safe return 262144;
-- The most bytes of each name that are read: type, aggregate type, aggregate id and project.
create or replace function switchyard.most_name_bytes() returns int language sql immutable parallel safe return 1024;
-- The largest stored JSON that is printed without an exception block. Compression makes 255 bytes into 1 at most, printing makes 1 byte into 6 at
-- most, and a text cannot reach 1 GiB.
create or replace function switchyard.most_stored_bytes() returns int language sql immutable parallel safe return 655360;

-- Returns JSON as text, or null if the text would be larger than Postgres allows.
create or replace function switchyard._printed(given jsonb) returns text
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  if pg_column_size(given) <= switchyard.most_stored_bytes() then
    return given::text;
  end if;
  begin
    return given::text;
  exception when program_limit_exceeded or internal_error then
    return null;
  end;
end $$;
create or replace function switchyard._printed(given json) returns text language sql stable parallel safe return given::text;

-- Returns which part of a row is larger than the limits above, in words, or null if none is. `metadata` is the printed metadata, or null if it was
-- not printed.
create or replace function switchyard._excess(type text, aggregate_type text, aggregate_id text, project_id text, stored jsonb, metadata text) returns text
language sql stable parallel safe
return case
  when octet_length(metadata) > switchyard.most_metadata_bytes()
    then format('the metadata has %s bytes, and the maximum is %s', octet_length(metadata), switchyard.most_metadata_bytes())
  when stored is not null and metadata is null then format('the metadata has more than %s bytes', switchyard.most_metadata_bytes())
  when octet_length(type) > switchyard.most_name_bytes()
    then format('the type has %s bytes, and the maximum is %s', octet_length(type), switchyard.most_name_bytes())
  when octet_length(aggregate_type) > switchyard.most_name_bytes()
    then format('the aggregate type has %s bytes, and the maximum is %s', octet_length(aggregate_type), switchyard.most_name_bytes())
  when octet_length(aggregate_id) > switchyard.most_name_bytes()
    then format('the aggregate has %s bytes, and the maximum is %s', octet_length(aggregate_id), switchyard.most_name_bytes())
  when octet_length(project_id) > switchyard.most_name_bytes()
    then format('the project has %s bytes, and the maximum is %s', octet_length(project_id), switchyard.most_name_bytes())
end;

-- Returns events as they are published: the newest revision of the payload, as `payload::text` prints it. A payload larger than `p_payload_bytes` is
-- left out; the default, 1 MiB, is the largest message. If another part is too large, the row holds only `excess`, which says so. A deleted event is
-- left out.
create or replace function switchyard.events_of(p_seqs bigint[], p_payload_bytes int default 1048576) returns setof switchyard.logged_event
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  perform switchyard._see_every_event();
  return query
  select l.seq, e.id, case when x.excess is null then coalesce(e.type, '') else '' end,
         case when x.excess is null then coalesce(e.aggregate_type, '') else '' end,
         case when x.excess is null then coalesce(e.aggregate_id, '') else '' end,
         case when octet_length(p.text) <= p_payload_bytes then p.text end,
         case when x.excess is null then coalesce(octet_length(p.text), 2147483647) else 0 end, case when x.excess is null then m.text end, e.version,
         switchyard.rfc3339(e.created_at), case when x.excess is null then l.project_id end, v.revision, x.excess, switchyard._seal_key(k.key, e.id)
    from unnest(p_seqs) with ordinality u (seq, ord)
    join switchyard.event_log l on l.seq = u.seq
    join switchyard.event e on e.id = l.event_id
    cross join switchyard.signing_key k
    left join lateral (select r.revision, r.payload from switchyard.revision r where r.event_id = e.id order by r.revision desc limit 1) v on true
    cross join lateral (
      select case when pg_column_size(e.metadata) <= switchyard.most_stored_bytes() then e.metadata::text end as text offset 0) m
    cross join lateral (
      select switchyard._excess(e.type, e.aggregate_type, e.aggregate_id, l.project_id, e.metadata, m.text) as excess offset 0) x
    cross join lateral (select case when x.excess is not null then null when v.payload is not null then switchyard._printed(v.payload)
                                    when e.payload is not null then switchyard._printed(e.payload) else 'null' end as text offset 0) p
   order by u.ord;
end $$;

-- Returns the sequences to publish now that the caller does not know, the lowest first, and at most `p_per_aggregate` of each aggregate. One
-- statement reads them, so they are from one snapshot: if a row is in it, all rows that were committed before that row's insert are too. `p_shards`
-- are the caller's shards; null means all. Delayed rows are read by their due time, apart from rows without one.
create or replace function switchyard.pending_seqs(p_known bigint[], p_full text[], p_shards int[], p_at_most int, p_per_aggregate int) returns bigint[]
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  seqs bigint[];
begin
  -- Without a full aggregate the query needs no join with the event log.
  if cardinality(p_full) = 0 then
    seqs := array(
      select x.seq from (
        (select o.seq from switchyard.outbox o
          where o.parked_at is null and o.due_at is null and o.seq not in (select unnest(p_known))
            and (p_shards is null or o.shard = any (p_shards))
          order by o.seq limit p_at_most)
        union all
        (select o.seq from switchyard.outbox o
          where o.parked_at is null and o.due_at is not null and o.due_at <= now() and o.seq not in (select unnest(p_known))
            and (p_shards is null or o.shard = any (p_shards))
          order by o.seq limit p_at_most)) x
       order by x.seq limit p_at_most);
  else
    seqs := array(
      select x.seq from (
        (select o.seq from switchyard.outbox o join switchyard.event_log l on l.seq = o.seq
          where o.parked_at is null and o.due_at is null and o.seq not in (select unnest(p_known))
            and (p_shards is null or o.shard = any (p_shards)) and coalesce(l.aggregate_id, '') not in (select unnest(p_full))
          order by o.seq limit p_at_most)
        union all
        (select o.seq from switchyard.outbox o join switchyard.event_log l on l.seq = o.seq
          where o.parked_at is null and o.due_at is not null and o.due_at <= now() and o.seq not in (select unnest(p_known))
            and (p_shards is null or o.shard = any (p_shards)) and coalesce(l.aggregate_id, '') not in (select unnest(p_full))
          order by o.seq limit p_at_most)) x
       order by x.seq limit p_at_most);
  end if;
  return array(
    select x.seq from (
      select l.seq, row_number() over (partition by l.aggregate_id order by l.seq) as nth
        from switchyard.event_log l where l.seq = any (seqs)) x
     where x.nth <= p_per_aggregate
     order by x.seq);
end $$;

-- Deletes those of these outbox rows whose event the application has deleted. Returns how many.
create or replace function switchyard.forget_deleted(p_seqs bigint[]) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  perform switchyard._see_every_event();
  delete from switchyard.outbox o
   where o.seq = any (p_seqs)
     and not exists (select 1 from switchyard.event_log l join switchyard.event e on e.id = l.event_id where l.seq = o.seq);
  get diagnostics n = row_count;
  return n;
end $$;

-- Returns what to publish now, in the order of the sequence. It reads a page from the beginning every time, without the sequences that the caller
-- knows (`p_known`) and without the aggregates of which it wants no more (`p_full`), from its shards only (`p_shards`; null: all), and at most
-- `p_per_aggregate` of each aggregate. There is no cursor, so a row that commits late is on the next page. A payload larger than `p_payload_bytes`
-- is left out. The page ends early when payloads, metadata and names reach `p_page_bytes`. The first row is always in it, and is no larger than the
-- limits above.
create or replace function switchyard.pending(
  p_known bigint[], p_full text[], p_shards int[], p_at_most int, p_per_aggregate int, p_payload_bytes int, p_page_bytes int)
returns setof switchyard.logged_event
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  -- Few at a time, because rows past the end of the page are printed in vain.
  chunk constant int := 16;
  seqs bigint[];
  e switchyard.logged_event;
  bytes bigint := 0;
  found_rows int := 0;
begin
  loop
    seqs := switchyard.pending_seqs(p_known, p_full, p_shards, p_at_most, p_per_aggregate);
    for i in 0 .. (cardinality(seqs) - 1) / chunk loop
      for e in select x.* from switchyard.events_of(seqs[i * chunk + 1 : (i + 1) * chunk], p_payload_bytes) x loop
        return next e;
        found_rows := found_rows + 1;
        bytes := bytes + e.payload_bytes + octet_length(concat(e.metadata, e.type, e.aggregate_type, e.aggregate_id, e.project_id, e.excess));
        if bytes >= p_page_bytes then
          return;
        end if;
      end loop;
    end loop;
    if found_rows = cardinality(seqs) then
      return;
    end if;
    -- Some rows have no event. Delete many of them at once, before they fill the pages. If the page had no other rows, read it again.
    seqs := switchyard.pending_seqs(p_known, p_full, p_shards, greatest(p_at_most, 10000), 10000);
    if switchyard.forget_deleted(seqs) = 0 or found_rows > 0 then
      return;
    end if;
  end loop;
end $$;

-- Deletes outbox rows whose events the topic has accepted. Returns how many.
create or replace function switchyard.published(p_seqs bigint[]) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  delete from switchyard.outbox o where o.seq = any (p_seqs);
  get diagnostics n = row_count;
  return n;
end $$;

-- Counts a refusal by the topic for the event's own sake. After `p_max` refusals it parks the row and adds a failure of `shim`. Returns the
-- sequences of the rows that it parked.
create or replace function switchyard.refused(p_seqs bigint[], p_reasons text[], p_max int) returns setof bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  return query
  with counted as (
    update switchyard.outbox o set attempts = least(o.attempts + 1, 32767), reason = u.reason,
           parked_at = case when o.attempts + 1 >= p_max then now() end
      from unnest(p_seqs, p_reasons) u (seq, reason) where o.seq = u.seq and o.parked_at is null
    returning o.seq, o.parked_at, o.attempts, o.reason),
  told as (
    insert into switchyard.failure (component, event_id, run, seq, attempt, parked, reason, error)
    select 'shim', l.event_id, 0, c.seq, c.attempts, true, 'unpublishable', c.reason
      from counted c join switchyard.event_log l on l.seq = c.seq where c.parked_at is not null order by c.seq)
  select c.seq from counted c where c.parked_at is not null order by c.seq;
end $$;

-- Publishes parked rows again: all of them, or those in `p_seqs`. Their refusals count from 0. Returns how many.
create or replace function switchyard.retry_publishing(p_seqs bigint[], p_operator text) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  with aside as materialized (
    select o.seq from switchyard.outbox o
     where o.parked_at is not null and (cardinality(p_seqs) = 0 or o.seq = any (p_seqs)) order by o.seq for update)
  update switchyard.outbox o set parked_at = null, attempts = 0, reason = null from aside a where o.seq = a.seq;
  get diagnostics n = row_count;
  if n > 0 then
    perform switchyard.note_as(p_operator, 'retry_publishing', null, jsonb_strip_nulls(jsonb_build_object(
      'rows', n, 'seqs', case when cardinality(p_seqs) between 1 and 100 then to_jsonb(p_seqs) end)));
  end if;
  return n;
end $$;

-- Puts events into the outbox again after the transport has lost them: every event with a subscription whose delivery is missing, or is the agent's
-- and unfinished. An agent that has settled an event drops the copy. Reads the whole event log, so use it for an emergency only. Returns how many
-- rows it added.
create or replace function switchyard.publish_again() returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  insert into switchyard.outbox (seq, due_at, shard)
  select l.seq, l.due_at, switchyard.shard_of(l.aggregate_id)
    from switchyard.event_log l
   where l.seq >= (select f.seq from switchyard.floor f)
     and not exists (select from switchyard.cancelled c where c.seq = l.seq)
     and exists (
       select from switchyard.subscription s
         left join switchyard.delivery d on d.agent = s.agent and d.seq = l.seq and d.run = 0
        where s.type = l.type and l.seq >= s.from_seq and (s.until_seq is null or l.seq <= s.until_seq)
          and (d.seq is null or (d.state in ('a', 'f') and d.owner = 'n')))
   order by l.seq
  on conflict do nothing;
  get diagnostics n = row_count;
  return n;
end $$;

-- What could not be published, the lowest sequences first.
create or replace function switchyard.unpublishable(p_at_most bigint)
returns table (seq bigint, event_id uuid, type text, reason text, attempts smallint, parked_at text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select o.seq, l.event_id, l.type, coalesce(o.reason, ''), o.attempts, switchyard.rfc3339(o.parked_at)
    from switchyard.outbox o join switchyard.event_log l on l.seq = o.seq
   where o.parked_at is not null order by o.seq limit p_at_most
$$;

create or replace function switchyard.unpublishable_count() returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
  select count(*) from switchyard.outbox o where o.parked_at is not null
$$;

-- Returns for how many seconds the first event in line has waited for the shim, of those to publish at once and of those whose time has come.
create or replace function switchyard.oldest_unpublished_secs() returns double precision
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select coalesce(greatest(0, max(extract(epoch from clock_timestamp() - w.since))), 0)::float8 from (
    (select l.logged_at as since
       from (select o.seq from switchyard.outbox o where o.parked_at is null and o.due_at is null order by o.seq limit 1) f
       join switchyard.event_log l on l.seq = f.seq)
    union all
    (select o.due_at from switchyard.outbox o where o.parked_at is null and o.due_at is not null order by o.due_at, o.seq limit 1)) w
$$;
