-- What the log keeps of an event, and up to where it is complete.

-- A timestamp out of an event's metadata, or null. Only asked for when the key is there, so the exception block costs
-- the ordinary insert nothing. The pattern keeps out 'infinity', 'tomorrow' and times without an offset; [0-9], since \d is any
-- alphabet's digit where the locale is ICU's.
create or replace function switchyard.timestamp_or_null(given text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if given !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})$' then
    return null;
  end if;
  return given::timestamptz;
exception when others then
  return null;
end $$;

-- RFC 3339, as the event's metadata carries it.
create or replace function switchyard.rfc3339(t timestamptz) returns text
language sql stable parallel safe
return to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Where an application keeps its times without a time zone, they are in UTC, whatever the session's is.
create or replace function switchyard.rfc3339(t timestamp) returns text
language sql stable parallel safe
return switchyard.rfc3339(t at time zone 'UTC');

-- What the log keeps of an event. Written so that the planner inlines them: the trigger pays nothing for the names.
create or replace function switchyard._project_of(metadata jsonb, payload jsonb) returns text
language sql immutable parallel safe
return coalesce(metadata ->> 'project_id', payload ->> 'project_id');

-- The same where the payload is JSON and not JSONB. Guarded, since looking into JSON parses it anew each time, which fails on an escaped NUL
-- anywhere in it (then it is looked for without), and where there is too little stack for what is nested as deep as the insert allowed.
create or replace function switchyard._project_of(metadata jsonb, payload json) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce(metadata ->> 'project_id', payload ->> 'project_id');
exception
  when untranslatable_character then
    begin
      return coalesce(metadata ->> 'project_id', regexp_replace(payload::text, '(?<!\\)((\\\\)*)\\u0000', '\1', 'g')::json ->> 'project_id');
    exception when others then
      return null;
    end;
  when others then
    return null;
end $$;

create or replace function switchyard._due_at_of(metadata jsonb) returns timestamptz
language sql stable
return case when metadata ? 'deliver_at' then switchyard.timestamp_or_null(metadata ->> 'deliver_at') end;

create or replace function switchyard._max_attempts_of(metadata jsonb) returns smallint
language sql immutable parallel safe
return case when metadata ->> 'max_attempts' ~ '^[0-9]{1,6}$'
            then greatest(1, least(100, (metadata ->> 'max_attempts')::int))::smallint end;

-- The one hash that places an aggregate or a project. SHA-256, since every language has it, and no policy on cryptography forbids it. `convert_to`
-- cannot fail in a database in UTF-8, and no other is set up.
--
-- It can never be changed once customers run a cutover, nor can what the two functions below make of it: another hash would move aggregates that
-- are under way to the other owner, and would let two shims publish one aggregate. A test knows some of its values by heart.
create or replace function switchyard._hash_of(key text) returns bytea
language sql stable parallel safe
return sha256(convert_to(coalesce(key, ''), 'UTF8'));

-- The shard of an aggregate, by its id alone: the same that the shim computes. The lowest four bits of the hash's first byte.
create or replace function switchyard.shard_of(aggregate_id text) returns smallint
language sql stable parallel safe
return (get_byte(switchyard._hash_of(aggregate_id), 0) & 15)::smallint;

-- From 0 to 99: below which percentage a key is the old system's. Of the next four bytes, so that it has nothing to do with the shard.
create or replace function switchyard._percentile_of(key text) returns int
language sql stable parallel safe
return (('x' || encode(substr(switchyard._hash_of(key), 2, 4), 'hex'))::bit(32)::bigint % 100)::int;

-- The last sequence drawn, committed or not; 0 before the first.
create or replace function switchyard.last_seq() returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select case when is_called then last_value else last_value - 1 end from switchyard.event_log_seq_seq
$$;

-- Up to where no transaction can still commit an event, as of the fences older than `older_than`.
create or replace function switchyard.stable_seq(older_than interval default '0') returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select coalesce(max(f.seq), 0) from switchyard.fence f
   where f.xid < pg_snapshot_xmin(pg_current_snapshot()) and f.at <= clock_timestamp() - older_than
$$;

-- Sets a fence. The order is the point: read the last sequence, THEN take an id of our own. Whoever drew a sequence had
-- inserted into `events` before, so had an id, and that id is below ours. The other way round loses events.
create or replace function switchyard.set_fence() returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  s bigint;
  x xid8;
begin
  s := switchyard.last_seq();
  x := pg_current_xact_id();
  -- Ids start anew after a dump and restore: fences of another life would never come true, or too early.
  delete from switchyard.fence f where f.at < clock_timestamp() - interval '1 day' or f.xid > x;
  insert into switchyard.fence (seq, xid) values (s, x);
  return s;
end $$;

-- The first sequence that was logged at this time or later. Sequences are drawn and stamped in the same insert, so their order is that of their
-- times but for what overlapped: whoever must miss none looks a second further. What lies below 1 is history, and has no time in the log. By
-- halving: some twenty reads of the log's key, since an index on the time would be paid for by every insert.
create or replace function switchyard._seq_logged_from(p_at timestamptz) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  lo bigint := 1;
  hi bigint := switchyard.last_seq() + 1;
  mid bigint;
  e record;
begin
  while lo < hi loop
    mid := lo + (hi - lo) / 2;
    select x.seq, x.logged_at into e from switchyard.event_log x where x.seq >= mid and x.seq < hi order by x.seq limit 1;
    if not found or e.logged_at >= p_at then
      hi := mid;
    else
      lo := e.seq + 1;
    end if;
  end loop;
  return lo;
end $$;
