-- The audit.

-- Adds a row to the audit, by the operator in the transaction-local setting `switchyard.operator`, or else by the session's user.
create or replace function switchyard.note(p_action text, p_component text, p_detail jsonb default '{}') returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  insert into switchyard.audit (by, action, component, detail)
  values (coalesce(nullif(current_setting('switchyard.operator', true), ''), session_user), p_action, p_component, p_detail)
$$;

-- The same, by the operator that the caller names. The setting is transaction-local because a pooler gives the session to other clients.
create or replace function switchyard.note_as(p_operator text, p_action text, p_component text, p_detail jsonb default '{}') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.operator', coalesce(p_operator, ''), true);
  perform switchyard.note(p_action, p_component, p_detail);
end $$;

-- The newest rows of the audit.
create or replace function switchyard.audit_rows(p_at_most bigint)
returns table (id bigint, at text, by text, action text, component text, detail text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select a.id, switchyard.rfc3339(a.at), a.by, a.action, a.component, a.detail::text from switchyard.audit a order by a.id desc limit p_at_most
$$;

-- The newest failures of an agent, or of a component that is no agent.
create or replace function switchyard.failures(p_component text, p_at_most bigint)
returns table (id bigint, at text, event_id uuid, message_id text, run int, seq bigint, attempt int, parked boolean, reason text, error text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select f.id, switchyard.rfc3339(f.at), f.event_id, f.message_id, f.run, f.seq, f.attempt, f.parked, f.reason, f.error
    from switchyard.failure f where f.component = p_component order by f.at desc, f.id desc limit p_at_most
$$;
