-- What people are told, and how far the telling is. An event and its deliveries are written in the transaction that
-- changes the state of the rule, so that each is told once, and none is lost. All of it is small.
CREATE TABLE episodes (
    domain   text        NOT NULL, -- '': the installation
    rule     text        NOT NULL,
    subject  text        NOT NULL,
    began_at timestamptz NOT NULL,
    memory   jsonb       NOT NULL, -- what the rule needs to tell when it is over
    PRIMARY KEY (domain, rule, subject)
);

CREATE TABLE events (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    rule    text        NOT NULL,
    domain  text        NOT NULL,
    subject text        NOT NULL,
    phase   text        NOT NULL, -- began, over, once
    problem boolean     NOT NULL,
    title   text        NOT NULL,
    body    text        NOT NULL
);
CREATE INDEX events_domain ON events (domain, id);
CREATE INDEX events_at ON events (at);

CREATE TABLE deliveries (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        text        NOT NULL UNIQUE, -- that receivers know it by
    target     text        NOT NULL,
    kind       text        NOT NULL, -- events, digest
    events     bigint[]    NOT NULL, -- events.id
    body       bytea       NOT NULL, -- every attempt sends the same
    state      text        NOT NULL DEFAULT 'waiting', -- waiting, sent, given_up
    attempts   int         NOT NULL DEFAULT 0,
    error      text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at    timestamptz NOT NULL DEFAULT clock_timestamp(), -- no attempt before; while one is made, when it is taken to have died
    done_at    timestamptz
);
CREATE INDEX deliveries_waiting ON deliveries (target, id) WHERE state = 'waiting';
CREATE INDEX deliveries_events ON deliveries USING gin (events);
CREATE INDEX deliveries_created ON deliveries (created_at);

-- How reading each mailbox goes, by the process that reads it.
CREATE TABLE mailbox_health (
    mailbox       text        PRIMARY KEY,
    ok_at         timestamptz,
    failing_since timestamptz, -- null: the last try did not fail
    error         text        NOT NULL,
    seen_at       timestamptz NOT NULL
);

-- Changes of records are told once. What is there already was seen before anybody could be told.
ALTER TABLE published_changes ADD COLUMN told boolean NOT NULL DEFAULT true;
ALTER TABLE published_changes ALTER COLUMN told SET DEFAULT false;
CREATE INDEX published_changes_untold ON published_changes (domain_id, id) WHERE NOT told;

-- Messages that could not be read are few. A new harmless outcome would need a new index.
CREATE INDEX messages_refused ON messages (received_at)
    WHERE outcome NOT IN ('ok', 'ok_with_flags', 'duplicate', 'conflict', 'not_kept', 'not_a_report', 'empty_report', 'complaint');
