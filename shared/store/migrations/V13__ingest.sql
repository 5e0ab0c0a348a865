-- The way in for publishers without a database.

-- Appends events that came as messages, each for itself: one that the table refuses leaves the others alone. Answers appended,
-- duplicate (the same id with the same content is there), conflict (the same id with other content), or refused with a reason and words.
-- `sequence` is the log's to give; a timestamp that the publisher left out is filled in, and counts as no difference.
create function switchyard.ingest(
  p_ids uuid[], p_types text[], p_aggregate_types text[], p_aggregate_ids text[], p_payloads text[], p_versions int[], p_metadata text[])
returns table (ord bigint, answer text, reason text, error text)
language plpgsql volatile set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  given record;
  aggregate text;
  body jsonb;
  about jsonb;
begin
  perform switchyard._see_every_event();
  for given in
    select u.* from unnest(p_ids, p_types, p_aggregate_types, p_aggregate_ids, p_payloads, p_versions, p_metadata)
             with ordinality u (id, type, aggregate_type, aggregate_id, payload, version, metadata, ord)
     order by u.ord
  loop
    ord := given.ord;
    answer := null;
    reason := null;
    error := null;
    begin
      aggregate := switchyard._aggregate_id(given.aggregate_id);
      body := given.payload::jsonb;
      about := given.metadata::jsonb;
      if jsonb_typeof(about) is distinct from 'object' then
        raise exception 'metadata is no object' using errcode = 'invalid_parameter_value';
      end if;
      about := about - 'sequence';
      if switchyard._insert_events(array[given.id], array[given.type], array[given.aggregate_type], array[aggregate], array[body],
           array[given.version], array[about]) = 1 then
        answer := 'appended';
      else
        -- Whoever was first has committed by now: the insert has waited for that.
        select case when (e.type, e.aggregate_type, e.aggregate_id, e.payload::jsonb, e.version,
                          e.metadata - 'sequence' - case when about ? 'timestamp' then '' else 'timestamp' end)
                         is not distinct from (given.type, given.aggregate_type, aggregate, body, given.version, about)
                    then 'duplicate' else 'conflict' end into answer
          from switchyard.event e where e.id = given.id;
        -- Deleted in between: what was there cannot be compared any more.
        answer := coalesce(answer, 'conflict');
      end if;
    exception
      when untranslatable_character then
        answer := 'refused';
        reason := 'nul';
        error := 'an escaped NUL (\u0000), which the table cannot hold';
      when statement_too_complex then
        answer := 'refused';
        reason := 'too_deep';
        error := 'nested too deep for the table';
      when program_limit_exceeded then
        answer := 'refused';
        reason := 'oversized';
        error := left(sqlerrm, 500);
      when data_exception then
        answer := 'refused';
        reason := 'malformed';
        error := left(sqlerrm, 500);
      when others then
        -- Nobody's fault in the batch: the connection or a standby, a lock, resources, an operator, files, a missing right, a trigger that names what is gone. The same again is right.
        if left(sqlstate, 2) in ('08', '25', '40', '42', '53', '55', '57', '58', 'XX') then
          raise;
        end if;
        answer := 'refused';
        reason := 'refused_by_the_table';
        error := left(sqlerrm, 500);
    end;
    return next;
  end loop;
end $$;
