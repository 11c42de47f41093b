-- What a look at a domain leaves for the next: since when TTLs are low, since when a name server is behind.
ALTER TABLE looks ADD COLUMN memory json NOT NULL DEFAULT '{}';

-- DKIM keys by the names that hold them, so that a key that stands under several names is found, whosever these are.
CREATE TABLE dkim_keys (
    domain_id   bigint NOT NULL,
    name        text   NOT NULL,
    fingerprint text   NOT NULL, -- SHA-256 of the decoded key, in hexadecimal
    PRIMARY KEY (domain_id, name)
);
CREATE INDEX dkim_keys_fingerprint ON dkim_keys (fingerprint);
