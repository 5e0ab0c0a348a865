-- Where the application keeps its events. Its table stays exactly as it is, columns and indexes alike; only a database that has none, and names
-- none, gets one. Everything of ours lives in the schema `switchyard` beside it.

do $$
begin
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'this database is in %, and events travel in UTF-8: use a database with the encoding UTF8', getdatabaseencoding()
      using errcode = 'SY001';
  end if;
end $$;

-- The application's table and its columns, by our names for them: what `switchyard-setup --events` was given, or `public.events`. A column
-- that is null does not exist there. A row changes only where the application renames the table or a column: the log's trigger and all of ours
-- were made for this table.
create table switchyard.mapping (
  one boolean primary key default true check (one),
  schema_name text not null,
  table_name text not null,
  id text not null,
  type text not null,
  aggregate_type text,
  aggregate_id text not null,
  payload text not null,
  metadata text,
  version text,
  created_at text,
  -- Whether the triggers on posts, votes, comments and so on append domain events: another team's `posts` may be something else.
  domain_events boolean not null,
  -- The table and its columns (in the order of above) by what a rename does not change. A restored database has other numbers.
  relation oid,
  attnums smallint[]
);

do $$
declare
  -- The session that sets up says which, having looked whether it fits.
  given jsonb := nullif(current_setting('switchyard.mapping', true), '');
begin
  given := coalesce(given, jsonb_build_object('schema', 'public', 'table', 'events', 'id', 'id', 'type', 'type', 'aggregate_type', 'aggregate_type',
    'aggregate_id', 'aggregate_id', 'payload', 'payload', 'metadata', 'metadata', 'version', 'version', 'created_at', 'created_at',
    'domain_events', true));
  if given ->> 'schema' = 'public' and given ->> 'table' = 'events' and to_regclass('public.events') is null then
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
  insert into switchyard.mapping (schema_name, table_name, id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at, domain_events)
  values (given ->> 'schema', given ->> 'table', given ->> 'id', given ->> 'type', given ->> 'aggregate_type', given ->> 'aggregate_id',
          given ->> 'payload', given ->> 'metadata', given ->> 'version', given ->> 'created_at', (given ->> 'domain_events')::boolean);
end $$;
