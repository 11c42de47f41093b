-- Reports of one reporter that overlap, or that say the same twice, are told apart from others by a flag.
ALTER TABLE reports ADD COLUMN rows_hash bytea; -- of the rows alone; null for reports from before
CREATE INDEX reports_neighbours ON reports (domain_id, reporter_id, begins_at);
