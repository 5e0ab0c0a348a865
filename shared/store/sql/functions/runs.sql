-- Runs: deliveries that an operator asks for again.

-- Starts a replay and returns its run.
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

-- Sends deliveries again; returns how many were added and how many were requeued. In run 0 it makes unfinished or parked deliveries due, creates
-- missing ones, and leaves final ones as they are. In a run above 0 it also adds those of the given events that are final in run 0. A second call
-- never repeats a delivery that is done. Raises SY004 if the run is not open for the agent.
create or replace function switchyard.resend(p_agent text, p_seqs bigint[], p_run int, p_reason text, out added bigint, out redriven bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  seqs bigint[] := p_seqs;
begin
  if p_run > 0 then
    -- `cancel_run` locks the run before its rows too, so the two exclude each other.
    perform 1 from switchyard.run r where r.run = p_run and r.agent = a.id and r.open for share;
    if not found then
      raise exception 'run % is not an open run of %: start a new one', p_run, p_agent using errcode = 'SY004';
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
    seqs := array(
      select d.seq from switchyard.delivery d
       where d.agent = a.id and d.run = 0 and d.seq = any (p_seqs) and d.state in ('d', 's', 'e'));
  end if;
  added := (switchyard._create_deliveries(a.id, p_run, seqs, 'resent', p_reason => p_reason)).written;
  if added + redriven > 0 then
    perform switchyard.note('resend', p_agent, jsonb_build_object('run', p_run, 'reason', p_reason, 'added', added, 'redriven', redriven));
  end if;
end $$;

-- Ends a run: unfinished and parked deliveries are superseded, done ones stay done. Returns how many were superseded. Raises SY004 if there is no
-- such run.
create or replace function switchyard.cancel_run(p_run int) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a smallint;
  n bigint;
begin
  update switchyard.run set open = false where run = p_run returning agent into a;
  if not found then
    raise exception 'run % does not exist: check the number', p_run using errcode = 'SY004';
  end if;
  with open as materialized (
    select d.seq from switchyard.delivery d where d.agent = a and d.run = p_run and d.state in ('a', 'f', 'p') order by d.seq for update)
  update switchyard.delivery d set state = 's', at = now(), reason = 'run_cancelled', next_attempt_at = null
    from open o
   where d.agent = a and d.run = p_run and d.seq = o.seq and d.state in ('a', 'f', 'p');
  get diagnostics n = row_count;
  perform switchyard.note('cancel_run', (select x.name from switchyard.agent x where x.id = a), jsonb_build_object('run', p_run, 'cancelled', n));
  return n;
end $$;
