-- Payloads: edited, and read for claim checks. Also the chain of an event.

-- Adds a revision of an event's payload and returns its number. Raises SY004 if the table cannot store the payload or the event is not logged.
create or replace function switchyard.revise(p_event uuid, p_payload text, p_operator text, p_reason text) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  edited jsonb;
  n int;
begin
  begin
    edited := p_payload::jsonb;
  exception
    when untranslatable_character then
      raise exception 'the payload contains an escaped NUL (\u0000), which the table cannot store: remove it' using errcode = 'SY004';
    when data_exception or program_limit_exceeded then
      raise exception 'the payload is not JSON that the table can store: correct its syntax, or make it smaller or flatter' using errcode = 'SY004';
  end;
  perform switchyard._see_every_event();
  -- Concurrent edits run one after the other. The lock is on the event log's row, because the event's own row is the application's to lock.
  perform 1 from switchyard.event_log l join switchyard.event e on e.id = l.event_id where l.event_id = p_event for no key update of l;
  if not found then
    raise exception 'the event log has no event with the id %: check the id', p_event using errcode = 'SY004';
  end if;
  insert into switchyard.revision (event_id, revision, payload, by, reason)
  select p_event, coalesce(max(r.revision), 0) + 1, edited, p_operator, p_reason from switchyard.revision r where r.event_id = p_event
  returning revision into n;
  perform switchyard.note_as(p_operator, 'revise', null, jsonb_build_object('event_id', p_event, 'revision', n, 'reason', p_reason));
  return n;
end $$;

-- Adds a revision and sends the event's parked deliveries back, both or neither. The rows are locked first, so that they are still parked when the
-- new payload is written, and no agent has read the old one since. Raises SY004 if no delivery of the event is parked for the agent.
create or replace function switchyard.revise_and_redrive(
  p_agent text, p_event uuid, p_payload text, p_operator text, p_reason text, out revision int, out seq bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  a smallint := switchyard._agent_id(p_agent);
  at_seq bigint := (select l.seq from switchyard.event_log l where l.event_id = p_event);
  runs int[];
begin
  select array_agg(x.run) into runs
    from (select d.run from switchyard.delivery d
           where d.agent = a and d.seq = at_seq and d.owner = 'n' and d.state = 'p' order by d.run for update) x;
  if runs is null then
    raise exception 'event % is not parked for %, so nothing was changed: edit only parked deliveries', p_event, p_agent using errcode = 'SY004';
  end if;
  revision := switchyard.revise(p_event, p_payload, p_operator, p_reason);
  seq := at_seq;
  perform switchyard._send_back(p_agent, array_fill(at_seq, array[cardinality(runs)]), runs, interval '0', p_reason);
  perform switchyard.note_as(p_operator, 'redrive', p_agent, jsonb_build_object(
    'redriven', cardinality(runs), 'reason', p_reason, 'defer_secs', 0, 'event_id', p_event, 'revision', revision));
end $$;

-- Returns payloads for claim checks: the newest revision, as `payload::text` prints it. It returns only the size of a payload that is larger than
-- `p_max_bytes`, alone or together with those before it.
create or replace function switchyard.payloads(p_events uuid[], p_max_bytes bigint) returns table (ord bigint, payload text, bytes bigint, revision int)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
begin
  perform switchyard._see_every_event();
  return query
  select x.ord, case when sum(octet_length(x.text)) over (order by x.ord) <= p_max_bytes then x.text end, x.bytes, x.revision
    from (
  select u.ord, case when octet_length(p.text) <= p_max_bytes then p.text end as text,
         case when e.id is not null then coalesce(octet_length(p.text), 2147483647) end::bigint as bytes, coalesce(v.revision, 0) as revision
    from unnest(p_events) with ordinality u (event_id, ord)
    left join switchyard.event e on e.id = u.event_id
    left join lateral (select r.revision, r.payload from switchyard.revision r where r.event_id = e.id order by r.revision desc limit 1) v on true
    cross join lateral (select case when v.payload is not null then switchyard._printed(v.payload)
                                    when e.payload is not null then switchyard._printed(e.payload)
                                    when e.id is not null then 'null' end as text offset 0) p
    ) x
   order by x.ord;
end $$;

-- Returns the chain of an event: its first cause first, the event itself last, at most `p_at_most` events. It ends where a cause is missing, and at
-- a circle, which a publisher's metadata can contain.
create or replace function switchyard.chain_of(p_event uuid, p_at_most bigint)
returns table (nth bigint, id uuid, type text, aggregate_id text, hops int, at text)
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  seen uuid[] := '{}';
  next uuid := p_event;
  cause text;
begin
  perform switchyard._see_every_event();
  while next is not null and not next = any (seen) and cardinality(seen) < p_at_most loop
    select e.metadata ->> 'causation_id' into cause from switchyard.event e where e.id = next;
    exit when not found;
    seen := seen || next;
    next := case when cause ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then cause::uuid end;
  end loop;
  return query
  select cardinality(seen) - u.ord, e.id, coalesce(e.type::text, ''), coalesce(e.aggregate_id::text, ''),
         case when e.metadata ->> 'hops' ~ '^[0-9]{1,9}$' then (e.metadata ->> 'hops')::int else 0 end,
         coalesce(switchyard.rfc3339(e.created_at), e.metadata ->> 'timestamp', '')
    from unnest(seen) with ordinality u (id, ord) join switchyard.event e on e.id = u.id;
end $$;
