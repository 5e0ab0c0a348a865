-- The application's events table, and the names of its columns. The setup changes neither columns nor indexes of that table. It creates
-- `public.events` only if no table is named and none exists. All other objects are in the schema `switchyard`.

do $$
begin
  if getdatabaseencoding() <> 'UTF8' then
    raise exception 'the encoding of this database is %, and events need UTF8: use a database with the encoding UTF8', getdatabaseencoding()
      using errcode = 'SY001';
  end if;
end $$;

-- The application's table, and its column for each of our names, from `switchyard-setup --events` (default `public.events`). A null column does not
-- exist in the table. A row changes only when the application renames the table or a column, since all triggers belong to this table.
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
  -- Whether the setup has created the table.
  created_here boolean not null default false,
  -- The table's oid and the column numbers, in the order of the names above. A rename does not change them; a dump and restore does.
  relation oid,
  attnums smallint[]
);

-- Which changes of the application's tables are events, from `switchyard-setup --domain` or from the program that set the database up. `triggers` has
-- one object for each trigger, with the columns that `domain_triggers` reads.
create table switchyard.domain (
  one boolean primary key default true check (one),
  name text not null,
  triggers jsonb not null
);

-- The key of two things that nobody can make without it: the mark by which the domain triggers see that an agent writes, and the seal of a message.
create table switchyard.signing_key (
  one boolean primary key default true check (one),
  key bytea not null default sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
);
insert into switchyard.signing_key default values;

do $$
declare
  -- The setup checks the names and passes them in this setting.
  given jsonb := nullif(current_setting('switchyard.mapping', true), '');
  created_here boolean := false;
  everybody text;
begin
  given := coalesce(given, jsonb_build_object('schema', 'public', 'table', 'events', 'id', 'id', 'type', 'type', 'aggregate_type', 'aggregate_type',
    'aggregate_id', 'aggregate_id', 'payload', 'payload', 'metadata', 'metadata', 'version', 'version', 'created_at', 'created_at'));
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
    -- `grant_rights` adds the policies of our roles. Default privileges, such as Supabase's, open a new table to its users.
    alter table public.events enable row level security;
    revoke all on public.events from public;
    for everybody in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
      execute format('revoke all on public.events from %I', everybody);
    end loop;
    created_here := true;
  end if;
  insert into switchyard.mapping (schema_name, table_name, id, type, aggregate_type, aggregate_id, payload, metadata, version, created_at,
      created_here)
  values (given ->> 'schema', given ->> 'table', given ->> 'id', given ->> 'type', given ->> 'aggregate_type', given ->> 'aggregate_id',
          given ->> 'payload', given ->> 'metadata', given ->> 'version', given ->> 'created_at', created_here);
end $$;
