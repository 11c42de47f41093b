-- What reports say, as they arrived and as it is counted.
--
-- A report has one policy domain, and every key begins with domain_id, so that all a report writes lies together
-- and the tables can be spread over machines by domain. Rows are narrow: names and results repeat, and are kept once per
-- domain. Rollups change in the transaction that adds the rows; sources are summarised later, since a rollup by
-- address would have nearly as many rows as there are.

CREATE TABLE domains (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text   NOT NULL UNIQUE -- lower-case A-label
);

-- Where messages come from, and how far each mailbox has been read. Files and uploads have no place.
CREATE TABLE mailboxes (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text   NOT NULL UNIQUE,
    uid_validity bigint NOT NULL DEFAULT 0,
    uid          bigint NOT NULL DEFAULT 0
);

-- The ledger: one line and one fate for each message taken in.
CREATE TABLE messages (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mailbox_id   bigint      NOT NULL REFERENCES mailboxes,
    uid_validity bigint      NOT NULL DEFAULT 0,
    uid          bigint      NOT NULL DEFAULT 0, -- 0: not from IMAP
    digest       bytea       NOT NULL,           -- SHA-256 of the bytes as they came
    size         bigint      NOT NULL,
    message_id   text        NOT NULL,
    sender       text        NOT NULL,
    subject      text        NOT NULL,
    source       text        NOT NULL,           -- file name
    sent_at      timestamptz,
    received_at  timestamptz NOT NULL,
    outcome      text        NOT NULL,
    reason       text        NOT NULL,
    parts        jsonb       NOT NULL            -- what was found where, and what became of it
);
CREATE UNIQUE INDEX messages_place ON messages (mailbox_id, uid_validity, uid) WHERE uid <> 0;
CREATE UNIQUE INDEX messages_file ON messages (mailbox_id, digest) WHERE uid = 0;
CREATE INDEX messages_outcome ON messages (outcome, id);
CREATE INDEX messages_mailbox ON messages (mailbox_id, id);

-- The messages themselves, compressed with zstd, in pieces, so that none of any size has to be held at once.
CREATE TABLE raw_messages (
    day    date   NOT NULL, -- of receipt
    digest bytea  NOT NULL,
    piece  int    NOT NULL,
    body   bytea  NOT NULL,
    PRIMARY KEY (digest, piece, day)
) PARTITION BY RANGE (day);
ALTER TABLE raw_messages ALTER body SET STORAGE EXTERNAL;

CREATE TABLE reporters (
    domain_id bigint NOT NULL REFERENCES domains,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    key       text   NOT NULL, -- org_name and the domain of its address, folded
    org_name  text   NOT NULL,
    email     text   NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, key)
);

CREATE TABLE names (
    domain_id bigint NOT NULL REFERENCES domains,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    name      text   NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, name)
);

-- The raw results and reasons of rows.
CREATE TABLE auth_results (
    domain_id bigint NOT NULL REFERENCES domains,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    digest    bytea  NOT NULL,
    body      jsonb  NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, digest)
);

-- Aggregate reports. Reporters share Report-IDs, and some reuse one for another period. Of several contents under one
-- identity one is active: its rows count.
CREATE TABLE reports (
    domain_id        bigint      NOT NULL REFERENCES domains,
    id               bigint      GENERATED ALWAYS AS IDENTITY,
    reporter_id      bigint      NOT NULL,
    report_id        text        NOT NULL,
    begins_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL, -- as sent: inclusive for some
    hash             bytea       NOT NULL, -- of the content
    active           boolean     NOT NULL,
    day              date        NOT NULL, -- that its rows are kept under
    dated            boolean     NOT NULL, -- false: in totals only
    received_at      timestamptz NOT NULL,
    seen             bigint      NOT NULL DEFAULT 1,
    message          bigint      NOT NULL, -- messages.id
    part             text        NOT NULL,
    flags            bigint      NOT NULL,
    about            jsonb       NOT NULL, -- metadata and policy
    rows             bigint      NOT NULL,
    messages         bigint      NOT NULL,
    dmarc_pass       bigint      NOT NULL,
    dkim_aligned     bigint      NOT NULL,
    spf_aligned      bigint      NOT NULL,
    none             bigint      NOT NULL,
    quarantine       bigint      NOT NULL,
    reject           bigint      NOT NULL,
    pass             bigint      NOT NULL,
    unstated         bigint      NOT NULL,
    rows_dropped     bigint      NOT NULL,
    messages_dropped bigint      NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, reporter_id, report_id, begins_at, ends_at, hash)
);
CREATE UNIQUE INDEX reports_active ON reports (domain_id, reporter_id, report_id, begins_at, ends_at) WHERE active;
CREATE INDEX reports_newest ON reports (domain_id, begins_at DESC, id DESC);
CREATE INDEX reports_newest_of_all ON reports (begins_at DESC, domain_id DESC, id DESC);

-- The rows of active reports, by month of the day that they count for. Not unique: a report may say a thing twice.
CREATE TABLE rows (
    domain_id        bigint   NOT NULL,
    report           bigint   NOT NULL, -- reports.id
    messages         bigint   NOT NULL,
    header_from_id   bigint,
    envelope_from_id bigint,
    envelope_to_id   bigint,
    auth_id          bigint   NOT NULL,
    day              date     NOT NULL,
    flags            int      NOT NULL,
    verdict          smallint NOT NULL, -- the reporter's; above it 256: in no series, 512: shared among days
    ours             smallint NOT NULL, -- recomputed
    source           inet
) PARTITION BY RANGE (day);
CREATE INDEX rows_day ON rows (domain_id, day) INCLUDE (source, messages, verdict);
CREATE INDEX rows_report ON rows USING brin (report) WITH (pages_per_range = 16);
CREATE TABLE rows_before_2012 PARTITION OF rows FOR VALUES FROM (MINVALUE) TO ('2012-01-01');

-- What each reporter saw on each day, by verdict. The number of reports stands at verdict 0.
CREATE TABLE reporter_days (
    domain_id   bigint   NOT NULL,
    day         date     NOT NULL,
    reporter_id bigint   NOT NULL,
    dated       boolean  NOT NULL,
    verdict     smallint NOT NULL,
    rows        bigint   NOT NULL,
    messages    bigint   NOT NULL,
    estimated   bigint   NOT NULL, -- of the messages: shares of a longer period
    reports     bigint   NOT NULL,
    PRIMARY KEY (domain_id, day, reporter_id, dated, verdict)
);

-- All domains at a glance.
CREATE TABLE domain_days (
    day          date    NOT NULL,
    domain_id    bigint  NOT NULL,
    dated        boolean NOT NULL,
    rows         bigint  NOT NULL,
    messages     bigint  NOT NULL,
    dmarc_pass   bigint  NOT NULL,
    dkim_aligned bigint  NOT NULL,
    spf_aligned  bigint  NOT NULL,
    none         bigint  NOT NULL,
    quarantine   bigint  NOT NULL,
    reject       bigint  NOT NULL,
    pass         bigint  NOT NULL,
    unstated     bigint  NOT NULL,
    estimated    bigint  NOT NULL,
    reports      bigint  NOT NULL,
    changes      bigint  NOT NULL DEFAULT 1, -- grows with every change
    summarised   bigint  NOT NULL DEFAULT 0, -- the value of changes that source_days knows of
    PRIMARY KEY (day, domain_id, dated)
);
CREATE INDEX domain_days_changed ON domain_days (domain_id, day) WHERE changes <> summarised;

-- The busiest sources of each day, and the sum of the others.
CREATE TABLE source_days (
    domain_id    bigint   NOT NULL,
    day          date     NOT NULL,
    dated        boolean  NOT NULL,
    kind         smallint NOT NULL, -- 0 an address, 1 no readable address, 2 all the other addresses
    source       inet     NOT NULL, -- :: unless kind is 0
    rows         bigint   NOT NULL,
    messages     bigint   NOT NULL,
    dmarc_pass   bigint   NOT NULL,
    dkim_aligned bigint   NOT NULL,
    spf_aligned  bigint   NOT NULL,
    none         bigint   NOT NULL,
    quarantine   bigint   NOT NULL,
    reject       bigint   NOT NULL,
    pass         bigint   NOT NULL,
    unstated     bigint   NOT NULL,
    PRIMARY KEY (domain_id, day, dated, kind, source)
);

-- SMTP TLS reports (RFC 8460). There are few, and each is small.
CREATE TABLE tls_reports (
    domain_id   bigint      NOT NULL REFERENCES domains,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    reporter_id bigint      NOT NULL,
    report_id   text        NOT NULL,
    begins_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    hash        bytea       NOT NULL,
    active      boolean     NOT NULL,
    received_at timestamptz NOT NULL,
    seen        bigint      NOT NULL DEFAULT 1,
    message     bigint      NOT NULL,
    part        text        NOT NULL,
    flags       bigint      NOT NULL,
    contact     text        NOT NULL,
    successful  bigint      NOT NULL, -- sessions
    failed      bigint      NOT NULL,
    policies    jsonb       NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, reporter_id, report_id, begins_at, ends_at, hash)
);
CREATE UNIQUE INDEX tls_reports_active ON tls_reports (domain_id, reporter_id, report_id, begins_at, ends_at) WHERE active;
CREATE INDEX tls_reports_newest ON tls_reports (begins_at DESC, domain_id DESC, id DESC);

-- Failure reports (RFC 9991), kept only if that is switched on: they tell about people.
CREATE TABLE failure_reports (
    domain_id   bigint      NOT NULL REFERENCES domains,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    hash        bytea       NOT NULL,
    arrived_at  timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    seen        bigint      NOT NULL DEFAULT 1,
    message     bigint      NOT NULL,
    part        text        NOT NULL,
    flags       bigint      NOT NULL,
    body        jsonb       NOT NULL,
    PRIMARY KEY (domain_id, id),
    UNIQUE (domain_id, hash)
);
CREATE INDEX failure_reports_newest ON failure_reports (arrived_at DESC, domain_id DESC, id DESC);
