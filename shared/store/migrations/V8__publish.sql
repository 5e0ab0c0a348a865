-- The ways in (append, publish) and the way out (pending, published) of the event log.

-- RFC 3339, as the event's metadata carries it.
create function switchyard.rfc3339(t timestamptz) returns text
language sql stable parallel safe
return to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Correlation and causation of what this transaction does, where the application has set them and they are ids:
-- `select set_config('switchyard.correlation_id', '...', true)`.
create function switchyard.chain() returns jsonb
language sql stable set search_path = pg_catalog as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'correlation_id', case when c ~* pattern then c end, 'causation_id', case when u ~* pattern then u end))
    from (select current_setting('switchyard.correlation_id', true) as c, current_setting('switchyard.causation_id', true) as u,
                 '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' as pattern) s
$$;

-- Appends what agents decided. An id that is there already stays as it is. Returns how many were new.
create function switchyard.append(
  p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads text[], p_versions int[], p_metadata text[])
returns bigint
language plpgsql volatile set search_path = pg_catalog as $$
declare
  n bigint;
begin
  insert into public.events (id, type, aggregate_type, aggregate_id, payload, version, metadata)
  select u.id, u.type, u.aggregate_type, u.aggregate_id::uuid, u.payload::jsonb, u.version,
         jsonb_build_object('timestamp', switchyard.rfc3339(now())) || u.metadata::jsonb
    from unnest(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads, p_versions, p_metadata)
           with ordinality u (id, type, aggregate_type, aggregate_id, payload, version, metadata, ord)
   order by u.ord
  on conflict (id) do nothing;
  get diagnostics n = row_count;
  return n;
end $$;

-- For the application: appends one event and returns its id. With an idempotency key, which counts within a project and
-- a type, a repetition appends nothing and returns the id of the first.
create function switchyard.publish(
  type text, aggregate_type text, aggregate_id text, payload jsonb, project_id text default null, version int default 1,
  metadata jsonb default '{}', idempotency_key text default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog as $$
#variable_conflict use_variable
declare
  event_id uuid := gen_random_uuid();
  digest text;
begin
  if coalesce(publish.type, '') = '' then
    raise exception 'publish: an event needs a type' using errcode = '22023';
  end if;
  if idempotency_key is not null then
    -- The id follows from the key, so the table's own primary key does the rest. Version 8: an id of our own making.
    digest := encode(sha256(convert_to(jsonb_build_array('switchyard', publish.project_id, publish.type, idempotency_key)::text, 'UTF8')), 'hex');
    event_id := (substr(digest, 1, 12) || '8' || substr(digest, 14, 3) || 'a' || substr(digest, 18, 15))::uuid;
  end if;
  insert into public.events (id, type, aggregate_type, aggregate_id, payload, version, metadata)
  values (event_id, publish.type, publish.aggregate_type, publish.aggregate_id::uuid, publish.payload, publish.version,
          jsonb_build_object('timestamp', switchyard.rfc3339(now())) || switchyard.chain() || coalesce(publish.metadata, '{}')
            || jsonb_strip_nulls(jsonb_build_object('project_id', publish.project_id, 'idempotency_key', idempotency_key)))
  on conflict (id) do nothing;
  return event_id;
end $$;

create type switchyard.logged_event as (
  seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, payload text, payload_bytes int, metadata text, version int,
  created_at text, project_id text);

-- Events as they go on the wire: the payload exactly as `payload::text` prints it, but left out where it is larger than
-- any message can be (1 MiB).
create function switchyard.events_of(p_seqs bigint[]) returns setof switchyard.logged_event
language plpgsql stable set search_path = pg_catalog as $$
begin
  return query
  select l.seq, e.id, coalesce(e.type, ''), coalesce(e.aggregate_type, ''), coalesce(e.aggregate_id::text, ''),
         case when octet_length(p.text) <= 1048576 then p.text end, octet_length(p.text), e.metadata::text, e.version::int,
         switchyard.rfc3339(e.created_at), l.project_id
    from unnest(p_seqs) with ordinality u (seq, ord)
    join switchyard.event_log l on l.seq = u.seq
    join public.events e on e.id = l.event_id
    cross join lateral (select coalesce(e.payload::text, 'null') as text offset 0) p
   order by u.ord;
end $$;

-- What is to be published now, in the order of its sequence. Scans what is pending and never keeps a cursor across calls:
-- `p_after` pages within one scan; a cursor kept for longer loses rows that commit late.
create function switchyard.pending(p_after bigint, p_at_most int) returns setof switchyard.logged_event
language plpgsql volatile set search_path = pg_catalog as $$
begin
  return query select x.* from switchyard.events_of(array(
    select o.seq from switchyard.outbox o
     where o.seq > p_after and o.parked_at is null and (o.due_at is null or o.due_at <= now())
     order by o.seq limit p_at_most)) x;
end $$;

create function switchyard.published(p_seqs bigint[]) returns bigint
language plpgsql volatile set search_path = pg_catalog as $$
declare
  n bigint;
begin
  delete from switchyard.outbox o where o.seq = any (p_seqs);
  get diagnostics n = row_count;
  return n;
end $$;

-- The topic refused these for a reason of their own. Parks what has been refused `p_max` times; returns those.
create function switchyard.refused(p_seqs bigint[], p_reasons text[], p_max int) returns setof bigint
language plpgsql volatile set search_path = pg_catalog as $$
begin
  return query
  with counted as (
    update switchyard.outbox o set attempts = least(o.attempts + 1, 32767), reason = u.reason,
           parked_at = case when o.attempts + 1 >= p_max then now() end
      from unnest(p_seqs, p_reasons) u (seq, reason) where o.seq = u.seq and o.parked_at is null
    returning o.seq, o.parked_at)
  select c.seq from counted c where c.parked_at is not null order by c.seq;
end $$;
