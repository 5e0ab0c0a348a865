-- Starts the event log. The setup applies this file once, after the tables and the functions and in a transaction of its own, because the
-- application's inserts wait from `create trigger` to the commit.
select switchyard.ensure_partitions();

-- `enable always` fires the trigger also for rows that logical replication applies. An ordinary trigger does not fire for those.
do $$
begin
  execute format('create trigger switchyard_log after insert on %s for each row execute function switchyard.log_event()', switchyard._events());
  execute format('alter table %s enable always trigger switchyard_log', switchyard._events());
end $$;

-- Runs when a transaction that called `switchyard.claim` commits.
create constraint trigger claimed after insert on switchyard.claiming
  deferrable initially deferred for each row execute function switchyard._claimed();

insert into switchyard.logging (since) values (clock_timestamp());
