-- Who may do what: users who are invited and can be disabled, tokens with a scope and an end, collaborators, teams, quotas. And who
-- did what. Each role includes those before it.
create type app_role as enum ('view', 'deploy', 'manage', 'owner');

alter table users
  add column disabled_at timestamptz,
  add column quota jsonb not null default '{}';  -- only what an admin has set; the rest is as routerd.json says

alter table tokens
  add column kind       text not null default 'token' check (kind in ('token', 'sign-in', 'session')),
  add column scope      text check (scope in ('read', 'deploy', 'write', 'admin')),  -- null: all that its user may
  add column app_uid    text references apps on delete cascade,                      -- null: all apps of its user
  add column expires_at timestamptz,
  add column renewed    interval;             -- how long it lasts from each use on; null: what expires_at says
create index tokens_user on tokens (user_id);

-- By which an invited user sets the first password, or one who forgot it a new one.
create table invitations (
  user_id    bigint primary key references users on delete cascade,
  hash       bytea not null unique,           -- SHA-256 of what was handed out
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);

create table teams (
  id         bigint generated always as identity primary key,
  name       text not null unique,
  quota      jsonb not null default '{}',
  created_at timestamptz not null default now()
);

create table team_members (
  team_id bigint not null references teams on delete cascade,
  user_id bigint not null references users on delete cascade,
  role    app_role not null,                  -- in all apps of the team; an owner also says who is a member
  primary key (team_id, user_id)
);
create index team_members_user on team_members (user_id);

alter table apps
  add column team_id bigint references teams,
  add constraint apps_one_owner check (owner_id is null or team_id is null);
create index apps_owner on apps (owner_id);
create index apps_team on apps (team_id);

create table collaborators (
  app_uid    text not null references apps on delete cascade,
  user_id    bigint not null references users on delete cascade,
  role       app_role not null,
  created_at timestamptz not null default now(),
  primary key (app_uid, user_id)
);
create index collaborators_user on collaborators (user_id);

-- The role that a user has in an app; null where the app is none of theirs.
create function role_in_app(app text, owner bigint, team bigint, caller bigint) returns app_role language sql stable as $$
  select greatest(case when owner = caller then 'owner'::app_role end,
    (select role from collaborators where app_uid = app and user_id = caller),
    (select role from team_members where team_id = team and user_id = caller))
$$;

-- The apps that role_in_app finds a role in, by indexes.
create function apps_of(caller bigint) returns setof text language sql stable as $$
  select uid from apps where owner_id = caller
  union select app_uid from collaborators where user_id = caller
  union select uid from apps where team_id in (select team_id from team_members where user_id = caller)
$$;

-- Who did what. Names stand here as they were, since users and apps go and this stays.
create table audit (
  id         bigint generated always as identity primary key,
  at         timestamptz not null default now(),
  user_id    bigint,
  user_email text not null default '',
  token      text not null default '',        -- the name of the token that was used
  operation  text not null,                   -- as POST /v1/apps/{app}/rollback
  target     text not null default '',        -- the path, or what came of it
  app_uid    text,
  client     text not null default '',        -- the address that asked
  status     int,                             -- the HTTP answer; null while it is under way, and where routerd died over it
  detail     text not null default ''         -- names of what was changed, never values
);
create index audit_at on audit (at);
create index audit_app on audit (app_uid, id);
create index audit_user on audit (user_id, id);

create function audit_stays() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and old.at < now() - interval '30 days' then
    return old;
  end if;
  if tg_op = 'UPDATE' and old.status is null and new.status is not null
    and (new.id, new.at, new.user_id, new.user_email, new.token, new.operation, new.client)
      is not distinct from (old.id, old.at, old.user_id, old.user_email, old.token, old.operation, old.client) then
    return new;
  end if;
  raise exception 'the audit log is append-only';
end $$;
create trigger audit_stays before update or delete on audit for each row execute function audit_stays();
create trigger audit_stays_whole before truncate on audit for each statement execute function audit_stays();

create function template_audited() returns trigger language plpgsql as $$
begin
  if new.author = 'file' then
    insert into audit (user_email, operation, target, status)
    values ('', 'file edited on a machine', new.name || ' version ' || new.number, 200);
  end if;
  return null;
end $$;
create trigger template_audited after insert on template_versions for each row execute function template_audited();
