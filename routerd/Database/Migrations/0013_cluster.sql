-- When a server was last known to be well: of one that joined by its heartbeats, of this machine's own by routerd's look at it.
alter table servers add column last_seen timestamptz;
-- What its last heartbeat said; null for this machine's own.
alter table servers add column heartbeat jsonb;

-- Certificates that routerd's CA has signed for other machines, until some time after they have ended.
create table server_certificates (
  serial     text primary key,                 -- in hex, as OpenSSL writes it
  server     text not null,
  role       text not null check (role in ('droid-server', 'proxy', 'control')),
  not_after  timestamptz not null,
  issued_at  timestamptz not null default now(),
  revoked_at timestamptz
);
create index server_certificates_server on server_certificates (server);

create table join_tokens (
  hash       bytea primary key,                -- SHA-256 of its secret part, which is shown once and kept nowhere
  role       text not null check (role in ('droid-server', 'proxy')),
  name       text not null,                    -- what the machine will be called
  expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  used_at    timestamptz                       -- it opens the door once
);
