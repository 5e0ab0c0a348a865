-- Cutover plans: an agent's share grows step by step while the figures stay inside their limits. Whether they do is decided by the steward; what
-- is here keeps the plan, and makes each of its steps one transaction with the routing that it sets.

-- An agent's newest plan, where it is in one of these states, locked after the agent's row, as a change of routing locks the two.
create or replace function switchyard._cutover_of(p_agent text, p_states text[]) returns switchyard.cutover
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  c switchyard.cutover;
begin
  perform 1 from switchyard.agent x where x.id = a.id for no key update;
  select * into c from switchyard.cutover x where x.agent = a.id order by x.id desc limit 1 for update;
  if not found or not c.state = any (p_states) then
    raise exception '% has no cutover that is %', p_agent, array_to_string(p_states, ' or ') using errcode = 'SY004';
  end if;
  return c;
end $$;

-- A change of routing that is a plan's own: the trigger below knows it by the setting.
create or replace function switchyard._cutover_routes(p_agent text, p_mode text, p_percent int, p_drain boolean, p_beside boolean, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.cutover', p_agent, true);
  perform switchyard.set_routing(p_agent, p_mode, p_percent, p_drain, p_beside, p_operator);
  perform set_config('switchyard.cutover', '', true);
end $$;

-- A hand on the switch wins: whoever moves it, by whatever way, stops a plan that would move it again. Whoever sets what is set already means it
-- to stay, so that counts, too. A pin does not: it is beyond every percentage.
create or replace function switchyard._pause_cutover_on_routing_change() returns trigger
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(current_setting('switchyard.cutover', true), '') <> new.name then
    update switchyard.cutover c set state = 'held', by_operator = true,
           because = format('the routing was set to %s by hand', case new.mode when 'percent' then new.percent || ' percent' else new.mode end)
     where c.agent = new.id and c.state in ('running', 'held');
    if found then
      perform switchyard.note('cutover_paused', new.name, jsonb_build_object('because', 'an operator set the routing'));
    end if;
  end if;
  return null;
end $$;

do $$
begin
  -- Only where it is missing: to make it waits for whoever is changing an agent.
  if not exists (select from pg_trigger t where t.tgrelid = 'switchyard.agent'::regclass and t.tgname = 'cutover_routing_changed') then
    create trigger cutover_routing_changed after update of mode, percent, drain, beside on switchyard.agent for each row
      execute function switchyard._pause_cutover_on_routing_change();
  end if;
end $$;

-- Sets the routing of the plan's present step. With a limit on mismatch the agent goes on to decide in shadow what the old system owns.
create or replace function switchyard._cutover_steps(p_agent text, p_cutover switchyard.cutover, p_operator text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select switchyard._cutover_routes(p_agent, 'percent', p_cutover.percents[p_cutover.step], false,
    coalesce(p_cutover.max_mismatch, p_cutover.back_at_mismatch) is not null, p_operator)
$$;

-- Begins a plan with its first step.
create or replace function switchyard.cutover_start(
  p_agent text, p_percents int[], p_soaks_secs bigint[], p_at_least int, p_max_mismatch double precision, p_back_at_mismatch double precision,
  p_max_failures double precision, p_back_at_failures double precision, p_max_lag_secs double precision, p_back_at_lag_secs double precision,
  p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  c switchyard.cutover;
begin
  perform switchyard.agent_named(p_agent);
  select * into a from switchyard.agent x where x.name = p_agent for no key update;
  if exists (select 1 from switchyard.cutover x where x.agent = a.id and x.state in ('running', 'held')) then
    raise exception '% has a running cutover: resume it, or roll it back', p_agent using errcode = 'SY004';
  end if;
  if a.mode = 'full' or (a.mode = 'percent' and a.percent > p_percents[1]) then
    raise exception '% has % percent already, and a cutover begins with %', p_agent,
      case a.mode when 'full' then 100 else a.percent end, p_percents[1] using errcode = 'SY004';
  end if;
  if coalesce(p_max_mismatch, p_back_at_mismatch) is not null and not exists (select 1 from switchyard.compare_mapping x where x.agent = p_agent) then
    raise exception '% is compared with nothing, so its mismatch cannot be measured: set a mapping first (switchyard compare % --mapping FILE)',
      p_agent, p_agent using errcode = 'SY004';
  end if;
  insert into switchyard.cutover (agent, step_seq, percents, soaks_secs, at_least, max_mismatch, back_at_mismatch, max_failures, back_at_failures,
                                  max_lag_secs, back_at_lag_secs, was_mode, was_percent, by)
  values (a.id, switchyard.last_seq(), p_percents, p_soaks_secs, p_at_least, p_max_mismatch, p_back_at_mismatch, p_max_failures, p_back_at_failures,
          p_max_lag_secs, p_back_at_lag_secs, a.mode, a.percent, p_operator)
  returning * into c;
  perform switchyard.note_as(p_operator, 'cutover_started', p_agent, jsonb_strip_nulls(to_jsonb(c) - 'id' - 'agent' - 'state' - 'at' - 'by' - 'by_operator'));
  perform switchyard._cutover_steps(p_agent, c, p_operator);
  perform switchyard._cutover_ends(p_agent, c, p_operator);
end $$;

-- Done, where the step is the last one and has no soak: nothing more would come of watching it.
create or replace function switchyard._cutover_ends(p_agent text, p_cutover switchyard.cutover, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  if p_cutover.step = cardinality(p_cutover.percents) and p_cutover.soaks_secs[p_cutover.step] = 0 then
    update switchyard.cutover c set state = 'done', ended_at = clock_timestamp() where c.id = p_cutover.id;
    perform switchyard.note_as(p_operator, 'cutover_done', p_agent, jsonb_build_object('percent', p_cutover.percents[p_cutover.step]));
  end if;
end $$;

-- From the step that the caller has judged to the next, or to the end. False where the plan is not there, not running or elsewhere by now: then
-- nothing was done. `p_figures` are what it was judged by, for the audit.
create or replace function switchyard.cutover_advance(p_agent text, p_id bigint, p_step int, p_figures text, p_operator text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  c switchyard.cutover;
begin
  select * into a from switchyard.agent x where x.name = p_agent for no key update;
  select * into c from switchyard.cutover x where x.id = p_id and x.agent = a.id and x.state = 'running' and x.step = p_step for update;
  if not found then
    return false;
  end if;
  if c.step < cardinality(c.percents) then
    update switchyard.cutover x set step = x.step + 1, step_at = clock_timestamp(), step_seq = switchyard.last_seq()
     where x.id = c.id returning * into c;
    perform switchyard.note_as(p_operator, 'cutover_step', p_agent,
      jsonb_build_object('step', c.step, 'percent', c.percents[c.step], 'figures', p_figures::jsonb));
    perform switchyard._cutover_steps(p_agent, c, p_operator);
    perform switchyard._cutover_ends(p_agent, c, p_operator);
  else
    update switchyard.cutover x set state = 'done', ended_at = clock_timestamp() where x.id = c.id;
    perform switchyard.note_as(p_operator, 'cutover_done', p_agent,
      jsonb_build_object('percent', c.percents[c.step], 'figures', p_figures::jsonb));
  end if;
  return true;
end $$;

-- Stops the plan where it is: the routing stays.
create or replace function switchyard.cutover_pause(p_agent text, p_because text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  c switchyard.cutover := switchyard._cutover_of(p_agent, '{running,held}');
begin
  update switchyard.cutover x set state = 'held', by_operator = true, because = p_because where x.id = c.id;
  perform switchyard.note_as(p_operator, 'cutover_paused', p_agent, jsonb_build_object('because', p_because));
end $$;

-- The same by a limit, where it is still running in the step that the caller has judged.
create or replace function switchyard.cutover_pause_at(p_agent text, p_id bigint, p_step int, p_because text, p_figures text, p_operator text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.cutover x set state = 'held', because = p_because where x.id = p_id and x.state = 'running' and x.step = p_step;
  if found then
    perform switchyard.note_as(p_operator, 'cutover_paused', p_agent, jsonb_build_object('because', p_because, 'figures', p_figures::jsonb));
  end if;
  return found;
end $$;

-- Goes on with a plan that is held: its present step is set again, and soaks anew from now on.
create or replace function switchyard.cutover_resume(p_agent text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  c switchyard.cutover := switchyard._cutover_of(p_agent, '{held}');
begin
  update switchyard.cutover x set state = 'running', by_operator = false, because = null, step_at = clock_timestamp(), step_seq = switchyard.last_seq()
   where x.id = c.id returning * into c;
  perform switchyard.note_as(p_operator, 'cutover_goes_on', p_agent, jsonb_build_object('step', c.step, 'percent', c.percents[c.step]));
  perform switchyard._cutover_steps(p_agent, c, p_operator);
  perform switchyard._cutover_ends(p_agent, c, p_operator);
end $$;

-- Back to where nothing is the agent's, from any step, the end included: `shadow` where the plan came from there, else `off`. What the agent has not finished follows.
create or replace function switchyard._cutover_back(p_agent text, p_cutover switchyard.cutover, p_because text, p_figures text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.cutover x set state = 'rolled_back', because = p_because, ended_at = clock_timestamp() where x.id = p_cutover.id;
  perform switchyard.note_as(p_operator, 'cutover_rolled_back', p_agent, jsonb_strip_nulls(jsonb_build_object(
    'step', p_cutover.step, 'percent', p_cutover.percents[p_cutover.step], 'because', p_because, 'figures', p_figures::jsonb)));
  perform switchyard._cutover_routes(p_agent, case p_cutover.was_mode when 'shadow' then 'shadow' else 'off' end, 0, true, false, p_operator);
end $$;

create or replace function switchyard.cutover_roll_back(p_agent text, p_because text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchyard._cutover_back(p_agent, switchyard._cutover_of(p_agent, '{running,held,done}'), p_because, null, p_operator);
end $$;

-- The same by a limit: not where somebody has moved the plan since it was judged, or holds it.
create or replace function switchyard.cutover_roll_back_at(p_agent text, p_id bigint, p_step int, p_because text, p_figures text, p_operator text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  c switchyard.cutover;
begin
  select * into a from switchyard.agent x where x.name = p_agent for no key update;
  select * into c from switchyard.cutover x
   where x.id = p_id and x.agent = a.id and x.state in ('running', 'held') and not x.by_operator and x.step = p_step for update;
  if not found then
    return false;
  end if;
  perform switchyard._cutover_back(p_agent, c, p_because, p_figures, p_operator);
  return true;
end $$;

-- The figures of a plan's present step: of the live deliveries that are the agent's, those of events logged since the step began (the latest million
-- sequences at most), and those that were given to it since, brought back or from the old system, however old their events are (the latest million, too).
-- How many are settled at the first attempt, and how many have failed once or more in the step, or are parked. What the old system had failed is not
-- the agent's failure. The lag: for how long the oldest that is the agent's has waited, asked for or not, since it came, came due or was given to it; 0
-- where none waits. What was there before the step began, or belongs to a period that is over (all of `--from-beginning`), does not count.
create or replace function switchyard.cutover_figures(p_agent text, out settled bigint, out failed bigint, out lag_secs double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  a switchyard.agent := switchyard.agent_named(p_agent);
  c switchyard.cutover;
  begun timestamptz;
  since bigint;
begin
  select x.* into c from switchyard.cutover x where x.agent = a.id order by x.id desc limit 1;
  begun := coalesce(c.step_at, '-infinity');
  since := greatest(c.step_seq, switchyard.last_seq() - 1000000);
  select count(*) filter (where x.state in ('d', 's', 'e') and not x.has_failed), count(*) filter (where x.has_failed or x.state = 'p')
    into settled, failed
    from (select d.state, d.attempts > 0 or d.redrives > 0 as has_failed
            from switchyard.delivery d
           where d.agent = a.id and d.run = 0 and d.owner = 'n' and d.seq > since and not d.touched
          union all
          -- What an older one had failed before was another step's, or nobody's.
          select g.state, g.attempts > 0 or exists (
                   select 1 from switchyard.event_log l join switchyard.failure f on f.event_id = l.event_id
                    where l.seq = g.seq and f.agent = p_agent and f.run = 0 and f.at >= begun)
            from (select d.state, d.attempts, d.seq from switchyard.delivery d
                   where d.agent = a.id and d.run = 0 and d.owner = 'n' and d.seq <= since and d.given_at >= begun and not d.touched
                   order by d.given_at desc limit 1000000) g) x;

  select coalesce(greatest(0, extract(epoch from clock_timestamp() - min(x.since))), 0) into lag_secs
    from (select w.since
            from switchyard.delivery d join switchyard.event_log e on e.seq = d.seq
            cross join lateral (select greatest(coalesce(d.given_at, e.logged_at), e.due_at) as since) w
           where d.agent = a.id and d.run = 0 and d.owner = 'n' and d.state in ('a', 'f') and coalesce(e.due_at <= clock_timestamp(), true)
             and w.since >= begun
             and (d.given_at is not null or exists (
                  select 1 from switchyard.subscription s where s.agent = a.id and s.type = e.type and s.until_seq is null and e.seq >= s.from_seq))
          union all
          (select greatest(e.logged_at, e.due_at)
             from switchyard.event_log e
             join switchyard.subscription s on s.agent = a.id and s.type = e.type and s.until_seq is null and e.seq > s.checked and e.seq >= s.from_seq
            where e.seq > (select min(y.checked) from switchyard.subscription y where y.agent = a.id and y.until_seq is null)
              and coalesce(e.due_at <= clock_timestamp(), true)
              and greatest(e.logged_at, e.due_at) >= begun
              and switchyard.owner_of(a, e.aggregate_id, e.project_id) = 'n'
              and not exists (select 1 from switchyard.delivery d where d.agent = a.id and d.run = 0 and d.seq = e.seq)
            order by e.seq limit 1)) x;
end $$;
