-- A token that may read what is counted and nothing else, for Prometheus.
alter table tokens drop constraint tokens_scope_check,
  add constraint tokens_scope_check check (scope in ('metrics', 'read', 'deploy', 'write', 'admin'));

-- When a route changed, so that it can be told how long it took to Redis.
alter table route_changes add column at timestamptz not null default now();

-- The span that asked for a deployment, as a W3C traceparent; null where nothing was traced.
alter table deployments add column traceparent text;
