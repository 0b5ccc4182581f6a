-- Process type → how many of it run, as {"web": 2, "worker": 1}. A type that is not named has one where it is web, else none.
alter table apps add column formation jsonb not null default '{}';
