-- Whether the mail that carried reports is authentic is found out after they are stored, since it asks DNS.
ALTER TABLE messages ADD COLUMN transport_auth   smallint NOT NULL DEFAULT 0;  -- 0 unknown, 1 pass, 2 fail
ALTER TABLE messages ADD COLUMN transport_domain text     NOT NULL DEFAULT ''; -- that signed it
ALTER TABLE messages ADD COLUMN transport_reason text     NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN verify_at timestamptz; -- when it is to be checked; null: it was, or need not be
CREATE INDEX messages_unverified ON messages (verify_at) WHERE verify_at IS NOT NULL;
ALTER TABLE reports     ADD COLUMN transport_auth smallint NOT NULL DEFAULT 0; -- pass if any mail that carried it does
ALTER TABLE tls_reports ADD COLUMN transport_auth smallint NOT NULL DEFAULT 0;
