-- What a live view shows: each event, what every agent made of it, and what it caused.
create function switchyard.stream(p_after bigint, p_at_most int)
returns table (seq bigint, id uuid, type text, aggregate_type text, aggregate_id text, project_id text, created_at text, causation_id text,
               correlation_id text, published boolean, deliveries json, children json)
language plpgsql volatile set search_path = pg_catalog as $$
#variable_conflict use_column
begin
  return query
  select l.seq, l.event_id, l.type, coalesce(e.aggregate_type, ''), coalesce(l.aggregate_id, ''), l.project_id,
         switchyard.rfc3339(e.created_at), e.metadata ->> 'causation_id', e.metadata ->> 'correlation_id',
         not exists (select 1 from switchyard.outbox o where o.seq = l.seq),
         (select coalesce(json_agg(json_build_object('agent', a.name, 'owner', coalesce(d.owner, w.owner), 'state', d.state,
                   'attempts', coalesce(d.attempts, 0), 'run', coalesce(d.run, 0), 'reason', d.reason, 'at', switchyard.rfc3339(d.at))
                   order by a.name, d.run), '[]')
            from switchyard.subscription s
            join switchyard.agent a on a.id = s.agent
            left join switchyard.delivery d on d.agent = a.id and d.seq = l.seq
            cross join lateral (select switchyard.owner_of(a.mode, a.percent, a.routed_by, l.aggregate_id, l.project_id) as owner) w
           where s.type = l.type and l.seq >= s.from_seq and (s.until_seq is null or l.seq <= s.until_seq)),
         -- An effect follows its cause closely: a window keeps this cheap without an index on the application's table.
         (select coalesce(json_agg(json_build_object('seq', k.seq, 'id', k.event_id, 'type', k.type) order by k.seq), '[]')
            from switchyard.event_log k join public.events c on c.id = k.event_id
           where k.seq > l.seq and k.seq <= l.seq + 2000 and c.metadata ->> 'causation_id' = l.event_id::text)
    from (select * from switchyard.event_log x where x.seq > p_after order by x.seq limit p_at_most) l
    left join public.events e on e.id = l.event_id
   order by l.seq;
end $$;
