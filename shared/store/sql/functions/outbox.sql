-- The way out of the event log: what the shim reads, and what becomes of it.

-- The most that is read of a row beside its payload, in bytes. Whoever may insert must not decide how much memory a function needs.
-- No message could carry more metadata than that.
create or replace function switchyard.most_metadata_bytes() returns int language sql immutable parallel safe return 262144;
-- Its type, its aggregate's type and id, and its project, each.
create or replace function switchyard.most_name_bytes() returns int language sql immutable parallel safe return 1024;
-- What takes more room than that where it is stored is not printed without care: compression makes one byte of 255 at most, and printing makes six of
-- one, and a text of a gigabyte cannot be.
create or replace function switchyard.most_stored_bytes() returns int language sql immutable parallel safe return 655360;

-- JSON as text; null where it would be larger than any text can be.
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

-- What of a row is larger than is read, in words; null where nothing is. `metadata` is as printed, or null where it was not.
create or replace function switchyard._excess(type text, aggregate_type text, aggregate_id text, project_id text, stored jsonb, metadata text) returns text
language sql stable parallel safe
return case
  when octet_length(metadata) > switchyard.most_metadata_bytes()
    then format('the metadata has %s bytes, and %s are the most', octet_length(metadata), switchyard.most_metadata_bytes())
  when stored is not null and metadata is null then format('the metadata has more than %s bytes', switchyard.most_metadata_bytes())
  when octet_length(type) > switchyard.most_name_bytes()
    then format('the type has %s bytes, and %s are the most', octet_length(type), switchyard.most_name_bytes())
  when octet_length(aggregate_type) > switchyard.most_name_bytes()
    then format('the aggregate type has %s bytes, and %s are the most', octet_length(aggregate_type), switchyard.most_name_bytes())
  when octet_length(aggregate_id) > switchyard.most_name_bytes()
    then format('the aggregate has %s bytes, and %s are the most', octet_length(aggregate_id), switchyard.most_name_bytes())
  when octet_length(project_id) > switchyard.most_name_bytes()
    then format('the project has %s bytes, and %s are the most', octet_length(project_id), switchyard.most_name_bytes())
end;

-- Events as they go on the wire: the newest revision of the payload, exactly as `payload::text` prints it, but left out where it is larger
-- than `p_payload_bytes`, by default larger than any message can be (1 MiB). Of an event of which anything else is larger than is read, only that is
-- told (`excess`). An event that was deleted is left out.
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
         switchyard.rfc3339(e.created_at), case when x.excess is null then l.project_id end, v.revision, x.excess
    from unnest(p_seqs) with ordinality u (seq, ord)
    join switchyard.event_log l on l.seq = u.seq
    join switchyard.event e on e.id = l.event_id
    left join lateral (select r.revision, r.payload from switchyard.revision r where r.event_id = e.id order by r.revision desc limit 1) v on true
    cross join lateral (
      select case when pg_column_size(e.metadata) <= switchyard.most_stored_bytes() then e.metadata::text end as text offset 0) m
    cross join lateral (
      select switchyard._excess(e.type, e.aggregate_type, e.aggregate_id, l.project_id, e.metadata, m.text) as excess offset 0) x
    cross join lateral (select case when x.excess is not null then null when v.payload is not null then switchyard._printed(v.payload)
                                    when e.payload is not null then switchyard._printed(e.payload) else 'null' end as text offset 0) p
   order by u.ord;
end $$;

-- Which rows are to be published now and are not known to the caller yet, the lowest sequences first, and so many of each aggregate.
-- One statement finds them, so they are of one snapshot: a row that is in it has all in it that was committed before it was inserted.
-- `p_shards` are the caller's; null are all of them. What waits for its time is read by that time, apart from what never had one.
create or replace function switchyard.pending_seqs(p_known bigint[], p_full text[], p_shards int[], p_at_most int, p_per_aggregate int) returns bigint[]
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  seqs bigint[];
begin
  -- Without a full aggregate nobody has to read the log past what is not wanted.
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

-- Of these outbox rows, those whose event the application has deleted are nobody's to publish and go. Returns how many went.
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

-- What is to be published now, in the order of its sequence: a page from the beginning, every time, without what the caller knows
-- (`p_known`), without the aggregates of which it wants no more (`p_full`), only of its shards (`p_shards`; null: all), and not more than
-- `p_per_aggregate` of any. There is no cursor: a row that commits late is on the next page. The payload is left out where it is larger than
-- `p_payload_bytes`, and the page ends early when its payloads, metadata and names come to `p_page_bytes`; the first row is
-- always there, and it is no larger than what is read of a row.
create or replace function switchyard.pending(
  p_known bigint[], p_full text[], p_shards int[], p_at_most int, p_per_aggregate int, p_payload_bytes int, p_page_bytes int)
returns setof switchyard.logged_event
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  -- Few at a time: what is over the page's size is printed for nothing.
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
    -- Some have no event. They go, many at a time, before they crowd out what has; a page of nothing else is read again.
    seqs := switchyard.pending_seqs(p_known, p_full, p_shards, greatest(p_at_most, 10000), 10000);
    if switchyard.forget_deleted(seqs) = 0 or found_rows > 0 then
      return;
    end if;
  end loop;
end $$;

create or replace function switchyard.published(p_seqs bigint[]) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  delete from switchyard.outbox o where o.seq = any (p_seqs);
  get diagnostics n = row_count;
  return n;
end $$;

-- The topic refused these for a reason of their own. Sets aside what has been refused `p_max` times, with a row among the failures of `shim`;
-- returns those.
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
    insert into switchyard.failure (agent, event_id, run, seq, attempt, parked, reason, error)
    select 'shim', l.event_id, 0, c.seq, c.attempts, true, 'set_aside', c.reason
      from counted c join switchyard.event_log l on l.seq = c.seq where c.parked_at is not null order by c.seq)
  select c.seq from counted c where c.parked_at is not null order by c.seq;
end $$;

-- Carries again what was set aside, all of it where none is named: it counts as never refused. Returns how many.
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

-- After a transport that has lost all it carried: everything that is not final for somebody whose turn it is with the new agents is pending
-- again. Whoever has settled it says so to the copy. Walks the whole log: not for every day. Returns how many became pending.
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
