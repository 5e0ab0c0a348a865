-- The application's own table. Where it exists it is left exactly as it is, columns and indexes alike; only a database
-- that has none gets this one. Everything of ours lives in the schema `switchyard` beside it.
create schema if not exists switchyard;

do $$
declare
  missing text;
begin
  if to_regclass('public.events') is null then
    create table public.events (
      id uuid primary key,
      type text,
      aggregate_type text,
      aggregate_id uuid,
      payload jsonb,
      metadata jsonb,
      version integer,
      created_at timestamptz default now()
    );
    create index on public.events (type);
    create index on public.events (aggregate_type, aggregate_id);
    create index on public.events (created_at);
  end if;

  -- A table of another shape would make our trigger fail the application's insert, or stop the shim at one row: refuse now, in words.
  select string_agg(w.name || coalesce(' (' || array_to_string(w.wanted, ' or ') || ')', ''), ', ') into missing
    from (values ('id', array['uuid']), ('type', array['text', 'varchar']), ('aggregate_type', array['text', 'varchar']), ('aggregate_id', null),
                 ('payload', array['jsonb']), ('metadata', array['jsonb']), ('version', array['int4', 'int2']),
                 ('created_at', array['timestamptz', 'timestamp'])) w (name, wanted)
   where not exists (select 1 from information_schema.columns c
                      where c.table_schema = 'public' and c.table_name = 'events' and c.column_name = w.name
                        and (w.wanted is null or c.udt_name::text = any (w.wanted)));
  if missing is not null then
    raise exception 'public.events has no usable column: %', missing using errcode = 'SY001';
  end if;
  -- An event without an id could not be logged, and without a key on the id alone nobody could append one twice without harm.
  if not exists (select 1 from pg_attribute a where a.attrelid = 'public.events'::regclass and a.attname = 'id' and a.attnotnull) or not exists (
       select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'id'
        where i.indrelid = 'public.events'::regclass and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
          and i.indnkeyatts = 1 and i.indkey[0] = a.attnum) then
    raise exception 'public.events needs a key on id alone: not null, and unique by itself' using errcode = 'SY001';
  end if;
end $$;
