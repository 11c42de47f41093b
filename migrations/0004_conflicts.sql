-- Of several contents of one report an operator may choose the one that counts; later arrivals leave it so.
ALTER TABLE reports ADD COLUMN chosen boolean NOT NULL DEFAULT false;
CREATE INDEX reports_inactive ON reports (begins_at DESC, domain_id DESC, id DESC) WHERE NOT active;
