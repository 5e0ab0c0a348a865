-- The application's tables that this agent reads and writes. Apply it as often as you like, before the agent is deployed.

-- What a model has to beat. Written by the people who own the registry; the agent only reads it.
create table if not exists model_baselines (
  token_symbol text not null,
  metric text not null,
  baseline double precision not null,
  higher_is_better boolean not null,
  primary key (token_symbol, metric)
);

-- The latest judgement of each model by each metric.
create table if not exists model_validations (
  model_id text not null,
  metric text not null,
  token_symbol text not null,
  value double precision not null,
  baseline double precision not null,
  passed boolean not null,
  validated_at timestamptz not null default now(),
  primary key (model_id, metric)
);
