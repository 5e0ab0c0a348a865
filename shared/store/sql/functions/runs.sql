-- Deliveries that are asked for again.

create or replace function switchyard.new_run(p_agent text, p_reason text) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  r int;
begin
  insert into switchyard.run (agent, reason, by)
  values (a.id, p_reason, coalesce(nullif(current_setting('switchyard.operator', true), ''), session_user)) returning run into r;
  perform switchyard.note('new_run', p_agent, jsonb_build_object('run', r, 'reason', p_reason));
  return r;
end $$;

-- The one primitive behind redrive, reconcile and replay. Run 0: what is unfinished or parked is made due, a missing row
-- is a first ask, final rows are left alone. A run above 0 adds the given events that are final in run 0, and repeating it
-- never redoes a done one.
create or replace function switchyard.resend(p_agent text, p_seqs bigint[], p_run int, p_reason text, out added bigint, out redriven bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
begin
  perform pg_current_xact_id();
  if p_run > 0 then
    -- Against a cancellation at the same time, which too locks the run before its rows.
    perform 1 from switchyard.run r where r.run = p_run and r.agent = a.id and r.open for share;
    if not found then
      raise exception 'run % is not open for %', p_run, p_agent using errcode = 'SY004';
    end if;
  end if;
  with again as materialized (
    select d.seq from switchyard.delivery d
     where d.agent = a.id and d.run = p_run and d.seq = any (p_seqs) and d.state in ('a', 'f', 'p')
       and (p_run = 0 or exists (select 1 from switchyard.run r where r.run = p_run and r.open))
     order by d.seq for update)
  update switchyard.delivery d set state = 'a', attempts = 0, sends = 0, deaths = 0, returns = 0, epoch = d.epoch + 1,
         redrives = case when d.state = 'p' then least(d.redrives + 1, 32767) else d.redrives end,
         next_attempt_at = now(), at = now(), given_at = clock_timestamp(), reason = p_reason
    from again g
   where d.agent = a.id and d.run = p_run and d.seq = g.seq and d.state in ('a', 'f', 'p');
  get diagnostics redriven = row_count;

  if p_run > 0 then
    insert into switchyard.delivery (agent, run, seq, owner, state, next_attempt_at, reason)
    select a.id, p_run, d.seq, 'n', 'a', now(), p_reason from switchyard.delivery d
     where d.agent = a.id and d.run = 0 and d.seq = any (p_seqs) and d.state in ('d', 's', 'e')
     order by d.seq
    on conflict do nothing;
  else
    insert into switchyard.delivery (agent, run, seq, owner, state, next_attempt_at, reason)
    select r.id, 0, e.seq, o.owner, case when o.cancelled then 'e' else 'a' end::"char", case when not o.cancelled then now() end,
           case when o.cancelled then 'cancelled' else p_reason end
      from switchyard.event_log e
      join switchyard.subscription s on s.agent = a.id and s.type = e.type and e.seq >= s.from_seq and (s.until_seq is null or e.seq <= s.until_seq)
      join switchyard.agent r on r.id = a.id
      cross join lateral (select switchyard.owner_of(r, e.aggregate_id, e.project_id) as owner,
                                 e.due_at is not null and exists (select 1 from switchyard.cancelled c where c.seq = e.seq) as cancelled) o
     where e.seq = any (p_seqs) and e.seq >= (select f.seq from switchyard.floor f)
     order by e.seq
    on conflict do nothing;
  end if;
  get diagnostics added = row_count;
  if added + redriven > 0 then
    perform switchyard.note('resend', p_agent, jsonb_build_object('run', p_run, 'reason', p_reason, 'added', added, 'redriven', redriven));
  end if;
end $$;

-- Ends a replay: what is unfinished or parked is superseded; what is done stays done.
create or replace function switchyard.cancel_run(p_run int) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a smallint;
  n bigint;
begin
  update switchyard.run set open = false where run = p_run returning agent into a;
  if not found then
    raise exception 'there is no run % to cancel', p_run using errcode = 'SY004';
  end if;
  with open as materialized (
    select d.seq from switchyard.delivery d where d.agent = a and d.run = p_run and d.state in ('a', 'f', 'p') order by d.seq for update)
  update switchyard.delivery d set state = 's', at = now(), reason = 'run cancelled', next_attempt_at = null
    from open o
   where d.agent = a and d.run = p_run and d.seq = o.seq and d.state in ('a', 'f', 'p');
  get diagnostics n = row_count;
  perform switchyard.note('cancel_run', (select x.name from switchyard.agent x where x.id = a), jsonb_build_object('run', p_run, 'cancelled', n));
  return n;
end $$;
