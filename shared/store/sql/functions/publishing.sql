-- The ways into the events table: the application, agents, and publishers without a database.

-- Returns the correlation and causation ids of this transaction, if the application has set them and they are UUIDs: `select
-- set_config('switchyard.correlation_id', '...', true)`.
create or replace function switchyard.chain() returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'correlation_id', case when c ~* pattern then c end, 'causation_id', case when u ~* pattern then u end))
    from (select current_setting('switchyard.correlation_id', true) as c, current_setting('switchyard.causation_id', true) as u,
                 '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' as pattern) s
$$;

-- Returns whether the table's event of this id has this content, or null if there is none. What we set is not compared: the place in the event log,
-- and the timestamp unless it is given.
create or replace function switchyard._has_content(
  p_id uuid, p_type text, p_aggregate_type text, p_aggregate_id text, p_payload jsonb, p_version int, p_metadata jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select (e.type, e.aggregate_type, e.aggregate_id, e.payload::jsonb, e.version,
          case when jsonb_typeof(e.metadata) = 'object'
               then e.metadata - 'sequence' - case when p_metadata ? 'timestamp' then '' else 'timestamp' end end)
         is not distinct from (p_type, p_aggregate_type, switchyard._aggregate_id(p_aggregate_id), p_payload, p_version, p_metadata)
    from switchyard.event e where e.id = p_id
$$;

-- Appends the events that agents emit. Skips an id that exists with the same content. Returns how many were new. Raises SY005 if an id exists with
-- other content: ids derive from what is known, so somebody may have inserted one first.
create or replace function switchyard.append(
  p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads text[], p_versions int[], p_metadata text[])
returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  n bigint := switchyard._insert_events(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads::jsonb[], p_versions, p_metadata::jsonb[]);
  other uuid;
begin
  if n < cardinality(p_ids) then
    perform switchyard._see_every_event();
    select u.id into other
      from unnest(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads, p_versions, p_metadata)
             with ordinality u (id, type, aggregate_type, aggregate_id, payload, version, metadata, ord)
     where not switchyard._has_content(u.id, u.type, u.aggregate_type, u.aggregate_id, u.payload::jsonb, u.version, u.metadata::jsonb)
     order by u.ord limit 1;
    if other is not null then
      raise exception 'event % exists already with other content', other using errcode = 'SY005';
    end if;
  end if;
  return n;
end $$;

-- Returns the event of an idempotency key until its window ends: `p_event` if the key is new or its window is over, otherwise the event that has the
-- key. Concurrent callers wait for the first to commit.
create or replace function switchyard._keyed(p_digest bytea, p_event uuid, p_window interval) returns uuid
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
    -- Not found if the key's window has just ended and `forget_keys` deleted it: try again.
    exit when found;
  end loop;
  return standing;
end $$;

-- Deletes keys whose window is over. Returns how many.
create or replace function switchyard.forget_keys(p_at_most int) returns bigint
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

-- For the application: appends one event and returns its id. An idempotency key counts within a project and a type. The same key again appends
-- nothing and returns the first event's id, for ever or, with a window, for that time after the first. Keys with a window and keys without do not
-- know each other, so use a key always with a window or never. Raises 22023 without a type, and for a window without a key or of no length, and SY005
-- if the id of a key without a window exists with other content. The chain is not compared: it is the transaction's, and a repetition is another one.
create or replace function switchyard.publish(
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
  about jsonb;
begin
  if coalesce(publish.type, '') = '' then
    raise exception 'an event needs a type: pass a type that is not empty' using errcode = '22023';
  end if;
  if idempotency_window is not null and (idempotency_key is null or idempotency_window <= interval '0') then
    raise exception 'an idempotency_window needs an idempotency_key and must be longer than 0' using errcode = '22023';
  end if;
  if idempotency_key is not null then
    digest := sha256(convert_to(jsonb_build_array('switchyard', publish.project_id, publish.type, idempotency_key)::text, 'UTF8'));
    if idempotency_window is null then
      -- The id derives from the key, so the primary key of the events table refuses the copy. UUID version 8 is for custom formats (RFC 9562).
      hex := encode(digest, 'hex');
      event_id := (substr(hex, 1, 12) || '8' || substr(hex, 14, 3) || 'a' || substr(hex, 18, 15))::uuid;
    else
      standing := switchyard._keyed(digest, event_id, idempotency_window);
      if standing <> event_id then
        return standing;
      end if;
    end if;
  end if;
  about := coalesce(publish.metadata, '{}')
    || jsonb_strip_nulls(jsonb_build_object('project_id', publish.project_id, 'idempotency_key', idempotency_key));
  if switchyard._insert_events(array[event_id], array[publish.type], array[publish.aggregate_type], array[publish.aggregate_id],
       array[publish.payload], array[publish.version], array[switchyard.chain() || about]) = 0 then
    perform switchyard._see_every_event();
    -- Whatever the chain is, the event's own counts.
    select coalesce(jsonb_object_agg(k.key, k.value), '{}') || about into about
      from switchyard.event e cross join jsonb_each(case when jsonb_typeof(e.metadata) = 'object' then e.metadata end) k
     where e.id = event_id and k.key in ('correlation_id', 'causation_id') and not about ? k.key;
    if not switchyard._has_content(event_id, publish.type, publish.aggregate_type, publish.aggregate_id, publish.payload, publish.version, about) then
      raise exception 'the idempotency key "%" has an event with other content: repeat the call as it was, or use another key', idempotency_key
        using errcode = 'SY005';
    end if;
  end if;
  return event_id;
end $$;

-- Returns the signature of a webhook to the shim, the value of the header `x-switchyard-signature`. `at` is the time in seconds, as in the header
-- `x-switchyard-timestamp`; `body` is the body as it is sent. It is HMAC-SHA256 (RFC 2104) over `TIMESTAMP.BODY`, with core functions only, because
-- not every database has pgcrypto.
create or replace function switchyard.sign(secret text, at bigint, body text) returns text
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

-- For publishers without a database: appends events that came as messages, each in its own subtransaction, so that a refused event does not affect
-- the others. Returns an answer for each:
--   appended   the event is new.
--   duplicate  the same id with the same content exists.
--   conflict   the same id with other content exists.
--   refused    the table cannot store it; `reason` and `error` say why.
-- The event log sets `sequence`, so a given one is dropped. If the publisher left out the timestamp, it is filled in and not compared. Raises an
-- error only if the same call may succeed later.
create or replace function switchyard.ingest(
  p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads text[], p_versions int[], p_metadata text[])
returns table (ord bigint, answer text, reason text, error text)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  given record;
  aggregate text;
  body jsonb;
  about jsonb;
begin
  perform switchyard._see_every_event();
  -- Inserts keep the batch's order, since the sequence follows it. Two batches with the same events in different orders would then deadlock, so both
  -- first lock the ids in one order.
  perform pg_advisory_xact_lock(x.key)
    from (select distinct hashtextextended(u.id::text, 0) as key from unnest(p_ids) u (id) order by 1) x;
  for given in
    select u.* from unnest(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads, p_versions, p_metadata)
             with ordinality u (id, type, aggregate_type, aggregate_id, payload, version, metadata, ord)
     order by u.ord
  loop
    ord := given.ord;
    answer := null;
    reason := null;
    error := null;
    begin
      aggregate := switchyard._aggregate_id(given.aggregate_id);
      body := given.payload::jsonb;
      about := given.metadata::jsonb;
      if jsonb_typeof(about) is distinct from 'object' then
        raise exception 'the metadata is not a JSON object' using errcode = 'invalid_parameter_value';
      end if;
      about := about - 'sequence';
      if switchyard._insert_events(array[given.id], array[given.type], array[given.aggregate_type], array[aggregate], array[body],
           array[given.version], array[about]) = 1 then
        answer := 'appended';
      else
        -- The other transaction has committed by now, because the insert waited for it.
        -- If the event was deleted since the insert, its content cannot be compared.
        answer := case when switchyard._has_content(given.id, given.type, given.aggregate_type, aggregate, body, given.version, about)
                       then 'duplicate' else 'conflict' end;
      end if;
    exception
      when untranslatable_character then
        answer := 'refused';
        reason := 'nul';
        error := 'an escaped NUL (\u0000), which the table cannot store';
      when statement_too_complex then
        answer := 'refused';
        reason := 'too_deep';
        error := 'nested too deep for the table';
      when program_limit_exceeded then
        answer := 'refused';
        reason := 'oversized';
        error := left(sqlerrm, 500);
      when data_exception then
        answer := 'refused';
        reason := 'malformed';
        error := left(sqlerrm, 500);
      when others then
        -- The batch did not cause these: connection, read-only standby, serialization, missing rights or names, resources, locks, operator, files,
        -- internal errors. The caller tries the same batch again.
        if left(sqlstate, 2) in ('08', '25', '40', '42', '53', '55', '57', '58', 'XX') then
          raise;
        end if;
        answer := 'refused';
        reason := 'refused_by_the_table';
        error := left(sqlerrm, 500);
    end;
    return next;
  end loop;
end $$;
