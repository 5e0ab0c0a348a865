-- What a live view shows: each event, what every agent made of it, and what it caused.
create function switchyard.stream(p_after bigint, p_at_most int)
returns table (seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, project_id text, created_at text, causation_id text,
               correlation_id text, published boolean, deliveries json, children json)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select * from switchyard.event_log x where x.seq > p_after order by x.seq limit p_at_most),
  -- An effect follows its cause closely: a window keeps this cheap without an index on the application's table. Read once for
  -- the page, event by event: asked for each cause, the planner reads the whole table each time.
  caused as materialized (
    select k.seq, k.event_id, k.type, c.cause
      from switchyard.event_log k
      cross join lateral (select e.metadata ->> 'causation_id' as cause from switchyard.event e where e.id = k.event_id offset 0) c
     where k.seq > p_after and k.seq <= (select max(p.seq) + 2000 from page p) and c.cause is not null)
  select l.seq, l.event_id, l.type, coalesce(e.aggregate_type, ''), coalesce(l.aggregate_id, ''), l.project_id,
         switchyard.rfc3339(e.created_at), e.metadata ->> 'causation_id', e.metadata ->> 'correlation_id',
         not exists (select 1 from switchyard.outbox o where o.seq = l.seq),
         (select coalesce(json_agg(json_build_object('agent', a.name, 'owner', coalesce(d.owner, w.owner), 'state', d.state,
                   'attempts', coalesce(d.attempts, 0), 'run', coalesce(d.run, 0), 'reason', d.reason, 'at', switchyard.rfc3339(d.at))
                   order by a.name, d.run), '[]')
            from switchyard.subscription s
            join switchyard.agent a on a.id = s.agent
            left join lateral (select * from switchyard.delivery x where x.agent = a.id and x.seq = l.seq offset 0) d on true
            cross join lateral (select switchyard.owner_of(a, l.aggregate_id, l.project_id) as owner) w
           where s.type = l.type and l.seq >= s.from_seq and (s.until_seq is null or l.seq <= s.until_seq)),
         (select coalesce(json_agg(json_build_object('seq', k.seq, 'id', k.event_id, 'type', k.type) order by k.seq), '[]')
            from caused k where k.cause = l.event_id::text and k.seq > l.seq and k.seq <= l.seq + 2000)
    from page l
    left join lateral (select * from switchyard.event v where v.id = l.event_id offset 0) e on true
   order by l.seq;
end $$;
