-- Of several processes on one database, one works on each mailbox and each pass. A row, rather than a lock of a
-- session, holds behind a pooler too, and its epoch lets a commit prove that the work is still its own.
CREATE TABLE leases (
    name       text        PRIMARY KEY,
    epoch      bigint      NOT NULL, -- grows whenever the lease changes hands
    holder     text        NOT NULL, -- for people
    expires_at timestamptz NOT NULL  -- by the clock of the database
);
