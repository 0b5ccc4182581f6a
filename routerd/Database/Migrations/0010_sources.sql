-- Webhooks for pushes to git hosts. The secret is kept as it is, since a signature can be checked only with it; so are keys and
-- passwords below, which git needs. Whoever reads this database reads the apps' env as well.
create table webhooks (
  id          text primary key,
  app_uid     text not null references apps on delete cascade,
  created_by  bigint references users on delete set null,  -- deploys with this user's rights; null: deploys as a member
  url         text not null,                   -- the repository
  branch      text not null,
  secret      text not null,
  created_at  timestamptz not null default now(),
  last_at     timestamptz,
  last_result text,
  pending     text                             -- a commit that was pushed and is to be deployed as soon as the app is free
);
create index webhooks_app on webhooks (app_uid);
create index webhooks_pending on webhooks (app_uid) where pending is not null;

create table webhook_deliveries (
  webhook_id text not null references webhooks on delete cascade,
  delivery   text not null,
  at         timestamptz not null default now(),
  primary key (webhook_id, delivery)
);
create index webhook_deliveries_at on webhook_deliveries (at);

create table deploy_keys (
  app_uid     text primary key references apps on delete cascade,
  private_key text not null,
  public_key  text not null,
  created_at  timestamptz not null default now()
);

create table git_passwords (
  app_uid    text not null references apps on delete cascade,
  host       text not null,
  username   text not null,
  password   text not null,
  created_at timestamptz not null default now(),
  primary key (app_uid, host)
);
