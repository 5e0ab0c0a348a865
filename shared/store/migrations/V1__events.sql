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

  -- A table of another shape would make our trigger fail the application's insert: refuse now, in words.
  select string_agg(w.name, ', ') into missing
    from (values ('id', 'uuid'), ('type', null), ('aggregate_type', null), ('aggregate_id', null), ('payload', 'jsonb'),
                 ('metadata', 'jsonb'), ('version', null), ('created_at', null)) w (name, wanted)
   where not exists (select 1 from information_schema.columns c
                      where c.table_schema = 'public' and c.table_name = 'events' and c.column_name = w.name
                        and (w.wanted is null or c.udt_name = w.wanted));
  if missing is not null then
    raise exception 'public.events has no usable column: %', missing using errcode = 'SY001';
  end if;
end $$;
