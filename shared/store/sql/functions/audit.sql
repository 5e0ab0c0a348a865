-- The audit.

-- Adds a row to the audit, by the operator in the transaction-local setting `switchyard.operator`, or else by the session's user.
create or replace function switchyard.note(p_action text, p_agent text, p_detail jsonb default '{}') returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.audit (by, action, agent, detail)
  values (coalesce(nullif(current_setting('switchyard.operator', true), ''), session_user), p_action, p_agent, p_detail)
$$;

-- The same, by the operator that the caller names. The setting is transaction-local because a pooler gives the session to other clients.
create or replace function switchyard.note_as(p_operator text, p_action text, p_agent text, p_detail jsonb default '{}') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  perform switchyard.note(p_action, p_agent, p_detail);
end $$;
