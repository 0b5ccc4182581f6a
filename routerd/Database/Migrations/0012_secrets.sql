-- Secrets are kept encrypted (docs/secrets.md): each sealed_… column holds an envelope that only its own row opens. What older versions
-- kept plain is sealed by `routerd migrate`, which has the key, right after this; it then drops the plain columns.
create table app_env (
  app_uid      text not null references apps on delete cascade,
  name         text not null,
  sealed_value bytea not null,
  primary key (app_uid, name)
);

alter table git_passwords add sealed_password bytea;
alter table deploy_keys add sealed_private_key bytea;
alter table webhooks
  add sealed_secret bytea,
  add sealed_url bytea;                        -- the repository's whole address, where that holds a password; url has *** in its place
alter table deployments add sealed_url bytea;  -- the same of source

-- Until when the tables still hold plain values in tuples that are dead.
create table sealing (vacuumed_at timestamptz);
insert into sealing values (null);
