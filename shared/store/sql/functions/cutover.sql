-- Cutover plans: an agent's percentage grows step by step while the figures stay inside the limits. The steward decides about each step. The
-- functions here keep the plan, and change it together with the routing in one transaction.

-- Returns the agent's newest plan and locks it, after the agent's row, which is the order of a change of routing. Raises SY004 if the plan is in
-- none of these states.
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

-- Sets the routing on behalf of a plan. The setting `switchyard.cutover` tells the trigger below.
create or replace function switchyard._cutover_routes(p_agent text, p_mode text, p_percent int, p_drain boolean, p_beside boolean, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('switchyard.cutover', p_agent, true);
  perform switchyard.set_routing(p_agent, p_mode, p_percent, p_drain, p_beside, p_operator);
  perform set_config('switchyard.cutover', '', true);
end $$;

-- Pauses a plan when anything else sets the routing, so that the plan does not change it again. Setting the present value counts too, because the
-- operator wants it to stay. A pin does not count, because it applies at every percentage.
create or replace function switchyard._pause_cutover_on_routing_change() returns trigger
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(current_setting('switchyard.cutover', true), '') <> new.name then
    update switchyard.cutover c set state = 'paused', by_operator = true,
           because = format('the routing was set to %s by an operator', case new.mode when 'percent' then new.percent || ' percent' else new.mode end)
     where c.agent = new.id and c.state in ('running', 'paused');
    if found then
      perform switchyard.note('cutover_paused', new.name, jsonb_build_object('because', 'an operator set the routing'));
    end if;
  end if;
  return null;
end $$;

do $$
begin
  -- Only if it is missing, because `create trigger` waits for every transaction that has changed an agent.
  if not exists (select from pg_trigger t where t.tgrelid = 'switchyard.agent'::regclass and t.tgname = 'cutover_routing_changed') then
    create trigger cutover_routing_changed after update of mode, percent, drain, beside on switchyard.agent for each row
      execute function switchyard._pause_cutover_on_routing_change();
  end if;
end $$;

-- Sets the routing of the plan's present step. With a limit on mismatch, the agent also decides in shadow mode about what the old system owns.
create or replace function switchyard._cutover_steps(p_agent text, p_cutover switchyard.cutover, p_operator text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select switchyard._cutover_routes(p_agent, 'percent', p_cutover.percents[p_cutover.step], false,
    coalesce(p_cutover.max_mismatch, p_cutover.back_at_mismatch) is not null, p_operator)
$$;

-- Starts a plan with its first step. Raises SY004 if the agent has an unfinished plan, is above the first step already, or needs a mapping for a
-- limit on mismatch.
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
  if exists (select 1 from switchyard.cutover x where x.agent = a.id and x.state in ('running', 'paused')) then
    raise exception '% has a cutover that is not finished: resume it, or roll it back', p_agent using errcode = 'SY004';
  end if;
  if a.mode = 'full' or (a.mode = 'percent' and a.percent > p_percents[1]) then
    raise exception '% is at % percent already: begin the cutover at that percentage or above, not at %', p_agent,
      case a.mode when 'full' then 100 else a.percent end, p_percents[1] using errcode = 'SY004';
  end if;
  if coalesce(p_max_mismatch, p_back_at_mismatch) is not null and not exists (select 1 from switchyard.compare_mapping x where x.agent = a.id) then
    raise exception '% has no mapping for a comparison, so its mismatch cannot be measured: set one first (switchyard compare % --mapping FILE)',
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

-- Ends the plan if the step is the last one and has no soak.
create or replace function switchyard._cutover_ends(p_agent text, p_cutover switchyard.cutover, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  if p_cutover.step = cardinality(p_cutover.percents) and p_cutover.soaks_secs[p_cutover.step] = 0 then
    update switchyard.cutover c set state = 'done', ended_at = clock_timestamp() where c.id = p_cutover.id;
    perform switchyard.note_as(p_operator, 'cutover_done', p_agent, jsonb_build_object('percent', p_cutover.percents[p_cutover.step]));
  end if;
end $$;

-- Moves the plan from the step that the caller has judged to the next one, or ends it. Returns false, and changes nothing, if the plan is not
-- running in that step. `p_figures` go to the audit.
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

-- Holds the plan on an operator's order. The routing stays.
create or replace function switchyard.cutover_pause(p_agent text, p_because text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  c switchyard.cutover := switchyard._cutover_of(p_agent, '{running,paused}');
begin
  update switchyard.cutover x set state = 'paused', by_operator = true, because = p_because where x.id = c.id;
  perform switchyard.note_as(p_operator, 'cutover_paused', p_agent, jsonb_build_object('because', p_because));
end $$;

-- Holds the plan at a limit. Returns false, and changes nothing, if the plan is not running in the step that the caller has judged.
create or replace function switchyard.cutover_pause_at(p_agent text, p_id bigint, p_step int, p_because text, p_figures text, p_operator text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.cutover x set state = 'paused', because = p_because where x.id = p_id and x.state = 'running' and x.step = p_step;
  if found then
    perform switchyard.note_as(p_operator, 'cutover_paused', p_agent, jsonb_build_object('because', p_because, 'figures', p_figures::jsonb));
  end if;
  return found;
end $$;

-- Resumes a plan that is paused. Its present step is set again, and its soak starts again.
create or replace function switchyard.cutover_resume(p_agent text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  c switchyard.cutover := switchyard._cutover_of(p_agent, '{paused}');
begin
  update switchyard.cutover x set state = 'running', by_operator = false, because = null, step_at = clock_timestamp(), step_seq = switchyard.last_seq()
   where x.id = c.id returning * into c;
  perform switchyard.note_as(p_operator, 'cutover_resumed', p_agent, jsonb_build_object('step', c.step, 'percent', c.percents[c.step]));
  perform switchyard._cutover_steps(p_agent, c, p_operator);
  perform switchyard._cutover_ends(p_agent, c, p_operator);
end $$;

-- Rolls a plan back from any step, also after its end, so that the agent owns nothing: to `shadow` if the plan started there, otherwise to `off`.
-- The agent's unfinished deliveries follow.
create or replace function switchyard._cutover_back(p_agent text, p_cutover switchyard.cutover, p_because text, p_figures text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  update switchyard.cutover x set state = 'rolled_back', because = p_because, ended_at = clock_timestamp() where x.id = p_cutover.id;
  perform switchyard.note_as(p_operator, 'cutover_rolled_back', p_agent, jsonb_strip_nulls(jsonb_build_object(
    'step', p_cutover.step, 'percent', p_cutover.percents[p_cutover.step], 'because', p_because, 'figures', p_figures::jsonb)));
  perform switchyard._cutover_routes(p_agent, case p_cutover.was_mode when 'shadow' then 'shadow' else 'off' end, 0, true, false, p_operator);
end $$;

-- Rolls the plan back on an operator's order.
create or replace function switchyard.cutover_roll_back(p_agent text, p_because text, p_operator text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
  perform switchyard._cutover_back(p_agent, switchyard._cutover_of(p_agent, '{running,paused,done}'), p_because, null, p_operator);
end $$;

-- Rolls the plan back at a limit. Returns false, and changes nothing, if the plan has left the step that the caller has judged, or an operator has paused
-- it.
create or replace function switchyard.cutover_roll_back_at(p_agent text, p_id bigint, p_step int, p_because text, p_figures text, p_operator text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  a switchyard.agent;
  c switchyard.cutover;
begin
  select * into a from switchyard.agent x where x.name = p_agent for no key update;
  select * into c from switchyard.cutover x
   where x.id = p_id and x.agent = a.id and x.state in ('running', 'paused') and not x.by_operator and x.step = p_step for update;
  if not found then
    return false;
  end if;
  perform switchyard._cutover_back(p_agent, c, p_because, p_figures, p_operator);
  return true;
end $$;

-- Returns the figures of a plan's present step. They count live deliveries of the agent for events that were logged since the step began, and
-- deliveries that came to the agent since then, from the old system or sent back; of each at most the latest million.
--   settled   settled at the first attempt.
--   failed    failed at least once in the step, or parked. Failures of the old system do not count.
--   lag_secs  how long the oldest unfinished one has waited, with or without a row: since it was logged, was due, or came to the agent. 0 if none
--             waits. It leaves out what was there before the step, and events of an ended period (`--from-beginning`).
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
          -- For an older event, only failures since the step began count.
          select g.state, g.attempts > 0 or exists (
                   select 1 from switchyard.event_log l join switchyard.failure f on f.event_id = l.event_id
                    where l.seq = g.seq and f.component = p_agent and f.run = 0 and f.at >= begun)
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

-- An agent's newest plan; of all agents, for null, the plans that are running or held.
create or replace function switchyard.cutovers(p_agent text)
returns table (
  id bigint, agent text, percents int[], soaks_secs bigint[], at_least int, max_mismatch double precision, back_at_mismatch double precision,
  max_failures double precision, back_at_failures double precision, max_lag_secs double precision, back_at_lag_secs double precision, state text,
  by_operator boolean, because text, step int, in_step_secs double precision, step_at text, by text, at text, ended_at text, compared_from text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  newest bigint;
begin
  if p_agent is not null then
    newest := (select max(c.id) from switchyard.cutover c where c.agent = (switchyard.agent_named(p_agent)).id);
  end if;
  return query
  select c.id, a.name, c.percents, c.soaks_secs, c.at_least, c.max_mismatch, c.back_at_mismatch, c.max_failures,
         c.back_at_failures, c.max_lag_secs, c.back_at_lag_secs, c.state, c.by_operator, c.because, c.step,
         extract(epoch from clock_timestamp() - c.step_at)::float8, switchyard.rfc3339(c.step_at), c.by, switchyard.rfc3339(c.at),
         switchyard.rfc3339(c.ended_at), switchyard.rfc3339(date_trunc('minute', c.step_at, 'UTC') + interval '1 minute')
    from switchyard.cutover c join switchyard.agent a on a.id = c.agent
   where case when p_agent is null then c.state in ('running', 'paused') else c.id = newest end
   order by a.name;
end $$;
