-- How passes go, for people who look at them: by whichever process makes them.
CREATE TABLE pass_health (
    name          text        PRIMARY KEY,
    ok_at         timestamptz,
    failing_since timestamptz, -- null: the last try did not fail
    error         text        NOT NULL,
    failures      bigint      NOT NULL,
    took_ms       bigint      NOT NULL,
    seen_at       timestamptz NOT NULL
);

-- What waits in a mailbox, and what to do about its error.
ALTER TABLE mailbox_health
    ADD COLUMN fix       text   NOT NULL DEFAULT '',
    ADD COLUMN failures  bigint NOT NULL DEFAULT 0,
    ADD COLUMN took_ms   bigint NOT NULL DEFAULT 0,
    ADD COLUMN waiting   int    NOT NULL DEFAULT 0,
    ADD COLUMN oldest_at timestamptz;

-- Rules that were switched on a page. What the configuration says wins.
CREATE TABLE rule_switches (
    rule    text        PRIMARY KEY,
    enabled boolean     NOT NULL,
    said_by text        NOT NULL,
    said_at timestamptz NOT NULL
);
