-- Domain events from the application's own tables, where those exist. The triggers fire once for a statement, not for a
-- row: a bulk insert costs one subtransaction, not thousands. They never fail the application's statement.

-- Arguments of the trigger: event type ('' where the row's status decides), aggregate type, key of the row, key of the aggregate.
-- The transition tables are `fresh` and, for updates, `stale`.
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
  problem text;
begin
  -- An agent is writing: its own events say what it did.
  if coalesce(current_setting('switchyard.agent', true), '') <> '' then
    return null;
  end if;
  if tg_op = 'INSERT' then
    open parts for
      select array_agg(gen_random_uuid()) as ids, array_agg(x.type) as types, array_agg(x.aggregate_id) as aggregate_ids,
             array_agg(x.row_now) as payloads, array_agg(switchyard.change_metadata(x.row_now)) as metadata
        from (select t.type, r.new ->> aggregate_key as aggregate_id, r.new as row_now, (row_number() over () - 1) / part_rows as nth
                from (select to_jsonb(f) as new from fresh f) r
                cross join lateral (select switchyard.change_type(event_type, null, r.new) as type) t
               where t.type is not null) x
       group by x.nth;
  else
    open parts for
      select array_agg(gen_random_uuid()) as ids, array_agg(x.type) as types, array_agg(x.aggregate_id) as aggregate_ids,
             array_agg(x.row_now) as payloads, array_agg(switchyard.change_metadata(x.row_now)) as metadata
        from (select t.type, r.new ->> aggregate_key as aggregate_id, r.new as row_now, (row_number() over () - 1) / part_rows as nth
                from (select to_jsonb(f) as new from fresh f) r
                join (select to_jsonb(s) as old from stale s) q on q.old ->> row_key = r.new ->> row_key
                cross join lateral (select switchyard.change_type(event_type, q.old, r.new) as type) t
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
create or replace function switchyard.change_type(event_type text, old jsonb, new jsonb) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  bookkeeping text[];
begin
  if event_type = '' then
    return case when new ->> 'status' in ('auto_drafted', 'approved', 'completed') and old ->> 'status' is distinct from new ->> 'status'
                then 'spec.' || (new ->> 'status') end;
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

-- The triggers that are missing on the application's tables, each with the statement that creates it. A table whose key is no
-- uuid is left alone.
create or replace function switchyard.missing_triggers() returns table (name text, ddl text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select x.tab || ' ' || x.op, format(
      'create trigger %I after %s on public.%I referencing %s for each statement execute function switchyard.log_change(%L, %L, %L, %L)',
      'switchyard_' || x.op, x.op, x.tab,
      case when x.op = 'insert' then 'new table as fresh' else 'old table as stale new table as fresh' end,
      x.event_type, x.aggregate, x.row_key, x.aggregate_key)
    from (values
      ('posts', 'insert', 'feedback.created', 'post', 'id', 'id'),
      ('posts', 'update', 'feedback.updated', 'post', 'id', 'id'),
      ('votes', 'insert', 'feedback.voted', 'post', 'id', 'post_id'),
      ('comments', 'insert', 'feedback.commented', 'post', 'id', 'post_id'),
      ('sentiment_analysis', 'insert', 'sentiment.analyzed', 'post', 'post_id', 'post_id'),
      ('sentiment_analysis', 'update', 'sentiment.analyzed', 'post', 'post_id', 'post_id'),
      ('themes', 'insert', 'theme.detected', 'theme', 'id', 'id'),
      ('themes', 'update', 'theme.updated', 'theme', 'id', 'id'),
      ('specs', 'insert', '', 'spec', 'id', 'id'),
      ('specs', 'update', '', 'spec', 'id', 'id'),
      ('spec_links', 'insert', 'spec.linked', 'spec', 'id', 'spec_id')
    ) x (tab, op, event_type, aggregate, row_key, aggregate_key)
    where (select m.domain_events from switchyard.mapping m)
      and exists (select 1 from information_schema.columns c where c.table_schema = 'public' and c.table_name = x.tab
                     and c.column_name = x.aggregate_key and c.udt_name = 'uuid')
      and (x.op = 'insert' or exists (select 1 from information_schema.columns c where c.table_schema = 'public' and c.table_name = x.tab
                     and c.column_name = x.row_key))
      -- Transition tables do not go with inheritance children or foreign tables and views.
      and exists (select 1 from pg_class k where k.oid = to_regclass('public.' || x.tab) and k.relkind in ('r', 'p') and not k.relispartition)
      and not exists (select 1 from pg_trigger g where g.tgrelid = to_regclass('public.' || x.tab) and g.tgname = 'switchyard_' || x.op);
end $$;

-- Installs what is missing, all in this transaction: for a quiet database, once an application table was added. `migrate`
-- does it after every migration with a transaction for each, since it locks out the table's writers until its end.
create or replace function switchyard.install_triggers() returns text[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  w record;
  installed text[] := '{}';
begin
  for w in select * from switchyard.missing_triggers() loop
    execute w.ddl;
    installed := installed || w.name;
  end loop;
  return installed;
end $$;
