-- What each report costs. Neither domains nor mailboxes are ever deleted, and the rows of reporters still refer to domains, so
-- that nothing needs a look-up for each report, message and word. One unique index says that of the contents of an
-- identity one counts, and finds the neighbours of a report as well; the others are unique among themselves.
ALTER TABLE reports      DROP CONSTRAINT reports_domain_id_fkey;
ALTER TABLE names        DROP CONSTRAINT names_domain_id_fkey;
ALTER TABLE auth_results DROP CONSTRAINT auth_results_domain_id_fkey;
ALTER TABLE messages     DROP CONSTRAINT messages_mailbox_id_fkey;

ALTER TABLE reports DROP CONSTRAINT reports_domain_id_reporter_id_report_id_begins_at_ends_at_h_key;
DROP INDEX reports_neighbours;
DROP INDEX reports_active;
CREATE UNIQUE INDEX reports_active ON reports (domain_id, reporter_id, begins_at, ends_at, report_id) WHERE active;
CREATE UNIQUE INDEX reports_others ON reports (domain_id, reporter_id, begins_at, ends_at, report_id, hash) WHERE NOT active;
