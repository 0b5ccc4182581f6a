alter table deployments
  add reason      text,                        -- why it failed, in a word
  add ahead       int,                         -- builds that come before it, while queued
  add rebuild     boolean not null default false,
  add rollback_to int,                         -- the earlier deployment whose image it runs
  add started_at  timestamptz;                 -- when it left the queue: its time limit counts from here
