-- Who may call what. The functions that are called from outside run with their owner's rights, so a role needs no right on any table of ours. All others
-- are granted to nobody. A test compares `_callers` with the functions that the Rust code calls.

-- The roles, and the functions that each may call. The setup's own functions are in no list: only their owner calls them.
create or replace function switchyard._callers() returns table (role_name name, functions text[])
language sql immutable set search_path = pg_catalog, pg_temp as $$
  -- The Lambda functions: agents, shim, ingest, steward and redrive.
  select 'switchyard_runtime'::name, array[
    'preview', 'claim_batch', 'settle', 'pass_gates', 'store_decisions', 'append',
    'fail_batch', 'park_batch', 'park_unidentified', 'returned', 'suspect', 'survived', 'payloads', 'chain_of',
    'breaker_state', 'trip', 'probe', 'recovered', 'half_open', 'breakers', 'set_paused', 'force_breaker',
    'share', 'leave', 'notify', 'pending', 'events_of', 'published', 'refused', 'retry_publishing', 'unpublishable', 'unpublishable_count', 'oldest_unpublished_secs',
    'ingest', 'publish',
    'tick', 'sweep', 'due', 'drain', 'reassign', 'unlogged', 'prune', 'drop_oldest', 'take_hourly_check', 'resend', 'new_run', 'cancel_run', 'missing',
    'agents', 'agent_named', 'types_of', 'ledger', 'stream', 'last_seq', 'logged_between', 'delivery_states', 'figures', 'failures', 'audit_rows', 'note_as',
    'time_given', 'selection_of', 'parked', 'parked_deliveries', 'parked_error', 'redrive', 'redrive_these', 'sent_back', 'dismiss', 'auto_redrive',
    'set_auto_redrive', 'revise', 'revise_and_redrive', 'delayed', 'delayed_count', 'cancel_delayed',
    'set_routing', 'pin', 'routing_moves',
    'start_backfill', 'preview_backfill', 'prepare_backfill', 'take_backfill', 'backfill_waits', 'backfill_progress', 'backfills_running',
    'pause_backfill', 'resume_backfill', 'cancel_backfill',
    'cutover_start', 'cutover_advance', 'cutover_figures', 'cutover_pause', 'cutover_pause_at', 'cutover_resume', 'cutover_roll_back',
    'cutover_roll_back_at', 'cutovers',
    'set_compare_mapping', 'drop_compare_mapping', 'set_compare_error', 'compare_mappings', 'decided', 'note_compared', 'note_unmatched', 'compared',
    'compared_by', 'compared_examples', 'unmatched_examples', 'prune_compared', '_text_at', '_json_at', 'rfc3339', '_seq_logged_from']
  union all
  -- The application, and the old system that an agent replaces.
  select 'switchyard_application', array['publish', 'sign', 'claim', 'fail', 'park', 'retry', 'todo_old', 'parked_old']
  union all
  -- Status: reads only, and no payload.
  select 'switchyard_reader', array[
    'agents', 'agent_named', 'types_of', 'ledger', 'stream', 'last_seq', 'delivery_states', 'figures', 'failures', 'audit_rows', 'breakers', 'breaker_state',
    'parked', 'parked_deliveries', 'parked_error', 'parked_old', 'selection_of', 'time_given', 'delayed', 'delayed_count', 'unpublishable',
    'unpublishable_count', 'chain_of', 'routing_moves', 'backfill_progress', 'backfills_running', 'cutovers', 'cutover_figures', 'compare_mappings',
    'compared', 'compared_by', 'compared_examples', 'unmatched_examples', 'rfc3339']
$$;

-- These run as the caller: they compute from their arguments alone, or the planner puts them into the caller's statement.
create or replace function switchyard._runs_as_caller(function_name text) returns boolean
language sql immutable parallel safe
return function_name in ('sign', 'rfc3339', '_text_at', '_json_at', 'logged_between');

-- Makes the rights of the roles those of `_callers`, as far as the roles exist. Changes nothing where they are so already. `create or replace` makes a
-- function run as its caller again, so this belongs into the transaction that replaces the functions.
create or replace function switchyard.grant_rights() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  m switchyard.mapping;
  statement text;
begin
  select x.* into m from switchyard.mapping x;
  for statement in
    with called as (
      select p.oid, p.oid::regprocedure::text as signature, p.prosecdef, p.proname, p.proacl, r.oid as role, c.role_name,
             p.proname = any (c.functions) as granted
        from pg_proc p cross join switchyard._callers() c left join pg_roles r on r.rolname = c.role_name
       where p.pronamespace = 'switchyard'::regnamespace)
    select distinct format('alter function %s security definer', c.signature) from called c
     where c.granted and not c.prosecdef and not switchyard._runs_as_caller(c.proname)
    union all
    select format(case when c.granted then 'grant execute on function %s to %I' else 'revoke execute on function %s from %I' end, c.signature, c.role_name)
      from called c
     where c.role is not null
       and c.granted <> exists (select from aclexplode(c.proacl) a where a.grantee = c.role and a.privilege_type = 'EXECUTE')
    union all
    select format('grant usage on schema switchyard to %I', c.role_name)
      from switchyard._callers() c join pg_roles r on r.rolname = c.role_name
     where not has_schema_privilege(r.oid, 'switchyard', 'usage')
    union all
    -- Default privileges, such as Supabase's, may have opened our tables.
    select distinct format('revoke all on switchyard.%I from %s', t.relname, case a.grantee when 0 then 'public' else quote_ident(r.rolname) end)
      from pg_class t cross join lateral aclexplode(t.relacl) a left join pg_roles r on r.oid = a.grantee
     where t.relnamespace = 'switchyard'::regnamespace and t.relkind in ('r', 'p', 'v', 'S') and (a.grantee = 0 or r.rolname in ('anon', 'authenticated'))
    union all
    -- A comparison joins the events with the team's tables as the steward's own role.
    select format('grant select on switchyard.%I to switchyard_runtime', t.name)
      from pg_roles r cross join unnest(array['event', 'event_log']) t (name)
     where r.rolname = 'switchyard_runtime' and not has_table_privilege(r.oid, format('switchyard.%I', t.name), 'select')
  loop
    execute statement;
  end loop;
  -- Where the setup has created the events table, its rows are for these roles only.
  if m.created_here then
    for statement in
      select format('grant %s on %I.%I to %I', x.command, m.schema_name, m.table_name, x.role_name)
        from (values ('insert', 'switchyard_application'), ('select', 'switchyard_runtime')) x (command, role_name)
        join pg_roles r on r.rolname = x.role_name
       where not has_table_privilege(r.oid, switchyard._events(), x.command)
      union all
      select format('create policy %I on %I.%I for %s to %I %s (true)', x.role_name, m.schema_name, m.table_name, x.command, x.role_name,
               case x.command when 'insert' then 'with check' else 'using' end)
        from (values ('insert', 'switchyard_application'), ('select', 'switchyard_runtime')) x (command, role_name)
        join pg_roles r on r.rolname = x.role_name
       where not exists (select from pg_policy p where p.polrelid = switchyard._events() and p.polname = x.role_name)
    loop
      execute statement;
    end loop;
  end if;
end $$;

-- Grants the runtime role these rights on tables of the application, as far as the tables exist and belong to this role: for the agents' own statements.
-- Returns the statements that it could not execute.
create or replace function switchyard.grant_to_runtime(p_tables text[], p_rights text[]) returns text[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  due record;
  left_over text[] := '{}';
begin
  if to_regrole('switchyard_runtime') is null then
    return left_over;
  end if;
  for due in
    select format('grant %s on %s to switchyard_runtime', u.rights, c.oid::regclass) as statement, pg_has_role(c.relowner, 'usage') as ours
      from unnest(p_tables, p_rights) u (name, rights)
      join pg_class c on c.oid = to_regclass(format('public.%I', u.name))
     where not (select bool_and(has_table_privilege('switchyard_runtime', c.oid, r)) from unnest(string_to_array(u.rights, ', ')) r)
  loop
    if due.ours then
      execute due.statement;
    else
      left_over := left_over || due.statement;
    end if;
  end loop;
  return left_over;
end $$;

-- What others may do that the setup leaves as it is, a line for each role and table or function: PUBLIC and the roles of anonymous and signed-in users on
-- the events table and on our functions; and whoever may create a trigger on the events table, which runs with the owner's rights.
create or replace function switchyard.open_rights() returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select format('%s may %s on %s%s', x.grantee, string_agg(lower(x.privilege_type), ', ' order by x.privilege_type), x.relation,
           case when x.relrowsecurity then ', as its policies allow' else ', and row-level security is off' end)
    from (select case a.grantee when 0 then 'public' else r.rolname::text end as grantee, a.privilege_type, c.oid::regclass as relation, c.relrowsecurity,
                 c.relowner, a.grantee as role, r.rolsuper
            from pg_class c cross join lateral aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
           where c.oid = switchyard._events()) x
   where x.role <> x.relowner and not coalesce(x.rolsuper, false)
     and (x.grantee in ('public', 'anon', 'authenticated') or x.privilege_type = 'TRIGGER')
   group by x.grantee, x.relation, x.relrowsecurity
  union all
  select format('%s may execute %s', r.rolname, p.oid::regprocedure)
    from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
   where p.pronamespace = 'switchyard'::regnamespace and r.rolname in ('anon', 'authenticated')
   order by 1
$$;
