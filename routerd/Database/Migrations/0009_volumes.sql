-- An app's volumes. What they hold is kept by the app's droid-server, under the id, which is never used again.
create table volumes (
  id         text primary key,
  app_uid    text not null references apps on delete cascade,
  name       text not null,
  path       text not null,
  created_at timestamptz not null default now(),
  constraint volumes_name unique (app_uid, name),
  constraint volumes_path unique (app_uid, path)
);

-- Volumes that a droid-server has still to remove, which it can as soon as no container has them. A volume goes by a row in here or
-- with its app, never because it is missing elsewhere: a database that was restored from a backup must not cost data.
create table volume_removals (
  volume_id text primary key,
  app_uid   text not null,
  server    text not null
);
