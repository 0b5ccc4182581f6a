-- Lists that grow without bound are read page by page, each from behind the one before.
drop index tokens_user;
create index tokens_user on tokens (user_id, id);
create index audit_email on audit (lower(user_email), id);
create index audit_target_app on audit (substring(target from '^/v1/apps/([^/]+)'), id);
