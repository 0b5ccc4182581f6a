-- Calls that are safe to send twice. What is kept of one is closed by the caller's token, which is not in here.
create table idempotency_keys (
  user_id    bigint not null references users on delete cascade,
  key        text not null,
  request    bytea not null,                   -- HMAC of method, path and body, keyed by the caller's token
  status     int,                              -- null while it is under way
  location   text,
  answer     bytea,                            -- AES-GCM by the same token: nonce, tag, text
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);

-- The lists of the API, each read from behind the last one shown.
drop index domains_app;
create index domains_app on domains (app_uid, hostname);

-- Which apps have anything that serves, asked for all of them every few seconds.
create index deployments_live on deployments (app_uid) where state = 'live';

-- What a user has is few of all apps: by Postgres' own guess of 1000 it would rather read through all of them.
alter function apps_of(bigint) rows 20;
