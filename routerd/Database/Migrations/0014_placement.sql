-- What is known of each droid-server, for placing apps. Written by whichever routerd reaches it.
alter table servers
  add column if not exists labels        jsonb not null default '{}',
  add column if not exists draining      boolean not null default false,
  add column if not exists drain_volumes boolean not null default false,  -- whether apps with volumes leave it, too
  add column if not exists memory_bytes  bigint,                          -- null: it was never heard of
  add column if not exists seen_at       timestamptz,
  add column if not exists down_since    timestamptz;                     -- null: it answers, or has not been silent for long

-- The memory that an app's processes may use together; one without a limit counts as one with the default.
create function app_reserves(settings jsonb, formation jsonb) returns bigint language sql immutable as $$
  select case when memory is null or memory = '0' then 512::bigint << 20
              when memory like '%g' then left(memory, -1)::bigint << 30
              when memory like '%m' then left(memory, -1)::bigint << 20
              when memory like '%k' then left(memory, -1)::bigint << 10
              else memory::bigint end
         * (greatest(1, coalesce((formation ->> 'web')::bigint, 1))
            + (select coalesce(sum(value::bigint), 0) from jsonb_each_text(formation) where key <> 'web'))
  from (select settings ->> 'memory' as memory) s
$$;

-- Beside the placement, so that what a server holds is a sum over one narrow table.
alter table placements add reserved bigint not null default 0;

-- Only a change of the server is one of the route.
drop trigger placement_changed on placements;
update placements p set reserved = app_reserves(a.settings, a.formation) from apps a where a.uid = p.app_uid;
create trigger placement_changed after insert or delete or update of app_uid, server on placements
  for each row execute function placement_changed();

create function placement_reserves() returns trigger language plpgsql as $$
begin
  select app_reserves(settings, formation) into new.reserved from apps where uid = new.app_uid;
  return new;
end $$;
create trigger placement_reserves before insert on placements for each row execute function placement_reserves();

create function app_resized() returns trigger language plpgsql as $$
begin
  update placements set reserved = app_reserves(new.settings, new.formation) where app_uid = new.uid;
  return null;
end $$;
create trigger app_resized after update of settings, formation on apps for each row
  when (old.settings is distinct from new.settings or old.formation is distinct from new.formation) execute function app_resized();

-- Apps on their way to another droid-server, at most one way for each. A row goes when the app is there; where it could not go, it
-- stays to tell why.
create table moves (
  app_uid    text primary key references apps on delete cascade,
  source     text not null,
  target     text,                             -- null: no server takes it
  reason     text not null check (reason in ('asked', 'drain', 'down', 'rebalance')),
  volumes    text not null default 'none' check (volumes in ('none', 'copy', 'lose')),
  state      text not null default 'waiting' check (state in ('waiting', 'copying', 'starting', 'failed')),
  frozen     boolean not null default false,   -- the app is stopped, since its volumes are copied
  copied     bigint,                           -- bytes of images and volumes so far
  error      text,
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default now()
);

-- A droid that has moved goes from its old server when all global nginxes know the new one: not before the routes of this version are
-- published, and only if what is there is not of a newer generation, which is one that came back. Null: at once, and in any case.
alter table removals
  add generation    bigint,
  add route_version bigint;
