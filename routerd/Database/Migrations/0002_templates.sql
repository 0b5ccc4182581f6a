-- What the admin's text of each template was from when on. The files in the templates folder are what the nginxes read; these rows
-- follow them, and tell what was there before.
create table template_versions (
  name       text not null,                    -- the template's file name
  number     int not null,
  text       text,                             -- null: the override was removed, and the shipped template holds
  sha        text,                             -- SHA-256 of the text, in hex
  author     text not null,                    -- an admin's email, or 'file' where the file was edited on the machine
  created_at timestamptz not null default now(),
  primary key (name, number)
);
