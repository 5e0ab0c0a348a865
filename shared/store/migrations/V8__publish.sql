-- The ways in (append, publish) and the way out (pending, published) of the event log.

-- RFC 3339, as the event's metadata carries it.
create function switchyard.rfc3339(t timestamptz) returns text
language sql stable parallel safe
return to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Where an application keeps its times without a time zone, they are in UTC, whatever the session's is.
create function switchyard.rfc3339(t timestamp) returns text
language sql stable parallel safe
return switchyard.rfc3339(t at time zone 'UTC');

-- Correlation and causation of what this transaction does, where the application has set them and they are ids:
-- `select set_config('switchyard.correlation_id', '...', true)`.
create function switchyard.chain() returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'correlation_id', case when c ~* pattern then c end, 'causation_id', case when u ~* pattern then u end))
    from (select current_setting('switchyard.correlation_id', true) as c, current_setting('switchyard.causation_id', true) as u,
                 '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' as pattern) s
$$;

-- Appends what agents decided. An id that is there already stays as it is. Returns how many were new.
create function switchyard.append(
  p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads text[], p_versions int[], p_metadata text[])
returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  return switchyard._insert_events(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads::jsonb[], p_versions, p_metadata::jsonb[]);
end $$;

-- Keys that count for a time only, each with the event that it stands for. A key without a window needs no row: its event's id follows from it.
create table switchyard.publish_key (
  digest bytea primary key,
  event_id uuid not null,
  until timestamptz not null
);
create index publish_key_until on switchyard.publish_key (until);

-- The event that a key stands for until its window ends: the one given, where the key is new or its window is over, or another. Of those who ask at
-- once, all but one wait for the first to commit.
create function switchyard._keyed(p_digest bytea, p_event uuid, p_window interval) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  standing uuid;
begin
  loop
    insert into switchyard.publish_key as k (digest, event_id, until) values (p_digest, p_event, clock_timestamp() + p_window)
    on conflict (digest) do update set event_id = excluded.event_id, until = excluded.until where k.until <= clock_timestamp()
    returning k.event_id into standing;
    exit when found;
    select k.event_id into standing from switchyard.publish_key k where k.digest = p_digest;
    -- Or its window has ended just now, and it was forgotten.
    exit when found;
  end loop;
  return standing;
end $$;

-- Forgets keys whose window is over. Returns how many.
create function switchyard.forget_keys(p_at_most int) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  with over as (
    select k.digest from switchyard.publish_key k where k.until <= clock_timestamp() order by k.until limit p_at_most for update skip locked)
  delete from switchyard.publish_key k using over o where k.digest = o.digest;
  get diagnostics n = row_count;
  return n;
end $$;

-- For the application: appends one event and returns its id. With an idempotency key, which counts within a project and a type, a repetition
-- appends nothing and returns the id of the first: for ever, or, with a window, for so long after the first. The two know nothing of each
-- other, so a key is given a window every time or never.
create function switchyard.publish(
  type text, aggregate_type text, aggregate_id text, payload jsonb, project_id text default null, version int default 1,
  metadata jsonb default '{}', idempotency_key text default null, idempotency_window interval default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  event_id uuid := gen_random_uuid();
  digest bytea;
  hex text;
  standing uuid;
begin
  if coalesce(publish.type, '') = '' then
    raise exception 'publish: an event needs a type' using errcode = '22023';
  end if;
  if idempotency_window is not null and (idempotency_key is null or idempotency_window <= interval '0') then
    raise exception 'publish: a window is longer than nothing, and the window of an idempotency key' using errcode = '22023';
  end if;
  if idempotency_key is not null then
    digest := sha256(convert_to(jsonb_build_array('switchyard', publish.project_id, publish.type, idempotency_key)::text, 'UTF8'));
    if idempotency_window is null then
      -- The id follows from the key, so the table's own primary key does the rest. Version 8: an id of our own making.
      hex := encode(digest, 'hex');
      event_id := (substr(hex, 1, 12) || '8' || substr(hex, 14, 3) || 'a' || substr(hex, 18, 15))::uuid;
    else
      standing := switchyard._keyed(digest, event_id, idempotency_window);
      if standing <> event_id then
        return standing;
      end if;
    end if;
  end if;
  perform switchyard._insert_events(array[event_id], array[publish.type], array[publish.aggregate_type], array[publish.aggregate_id],
    array[publish.payload], array[publish.version], array[switchyard.chain() || coalesce(publish.metadata, '{}')
      || jsonb_strip_nulls(jsonb_build_object('project_id', publish.project_id, 'idempotency_key', idempotency_key))]);
  return event_id;
end $$;

create type switchyard.logged_event as (
  seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, payload text, payload_bytes int, metadata text, version int,
  created_at text, project_id text, revision int);

-- Events as they go on the wire: the newest revision of the payload, exactly as `payload::text` prints it, but left out where it is larger
-- than `p_payload_bytes`, by default larger than any message can be (1 MiB). An event that was deleted is left out.
create function switchyard.events_of(p_seqs bigint[], p_payload_bytes int default 1048576) returns setof switchyard.logged_event
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  perform switchyard._see_every_event();
  return query
  select l.seq, e.id, coalesce(e.type, ''), coalesce(e.aggregate_type, ''), coalesce(e.aggregate_id, ''),
         case when octet_length(p.text) <= p_payload_bytes then p.text end, octet_length(p.text), e.metadata::text, e.version,
         switchyard.rfc3339(e.created_at), l.project_id, v.revision
    from unnest(p_seqs) with ordinality u (seq, ord)
    join switchyard.event_log l on l.seq = u.seq
    join switchyard.event e on e.id = l.event_id
    left join lateral (select r.revision, r.payload from switchyard.revision r where r.event_id = e.id order by r.revision desc limit 1) v on true
    cross join lateral (select coalesce(v.payload::text, e.payload::text, 'null') as text offset 0) p
   order by u.ord;
end $$;

-- Which rows are to be published now and are not known to the caller yet, the lowest sequences first, and so many of each aggregate.
-- One statement finds them, so they are of one snapshot: a row that is in it has all in it that was committed before it was inserted.
-- `p_shards` are the caller's; null are all of them. What waits for its time is read by that time, apart from what never had one.
create function switchyard.pending_seqs(p_known bigint[], p_full text[], p_shards int[], p_at_most int, p_per_aggregate int) returns bigint[]
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
create function switchyard.forget_deleted(p_seqs bigint[]) returns bigint
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
-- `p_payload_bytes`, and the page ends early when its payloads come to `p_page_bytes`; the first row is always there.
create function switchyard.pending(
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
        bytes := bytes + e.payload_bytes;
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

create function switchyard.published(p_seqs bigint[]) returns bigint
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
create function switchyard.refused(p_seqs bigint[], p_reasons text[], p_max int) returns setof bigint
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
create function switchyard.carry_again(p_seqs bigint[], p_operator text) returns bigint
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
    perform switchyard.note_as(p_operator, 'carry_again', null, jsonb_strip_nulls(jsonb_build_object(
      'rows', n, 'seqs', case when cardinality(p_seqs) between 1 and 100 then to_jsonb(p_seqs) end)));
  end if;
  return n;
end $$;

-- After a transport that has lost all it carried: everything that is not final for somebody whose turn it is with the new agents is pending
-- again. Whoever has settled it says so to the copy. Walks the whole log: not for every day. Returns how many became pending.
create function switchyard.publish_again() returns bigint
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

-- The signature of a webhook to the shim: what the header `x-switchyard-signature` holds, for the time in seconds that the header
-- `x-switchyard-timestamp` holds and the body as it is sent. HMAC-SHA256 (RFC 2104) over `TIMESTAMP.BODY`, of core functions alone, since
-- not every database has pgcrypto.
create function switchyard.sign(secret text, at bigint, body text) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  block constant int := 64;
  key bytea := convert_to(secret, 'UTF8');
  inner_pad bytea;
  outer_pad bytea;
begin
  if length(key) > block then
    key := sha256(key);
  end if;
  inner_pad := key || decode(repeat('00', block - length(key)), 'hex');
  outer_pad := inner_pad;
  for i in 0 .. block - 1 loop
    outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92); -- 0x5c
    inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54); -- 0x36
  end loop;
  return 'v1=' || encode(sha256(outer_pad || sha256(inner_pad || convert_to(at || '.' || body, 'UTF8'))), 'hex');
end $$;
