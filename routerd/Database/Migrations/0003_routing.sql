-- What the global nginx does with requests for the app before they reach it, exactly as its Lua reads it; {} is nothing.
alter table apps add column routing jsonb not null default '{}';

-- The last word of a route: '-', or the name under which an app's options are published. It is made of their text, so that
-- options never change under their name, and no cache of them can be outdated.
create function routing_id(routing jsonb) returns text language sql stable as $$
  select case when routing = '{}' then '-' else left(encode(sha256(convert_to(routing::text, 'UTF8')), 'hex'), 32) end
$$;

-- Beside its hostnames, an app with options has the route @uid, which is no host that anyone can ask for: by it the global nginx
-- knows that the options hold, too, at the droid's direct address uid.server.domain.
create or replace view routes as
  select d.hostname, d.app_uid || ' ' || string_agg(p.server, ',' order by p.server) || ' ' || routing_id(a.routing) as target,
         nullif(a.routing, '{}') as options
  from domains d join placements p using (app_uid) join apps a on a.uid = d.app_uid
  group by d.hostname, d.app_uid, a.uid
  union all
  select '@' || a.uid, a.uid || ' ' || string_agg(p.server, ',' order by p.server) || ' ' || routing_id(a.routing), a.routing
  from apps a join placements p on p.app_uid = a.uid
  where a.routing <> '{}'
  group by a.uid;
create index apps_with_routing on apps (('@' || uid)) where routing <> '{}';

create function routing_changed() returns trigger language plpgsql as $$
begin
  perform route_changed('@' || old.uid);
  if tg_op = 'UPDATE' then
    perform route_changed(hostname) from domains where app_uid = old.uid order by hostname;
  end if;
  return null;
end $$;
create trigger routing_changed after update of routing on apps for each row
  when (old.routing is distinct from new.routing) execute function routing_changed();
create trigger routing_deleted after delete on apps for each row when (old.routing <> '{}') execute function routing_changed();

create or replace function placement_changed() returns trigger language plpgsql as $$
declare
  uid_ text := case when tg_op = 'DELETE' then old.app_uid else new.app_uid end;
begin
  perform route_changed(hostname) from domains where app_uid = uid_ order by hostname;
  perform route_changed('@' || uid) from apps where uid = uid_ and routing <> '{}';
  return null;
end $$;
