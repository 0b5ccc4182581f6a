-- The global nginxes, by the routerd that looks after each. A row is written by its own routerd every few seconds; one that was not
-- seen for long is away, and no activation of a template waits for it.
create table proxies (
  name      text primary key,                  -- the routerd's
  config    text,                              -- the version of the configuration that its nginx serves
  error     jsonb,                             -- what is wrong with the templates that lie there; null if nothing
  since     timestamptz not null,              -- from when on config and error are so
  templates jsonb not null default '{}',       -- template → {"number", "error"}: the version it took last, and why it refused that
  applying  boolean not null default false,    -- it is at work on a version
  seen_at   timestamptz not null default now()
);

create function template_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('appoxy_templates', '');
  return null;
end $$;
create trigger template_changed after insert on template_versions for each statement execute function template_changed();
