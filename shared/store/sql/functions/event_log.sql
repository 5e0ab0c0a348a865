-- What the event log keeps of an event, the hash that places an aggregate, and the stable point of the log.

-- Returns the timestamp in a metadata value, or null if it is not one. Callers ask only if the key exists, so the exception block costs an ordinary
-- insert nothing. The pattern refuses 'infinity', 'tomorrow', and times without an offset. It says [0-9] because \d matches the digits of every
-- alphabet in an ICU locale.
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

-- Returns a time in RFC 3339, the format of the event's metadata.
create or replace function switchyard.rfc3339(t timestamptz) returns text
language sql stable parallel safe
return to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The same for a column without time zone: its times are in UTC, whatever the session's time zone is.
create or replace function switchyard.rfc3339(t timestamp) returns text
language sql stable parallel safe
return switchyard.rfc3339(t at time zone 'UTC');

-- These functions read what the event log keeps of an event. The planner can inline them, so the trigger pays nothing for the calls.
create or replace function switchyard._project_of(metadata jsonb, payload jsonb) returns text
language sql immutable parallel safe
return coalesce(metadata ->> 'project_id', payload ->> 'project_id');

-- The same for a payload of type JSON, or null if it cannot be read. Reading a JSON value parses it. That fails on an escaped NUL anywhere in the
-- payload, and then the function parses a copy without the NULs. It also fails if the nesting is deep and little stack is left.
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

-- Returns the hash that places an aggregate or a project. It is SHA-256, which every language has and no policy on cryptography forbids.
-- `convert_to` cannot fail, because the setup accepts only databases in UTF-8.
--
-- Neither this hash nor the two functions below can change once a cutover is running: another hash would give aggregates with unfinished deliveries
-- to the other owner, and would let two shims publish one aggregate. A test compares some values with constants.
create or replace function switchyard._hash_of(key text) returns bytea
language sql stable parallel safe
return sha256(convert_to(coalesce(key, ''), 'UTF8'));

-- Returns the shard of an aggregate: the lowest four bits of the hash's first byte. The shim computes the same.
create or replace function switchyard.shard_of(aggregate_id text) returns smallint
language sql stable parallel safe
return (get_byte(switchyard._hash_of(aggregate_id), 0) & 15)::smallint;

-- Returns 0 to 99. A key belongs to the agent at every percentage above this number. It uses the next four bytes of the hash, so it is independent
-- of the shard.
create or replace function switchyard._percentile_of(key text) returns int
language sql stable parallel safe
return (('x' || encode(substr(switchyard._hash_of(key), 2, 4), 'hex'))::bit(32)::bigint % 100)::int;

-- Returns the last sequence that was assigned, in a committed transaction or not; 0 before the first.
create or replace function switchyard.last_seq() returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select case when is_called then last_value else last_value - 1 end from switchyard.event_log_seq_seq
$$;

-- Returns the stable point: no open transaction can still commit an event up to this sequence. Only fences older than `older_than` count.
create or replace function switchyard.stable_seq(older_than interval default '0') returns bigint
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select coalesce(max(f.seq), 0) from switchyard.fence f
   where f.xid < pg_snapshot_xmin(pg_current_snapshot()) and f.at <= clock_timestamp() - older_than
$$;

-- Sets a fence and returns its sequence. The order matters: first read the last sequence, then take a transaction id. A transaction that was
-- assigned a sequence had inserted into the events table before, so it has an id, and that id is below ours. In the other order events are lost.
create or replace function switchyard.set_fence() returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  s bigint;
  x xid8;
begin
  s := switchyard.last_seq();
  x := pg_current_xact_id();
  -- A dump and restore starts transaction ids again from a low number, so a fence with a higher id is from before the restore and means nothing now.
  delete from switchyard.fence f where f.at < clock_timestamp() - interval '1 day' or f.xid > x;
  insert into switchyard.fence (seq, xid) values (s, x);
  return s;
end $$;

-- Returns the first sequence that was logged at this time or later. One insert assigns the sequence and the time, so both have the same order except
-- where inserts overlap; a caller that must miss no event asks for a time one second earlier. History, below 1, is not searched. The search is
-- binary, about twenty reads of the primary key, because an index on the time would slow down every insert.
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

-- The events of these types that were logged between two times, and up to a second before and after, for inserts that overlapped. The body is parsed,
-- so that the planner puts it into the caller's statement.
create or replace function switchyard.logged_between(p_types text[], p_from timestamptz, p_until timestamptz) returns setof switchyard.event_log
language sql stable
begin atomic
  select l.* from switchyard.event_log l
   where l.seq >= (select switchyard._seq_logged_from(p_from - interval '1 s'))
     and l.seq < (select switchyard._seq_logged_from(p_until + interval '1 s'))
     and l.type in (select t.type from unnest(p_types) t (type));
end;
