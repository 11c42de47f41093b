-- What domains publish in DNS: the last look, the records that were seen, and what changed when.
CREATE TABLE looks (
    domain_id  bigint      PRIMARY KEY,
    looked_at  timestamptz NOT NULL,
    next_at    timestamptz NOT NULL, -- when to look again
    errors     int         NOT NULL,
    warnings   int         NOT NULL,
    result     json        NOT NULL  -- records and findings, as dmarcd check prints them
);
CREATE INDEX looks_due ON looks (next_at);

-- The records that were seen last. Where a lookup failed, the last good answer stays.
CREATE TABLE published (
    domain_id  bigint      NOT NULL,
    name       text        NOT NULL,
    type       text        NOT NULL,
    "values"   text[]      NOT NULL,
    first_seen timestamptz NOT NULL, -- in this form
    last_seen  timestamptz NOT NULL,
    PRIMARY KEY (domain_id, name, type)
);

CREATE TABLE published_changes (
    domain_id  bigint      NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    seen_at    timestamptz NOT NULL,
    name       text        NOT NULL,
    type       text        NOT NULL,
    before     text[]      NOT NULL,
    after      text[]      NOT NULL,
    PRIMARY KEY (domain_id, id)
);
