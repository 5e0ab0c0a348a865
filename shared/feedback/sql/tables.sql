-- The sample application: the tables of a product-feedback platform, as far as Switchyard's agents and triggers know them. It may be applied again.
create table if not exists posts (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null,
  user_id uuid,
  title text not null,
  description text,
  vote_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists posts_project_idx on posts (project_id, created_at desc);

create table if not exists votes (
  id uuid primary key default gen_random_uuid(),
  post_id uuid not null references posts on delete cascade,
  project_id uuid not null,
  user_id uuid,
  created_at timestamptz not null default now()
);

create table if not exists comments (
  id uuid primary key default gen_random_uuid(),
  post_id uuid not null references posts on delete cascade,
  project_id uuid not null,
  user_id uuid,
  content text not null,
  created_at timestamptz not null default now()
);

create table if not exists sentiment_analysis (
  post_id uuid primary key references posts on delete cascade,
  project_id uuid,
  score double precision not null,
  label text not null,
  confidence double precision not null,
  analyzed_at timestamptz not null default now()
);

create table if not exists feedback_duplicates (
  post_id uuid not null references posts on delete cascade,
  duplicate_of uuid not null references posts on delete cascade,
  similarity double precision not null,
  found_at timestamptz not null default now(),
  primary key (post_id, duplicate_of)
);

create table if not exists themes (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null,
  name text not null,
  feedback_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists specs (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null,
  user_id uuid,
  title text not null,
  content text,
  status text not null default 'draft',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists spec_links (
  id uuid primary key default gen_random_uuid(),
  spec_id uuid not null references specs on delete cascade,
  post_id uuid not null references posts on delete cascade,
  project_id uuid,
  created_at timestamptz not null default now()
);
