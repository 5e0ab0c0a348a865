-- Domain events: triggers on the application's own tables append them, as `switchyard.domain` says. A trigger fires once for a statement, not for each
-- row, so a bulk insert costs one subtransaction. It never fails the application's statement.

-- Returns the mark of this transaction: a claim of an agent keeps it in the setting `switchyard.agent`. Any role can set the setting, but none can
-- compute the mark without the key, and another transaction has another one. Both hold through a pooler, since the setting ends with the transaction.
create or replace function switchyard._mark(key bytea) returns text
language sql stable
return encode(sha256(convert_to('mark', 'UTF8') || key || convert_to(pg_current_xact_id()::text, 'UTF8')), 'hex');

-- Arguments of the trigger: event type (empty where a column's value names the event), aggregate type, key of the row, key of the aggregate, and the
-- column with its values and their events as JSON (or empty). The transition tables are `fresh` and, for updates, `stale`.
create or replace function switchyard.log_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_hashagg = off as $$
declare
  -- A statement on millions of rows makes arrays of so many, one after the other: the grouping is sorted for that, not hashed.
  part_rows constant int := 1000;
  parts refcursor;
  part record;
  event_type text := tg_argv[0];
  aggregate text := tg_argv[1];
  row_key text := tg_argv[2];
  aggregate_key text := tg_argv[3];
  by_value jsonb;
  mark text := current_setting('switchyard.agent', true);
  problem text;
begin
  -- An agent is writing: its own events say what it did. Only a claim can make the mark of this transaction; any other value says nothing.
  if mark <> '' and exists (select from switchyard.signing_key k where mark = switchyard._mark(k.key)) then
    return null;
  end if;
  by_value := nullif(tg_argv[4], '')::jsonb;
  if tg_op = 'INSERT' then
    open parts for
      select array_agg(gen_random_uuid()) as ids, array_agg(x.type) as types, array_agg(x.aggregate_id) as aggregate_ids,
             array_agg(x.row_now) as payloads, array_agg(switchyard.change_metadata(x.row_now)) as metadata
        from (select t.type, r.new ->> aggregate_key as aggregate_id, r.new as row_now, (row_number() over () - 1) / part_rows as nth
                from (select to_jsonb(f) as new from fresh f) r
                cross join lateral (select switchyard.change_type(event_type, by_value, null, r.new) as type) t
               where t.type is not null) x
       group by x.nth;
  else
    open parts for
      select array_agg(gen_random_uuid()) as ids, array_agg(x.type) as types, array_agg(x.aggregate_id) as aggregate_ids,
             array_agg(x.row_now) as payloads, array_agg(switchyard.change_metadata(x.row_now)) as metadata
        from (select t.type, r.new ->> aggregate_key as aggregate_id, r.new as row_now, (row_number() over () - 1) / part_rows as nth
                from (select to_jsonb(f) as new from fresh f) r
                join (select to_jsonb(s) as old from stale s) q on q.old ->> row_key = r.new ->> row_key
                cross join lateral (select switchyard.change_type(event_type, by_value, q.old, r.new) as type) t
               where t.type is not null) x
       group by x.nth;
  end if;
  loop
    fetch parts into part;
    exit when not found;
    perform switchyard._insert_events(part.ids, part.types, array_fill(aggregate, array[cardinality(part.ids)]), part.aggregate_ids,
      part.payloads, array_fill(1, array[cardinality(part.ids)]), part.metadata);
  end loop;
  close parts;
  return null;
exception when others then
  get stacked diagnostics problem = message_text;
  raise warning 'switchyard: no domain event for % on %: %', tg_op, tg_table_name, problem;
  begin
    perform switchyard.note('domain_event_failed', null, jsonb_build_object('table', tg_table_name, 'operation', tg_op, 'problem', problem));
  exception when others then
    null;
  end;
  return null;
end $$;

-- Which event a change is, or null. Bookkeeping columns do not make an update.
create or replace function switchyard.change_type(event_type text, by_value jsonb, old jsonb, new jsonb) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  value text;
  bookkeeping text[];
begin
  if by_value is not null then
    value := new ->> (by_value ->> 'column');
    return case when old ->> (by_value ->> 'column') is distinct from value then by_value -> 'events' ->> value end;
  end if;
  if old is null then
    return event_type;
  end if;
  select array_agg(k) into bookkeeping from jsonb_object_keys(new) k where k = 'updated_at' or k like '%\_count';
  return case when new - coalesce(bookkeeping, '{}') <> old - coalesce(bookkeeping, '{}') then event_type end;
end $$;

create or replace function switchyard.change_metadata(row_now jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
  select switchyard.chain() || jsonb_strip_nulls(jsonb_build_object(
    'project_id', row_now ->> 'project_id', 'user_id', row_now ->> 'user_id', 'timestamp', switchyard.rfc3339(now())))
$$;

-- Keeps a domain, and returns the name of the one that is kept from now on. One that a program brings along replaces only its own older version.
create or replace function switchyard.set_domain(domain_name text, domain_triggers jsonb, own_version boolean) returns text
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.domain as d (name, triggers) values (domain_name, domain_triggers)
  on conflict (one) do update set name = excluded.name, triggers = excluded.triggers where not own_version or d.name = excluded.name;
  select d.name from switchyard.domain d
$$;

-- The triggers of the domain: the name that people read, table and name of the trigger, its arguments, the statement that creates it, and whether the
-- application's table fits. It fits if it can have such a trigger (no view, no foreign table, no child of an inheritance), and has the columns; an
-- aggregate's id must go into the column of the events table.
create or replace function switchyard.domain_triggers()
returns table (name text, relation regclass, trigger_name name, arguments text[], ddl text, fits boolean)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select concat_ws('.', nullif(t.schema, 'public'), t."table") || ' ' || t.operation, k.oid::regclass, a.trigger_name, a.arguments,
         format('create or replace trigger %I after %s on %I.%I referencing %s for each statement execute function switchyard.log_change(%s)',
           a.trigger_name, t.operation, t.schema, t."table",
           case t.operation when 'insert' then 'new table as fresh' else 'old table as stale new table as fresh' end,
           (select string_agg(quote_literal(u.argument), ', ' order by u.n) from unnest(a.arguments) with ordinality u (argument, n))),
         k.oid is not null
           and exists (select from pg_attribute c join pg_type y on y.oid = c.atttypid
                        where c.attrelid = k.oid and c.attname = t.aggregate_id and not c.attisdropped
                          and (e.typcategory = 'S' or y.oid = e.oid or (y.typcategory, e.typcategory) = ('N', 'N')))
           and (t.operation = 'insert' or switchyard._has_column(k.oid, t.key))
           and (t.by_value is null or switchyard._has_column(k.oid, t.by_value ->> 'column'))
    from switchyard.domain d
    cross join jsonb_to_recordset(d.triggers) t (schema text, "table" text, operation text, event_type text, aggregate_type text, key text,
                                                 aggregate_id text, by_value jsonb)
    cross join lateral (select ('switchyard_' || t.operation)::name as trigger_name,
      array[coalesce(t.event_type, ''), t.aggregate_type, t.key, t.aggregate_id, coalesce(t.by_value::text, '')] as arguments) a
    join switchyard.mapping m on true
    join pg_attribute i on i.attrelid = switchyard._events() and i.attname = m.aggregate_id
    join pg_type e on e.oid = i.atttypid
    left join pg_class k on k.oid = to_regclass(format('%I.%I', t.schema, t."table")) and k.relkind in ('r', 'p') and not k.relispartition
$$;

create or replace function switchyard._has_column(relation oid, column_name text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_attribute c where c.attrelid = relation and c.attname = column_name and c.attnum > 0 and not c.attisdropped)
$$;

-- The triggers of the domain that are missing or were created from another version of it, each with the statement that creates it.
create or replace function switchyard.missing_triggers() returns table (name text, ddl text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select d.name, d.ddl from switchyard.domain_triggers() d
   where d.fits and not exists (
     select from pg_trigger g
      where g.tgrelid = d.relation and g.tgname = d.trigger_name and g.tgfoid = 'switchyard.log_change()'::regprocedure
        -- As Postgres keeps them: each ends with a zero.
        and g.tgargs = (select string_agg(convert_to(u.argument, 'UTF8') || '\x00'::bytea, ''::bytea order by u.n)
                          from unnest(d.arguments) with ordinality u (argument, n)))
$$;

-- The triggers that the domain has no more, each with the statement that drops it.
create or replace function switchyard.surplus_triggers() returns table (name text, ddl text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select format('%s %s (dropped)', regexp_replace(g.tgrelid::regclass::text, '^public\.', ''), regexp_replace(g.tgname, '^switchyard_', '')),
         format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass)
    from pg_trigger g
   where g.tgfoid = 'switchyard.log_change()'::regprocedure and not g.tgisinternal and g.tgparentid = 0
     and not exists (select from switchyard.domain_triggers() d where d.relation = g.tgrelid and d.trigger_name = g.tgname)
   order by 1
$$;

-- Creates and drops what is due, all in this transaction: for a quiet database, after an application table was added. The setup uses a transaction
-- for each, since a trigger locks out the table's writers until the end of its transaction.
create or replace function switchyard.install_triggers() returns text[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  due record;
  done text[] := '{}';
begin
  for due in select * from switchyard.missing_triggers() union all select * from switchyard.surplus_triggers() loop
    execute due.ddl;
    done := done || due.name;
  end loop;
  return done;
end $$;
