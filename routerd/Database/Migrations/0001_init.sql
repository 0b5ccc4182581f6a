create table users (
  id            bigint generated always as identity primary key,
  email         text not null,
  password_hash text not null,
  role          text not null check (role in ('admin', 'member')),
  created_at    timestamptz not null default now()
);
create unique index users_email on users (lower(email));

create table tokens (
  id           bigint generated always as identity primary key,
  user_id      bigint not null references users on delete cascade,
  name         text not null,
  hash         bytea not null unique,          -- SHA-256 of the token; the token itself is shown once and kept nowhere
  created_at   timestamptz not null default now(),
  last_used_at timestamptz
);

create table servers (
  name       text primary key,
  address    text not null,                    -- of its droidd: unix:/path or https://host:port
  upstream   text not null,                    -- of its local nginx: unix:/path or host:port
  created_at timestamptz not null default now()
);

create table apps (
  uid        text primary key,
  name       text not null unique,
  owner_id   bigint references users on delete set null,
  generation bigint not null default 1,
  desired    text not null default 'running' check (desired in ('running', 'stopped')),
  settings   jsonb not null default '{}',
  env        jsonb not null default '{}',
  created_at timestamptz not null default now()
);

create table domains (
  hostname   text primary key,
  app_uid    text not null references apps on delete cascade,
  created_at timestamptz not null default now()
);
create index domains_app on domains (app_uid);

create table placements (
  app_uid text not null references apps on delete cascade,
  server  text not null references servers,
  primary key (app_uid, server)
);
create index placements_server on placements (server);

create table deployments (
  app_uid     text not null references apps on delete cascade,
  number      int not null,
  source      jsonb not null,
  builder     text not null,
  by_admin    boolean not null,
  state       text not null default 'queued',
  error       text,
  commit_id   text,
  cancel      boolean not null default false,  -- asked for by the owner; the droid-server is told until it has ended
  created_at  timestamptz not null default now(),
  finished_at timestamptz,
  primary key (app_uid, number)
);
create unique index deployments_one_at_a_time on deployments (app_uid) where finished_at is null;

create table deployment_logs (
  app_uid text not null,
  number  int not null,
  log     text not null,
  primary key (app_uid, number),
  foreign key (app_uid, number) references deployments on delete cascade
);

-- Droids whose app was destroyed while its droid-server could not be told.
create table removals (
  app_uid text not null,
  server  text not null references servers on delete cascade,
  primary key (app_uid, server)
);

create table route_changes (
  version  bigint primary key,
  hostname text not null
);

-- The newest version, in its only row. Its row lock is held to the end of the transaction: versions become visible in their
-- order, so that a lower one can't commit after a reader has seen a higher one, and without gaps.
create table route_version (version bigint not null);
insert into route_version values (0);

create function route_changed(host text) returns void language plpgsql as $$
declare
  next bigint;
begin
  update route_version set version = version + 1 returning version into next;
  insert into route_changes (version, hostname) values (next, host);
  perform pg_notify('appoxy_routes', '');
end $$;

create function domain_changed() returns trigger language plpgsql as $$
begin
  if tg_op <> 'INSERT' then perform route_changed(old.hostname); end if;
  if tg_op <> 'DELETE' and (tg_op = 'INSERT' or new.hostname <> old.hostname) then perform route_changed(new.hostname); end if;
  return null;
end $$;
create trigger domain_changed after insert or update or delete on domains for each row execute function domain_changed();

create function placement_changed() returns trigger language plpgsql as $$
begin
  perform route_changed(hostname) from domains
    where app_uid = case when tg_op = 'DELETE' then old.app_uid else new.app_uid end order by hostname;
  return null;
end $$;
create trigger placement_changed after insert or update or delete on placements for each row execute function placement_changed();

create view routes as
  select d.hostname, d.app_uid || ' ' || string_agg(p.server, ',' order by p.server) || ' -' as target
  from domains d join placements p using (app_uid)
  group by d.hostname, d.app_uid;
