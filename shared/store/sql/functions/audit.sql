-- Who did what.

-- `operator` is a transaction-local setting, so that a console can say on whose behalf it acts.
create or replace function switchyard.note(p_action text, p_agent text, p_detail jsonb default '{}') returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.audit (by, action, agent, detail)
  values (coalesce(nullif(current_setting('switchyard.operator', true), ''), session_user), p_action, p_agent, p_detail)
$$;

-- The same on behalf of an operator who is named. Transaction-local, as everything that goes through a pooler must be.
create or replace function switchyard.note_as(p_operator text, p_action text, p_agent text, p_detail jsonb default '{}') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  perform switchyard.note(p_action, p_agent, p_detail);
end $$;
