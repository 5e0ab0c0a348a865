-- From here on events are logged. Applied once, after the tables and the functions, and in a transaction of its own: from the trigger to the
-- commit the application's writers wait.
select switchyard.ensure_partitions();

-- Always: it fires also where rows arrive by replication, which ordinary triggers sleep through.
do $$
begin
  execute format('create trigger switchyard_log after insert on %s for each row execute function switchyard.log_event()', switchyard._events());
  execute format('alter table %s enable always trigger switchyard_log', switchyard._events());
end $$;

-- Fires at the commit of a claim.
create constraint trigger claimed after insert on switchyard.claiming
  deferrable initially deferred for each row execute function switchyard._claimed();

insert into switchyard.logging (since) values (clock_timestamp());
