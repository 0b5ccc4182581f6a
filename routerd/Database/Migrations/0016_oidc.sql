-- Sign-in by OpenID Connect: what a provider knows a user as, from the first sign-in on.
create table identities (
  issuer     text not null,
  subject    text not null,
  user_id    bigint not null references users on delete cascade,
  created_at timestamptz not null default now(),
  primary key (issuer, subject),
  unique (user_id, issuer)
);

-- By which a CLI gets a token once its user has signed in by a browser.
create table sign_in_codes (
  hash       bytea primary key,               -- SHA-256 of what was handed out
  user_id    bigint not null references users on delete cascade,
  challenge  text not null,                   -- SHA-256, as base64url, of what that CLI alone knows
  name       text not null,                   -- of the token to come
  expires_at timestamptz not null
);
create index sign_in_codes_user on sign_in_codes (user_id);
