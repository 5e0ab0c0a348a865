-- The objects that name the application's table and its columns. No other file names them.

-- Creates or replaces all objects that name the application's table and columns, from `switchyard.mapping`. Call it again after a column's type has
-- changed. Postgres refuses to change the type of a column that a view uses, so drop the objects first: `begin; select switchyard.unbind(); alter
-- table ...; select switchyard.bind(); commit`.
--
-- `event`: the view of the application's events under our names. All of our reads use it. Every id is text except the event's own; the payload is
-- JSON or JSONB, as in the table. The view runs with the reader's rights, so the table's row-level security applies. A column that the table lacks
-- has a default: no aggregate type, version 1, no metadata, and for the time of creation the time of logging (null for history). Events that we
-- insert keep these values, in `switchyard.unmapped`.
--
-- `_insert_events`: the only function that inserts events. It skips an id that exists, and returns how many events were new. It computes all values,
-- and leaves the insert alone to `_insert_rows`: the application's own triggers run inside that function, so it is the only one whose search path
-- holds the application's schemas. Each name in its body is qualified, since a function of another role on that path would run with our rights. For
-- the unqualified names in the application's triggers, the setup refuses a path on which others may create (`setup/trust.rs`).
--
-- `_logged`: what the event log keeps of a row. Its body is parsed when it is created, so a column can be renamed, and the planner inlines it.
--
-- `log_event`: the only trigger on the application's table. It must never fail an insert and never wait. So it names no column, since a column can
-- be renamed; it has no cast that can fail; it takes no lock that the writer of another event holds. It fires for each row, because replication and
-- inserts into a partition fire no statement triggers, and for a single row both cost the same (16 µs). `on conflict do nothing` keeps an insert
-- from failing if rows were restored or replicated without the sequence's value. `unlogged` finds the rows that this leaves unlogged, on every tick.
create or replace function switchyard.bind() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $bind$
declare
  m switchyard.mapping;
  tab text;
  aggregate_id_type text;
  given_aggregate_id text;
  given_payload text;
  fills_created_at text;
  owner name;
  lacks boolean;
  about text;
  view text;
  digest text;
  body text;
  path text;
  schemas name[];
begin
  select x.* into m from switchyard.mapping x;
  tab := format('%I.%I', m.schema_name, m.table_name);
  select format_type(a.atttypid, null) into aggregate_id_type from pg_attribute a where a.attrelid = tab::regclass and a.attname = m.aggregate_id;
  select format('u.aggregate_id::%I.%I', n.nspname, t.typname) into given_aggregate_id
    from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
   where a.attrelid = tab::regclass and a.attname = m.aggregate_id;
  select format('u.payload::%I.%I', n.nspname, t.typname) into given_payload
    from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
   where a.attrelid = tab::regclass and a.attname = m.payload;
  -- Null if the column has a default, which then fills it.
  select case a.atttypid when 'timestamp'::regtype then $$pg_catalog.timezone('UTC'::pg_catalog.text, pg_catalog.now())$$ else 'pg_catalog.now()' end
    into fills_created_at
    from pg_attribute a where a.attrelid = tab::regclass and a.attname = m.created_at and not a.atthasdef;
  lacks := m.aggregate_type is null or m.version is null or m.metadata is null;
  about := coalesce('(logged).' || quote_ident(m.metadata), format('(select x.metadata from switchyard.unmapped x where x.event_id = (logged).%I)', m.id));
  if lacks then
    create table if not exists switchyard.unmapped (event_id uuid primary key, aggregate_type text, version int, metadata jsonb);
  end if;

  view := format($sql$
    create or replace view switchyard.event with (security_invoker = true) as
    select e.%1$I as id, e.%2$I::text as type, %3$s as aggregate_type, e.%4$I::text as aggregate_id, e.%5$I as payload, %6$s as metadata,
           %7$s as version, %8$s as created_at
      from %9$s e %10$s
  $sql$, m.id, m.type, coalesce('e.' || quote_ident(m.aggregate_type) || '::text', $$coalesce(x.aggregate_type, '')$$), m.aggregate_id, m.payload,
    coalesce('e.' || quote_ident(m.metadata), 'x.metadata'), coalesce('e.' || quote_ident(m.version) || '::int', 'coalesce(x.version, 1)'),
    coalesce('e.' || quote_ident(m.created_at), format('(select l.logged_at from switchyard.event_log l where l.event_id = e.%I)', m.id)), tab,
    case when lacks then format('left join switchyard.unmapped x on x.event_id = e.%I', m.id) else '' end);
  -- Replace the view only if it differs, because the replacement needs an exclusive lock.
  digest := encode(sha256(convert_to(view, 'UTF8')), 'hex');
  if obj_description(to_regclass('switchyard.event'), 'pg_class') is distinct from digest then
    execute view;
    execute format('comment on view switchyard.event is %L', digest);
  end if;

  execute format('create or replace function switchyard._events() returns regclass language sql immutable parallel safe return %L::regclass', tab);

  -- Returns the aggregate's id as the application's column prints it, so that two spellings of one id are equal.
  execute format($sql$
    create or replace function switchyard._aggregate_id(given text) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp return given::%s::text
  $sql$, aggregate_id_type);

  body := format($sql$
    #variable_conflict use_column
    declare
      n pg_catalog.int8;
    begin
      insert into %1$s (%2$s)
      select %3$s
        from rows from (pg_catalog.unnest(p_ids), pg_catalog.unnest(p_types), pg_catalog.unnest(p_aggregate_types), pg_catalog.unnest(p_aggregate_ids),
               pg_catalog.unnest(p_payloads), pg_catalog.unnest(p_versions), pg_catalog.unnest(p_metadata))
               with ordinality u (id, type, aggregate_type, aggregate_id, payload, version, metadata, ord)
       order by u.ord
      on conflict (%4$I) do nothing;
      get diagnostics n := row_count;
      return n;
    end
  $sql$,
    tab,
    concat_ws(', ', quote_ident(m.id), quote_ident(m.type), quote_ident(m.aggregate_type), quote_ident(m.aggregate_id), quote_ident(m.payload),
      quote_ident(m.version), quote_ident(m.metadata), case when fills_created_at is not null then quote_ident(m.created_at) end),
    concat_ws(', ', 'u.id', 'u.type', case when m.aggregate_type is not null then 'u.aggregate_type' end, given_aggregate_id, given_payload,
      case when m.version is not null then 'u.version' end, case when m.metadata is not null then 'u.metadata' end, fills_created_at),
    m.id);
  -- The application's own triggers run inside this function, and their unqualified names must resolve as usual. So the search path is the default of
  -- the installing role or database. It is not the caller's, because the function may run with our rights for a caller that we do not trust. Only
  -- schemas that exist are on it: another role could create one that is missing.
  perform set_config('search_path', (select s.reset_val from pg_settings s where s.name = 'search_path'), true);
  schemas := pg_catalog.current_schemas(false);
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  select string_agg(quote_ident(x.name), ', ' order by x.nth) into path
    from (select u.name, min(u.nth) as nth from unnest(schemas || m.schema_name::name) with ordinality u (name, nth)
           where u.name <> 'pg_catalog' and u.name not like 'pg\_temp%' group by u.name) x;
  -- The body is a quoted literal, so that no column name can end it.
  execute format($sql$
    create or replace function switchyard._insert_rows(
      p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads jsonb[], p_versions int[], p_metadata jsonb[])
    returns bigint
    language plpgsql volatile set search_path = pg_catalog, %s, pg_temp as %L
  $sql$, path, body);

  body := format($sql$
    begin
      p_metadata := array(select jsonb_build_object('timestamp', switchyard.rfc3339(now())) || u.about from unnest(p_metadata) with ordinality u (about, ord)
                           order by u.ord);
      %s
      return switchyard._insert_rows(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads, p_versions, p_metadata);
    end
  $sql$,
    -- This insert comes first, because the trigger reads its row.
    case when lacks then format($sql$
      insert into switchyard.unmapped (event_id, aggregate_type, version, metadata)
      select u.id, u.aggregate_type, u.version, u.metadata
        from unnest(p_ids, p_aggregate_types, p_versions, p_metadata) u (id, aggregate_type, version, metadata)
       where not exists (select 1 from %s e where e.%I = u.id)
      on conflict do nothing;
      $sql$, tab, m.id) else '' end);
  execute format($sql$
    create or replace function switchyard._insert_events(
      p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads jsonb[], p_versions int[], p_metadata jsonb[])
    returns bigint
    language plpgsql volatile set search_path = pg_catalog, pg_temp as %L
  $sql$, body);

  execute format($sql$
    create or replace function switchyard._logged(logged %1$s)
    returns table (event_id uuid, type text, aggregate_id text, project_id text, due_at timestamptz, max_attempts smallint)
    language sql stable begin atomic
      select (logged).%2$I, coalesce((logged).%3$I::text, ''), (logged).%4$I::text, switchyard._project_of(a.about, (logged).%5$I),
             switchyard._due_at_of(a.about), switchyard._max_attempts_of(a.about)
        from (select %6$s as about %7$s) a;
    end
  $sql$, tab, m.id, m.type, m.aggregate_id, m.payload, about, case when m.metadata is null then 'offset 0' else '' end);
  create or replace function switchyard.log_event() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $sql$
    begin
      with logged as (
        insert into switchyard.event_log (event_id, type, aggregate_id, project_id, due_at, max_attempts)
        select n.event_id, n.type, n.aggregate_id, n.project_id, n.due_at, n.max_attempts from switchyard._logged(new) n
        on conflict do nothing
        returning seq, due_at, aggregate_id)
      insert into switchyard.outbox (seq, due_at, shard) select l.seq, l.due_at, switchyard.shard_of(l.aggregate_id) from logged l
      on conflict do nothing;
      return null;
    end
  $sql$;

  -- A new function is executable by `public`.
  revoke execute on function switchyard._events(), switchyard._aggregate_id(text), switchyard._logged, switchyard.log_event(),
    switchyard._insert_events, switchyard._insert_rows from public;

  -- `log_event` runs with the rights of its owner. If another role, such as a superuser, calls `bind`, give the new objects to that owner, so that
  -- the trigger may still use them.
  select pg_get_userbyid(p.proowner) into owner from pg_proc p where p.oid = 'switchyard.log_event()'::regprocedure;
  if owner <> current_user then
    execute format('alter function switchyard._logged owner to %I', owner);
    execute format('alter view switchyard.event owner to %I', owner);
  end if;

  update switchyard.mapping x set relation = tab::regclass, attnums = array(
    select (select a.attnum from pg_attribute a where a.attrelid = tab::regclass and a.attname = u.name)
      from unnest(array[m.id, m.type, m.aggregate_type, m.aggregate_id, m.payload, m.metadata, m.version, m.created_at]) with ordinality u (name, ord)
     order by u.ord);
  -- A view that was dropped and created again has lost its grants.
  perform switchyard.grant_rights();
end $bind$;

-- Drops the objects that depend on the application's columns, so that their types can change. Call `bind` in the same transaction to create them
-- again.
create or replace function switchyard.unbind() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  drop view if exists switchyard.event;
  drop function if exists switchyard._logged;
end $$;

-- Reads the present names of the application's table and columns, and binds again if they changed. Returns whether they changed. Between a rename
-- and this call the application's inserts are logged and published as before; only our own inserts fail.
create or replace function switchyard.follow_renames() returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  m switchyard.mapping;
  names name[];
  tab record;
begin
  select x.* into m from switchyard.mapping x for update;
  if m.relation is distinct from switchyard._events()::oid then
    -- The database was restored from a dump, so the stored oid and column numbers mean nothing here. `_events` has the table's last name from the
    -- dump; the columns keep the names in the mapping.
    update switchyard.mapping set schema_name = n.nspname, table_name = c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = switchyard._events();
    perform switchyard.bind();
    return (select (x.schema_name, x.table_name) <> (m.schema_name, m.table_name) from switchyard.mapping x);
  end if;
  select n.nspname, c.relname into tab from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = m.relation;
  names := array(
    select (select a.attname from pg_attribute a where a.attrelid = m.relation and a.attnum = u.attnum)
      from unnest(m.attnums) with ordinality u (attnum, ord) order by u.ord);
  if (tab.nspname, tab.relname) = (m.schema_name, m.table_name)
     and names::text[] = array[m.id, m.type, m.aggregate_type, m.aggregate_id, m.payload, m.metadata, m.version, m.created_at] then
    return false;
  end if;
  update switchyard.mapping set schema_name = tab.nspname, table_name = tab.relname, id = names[1], type = names[2], aggregate_type = names[3],
         aggregate_id = names[4], payload = names[5], metadata = names[6], version = names[7], created_at = names[8];
  perform switchyard.bind();
  return true;
end $$;

-- Returns whether the application's table has an index on the time of creation, so that events can be found by time.
create or replace function switchyard.found_by_time() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select 1 from switchyard.mapping m
      join pg_attribute a on a.attrelid = switchyard._events() and a.attname = m.created_at
      join pg_index i on i.indrelid = a.attrelid and i.indkey[0] = a.attnum and i.indisvalid and i.indpred is null)
$$;

-- Raises an error if row-level security hides events from this role, which would take a hidden event for a deleted one. Owners see all rows unless
-- the table forces row-level security; roles with BYPASSRLS always do.
create or replace function switchyard._see_every_event() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if row_security_active(switchyard._events()) then
    raise exception 'row-level security hides rows of % from this role: use the owner of the table, or a role with BYPASSRLS', switchyard._events()
      using errcode = 'SY001';
  end if;
end $$;
