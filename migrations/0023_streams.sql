-- What other systems are told of reports. A transaction that changes what counts of a report says so here, if there
-- is a stream at all. Numbers that are given before the commit do not tell its order: a position is given afterwards, by
-- whoever reads, under the lock of the clock. So nothing appears behind a place that was passed already, and a dump that is
-- restored elsewhere goes on.
CREATE TABLE streams (
    name       text        PRIMARY KEY,
    cursor     text        NOT NULL,
    position   bigint      NOT NULL, -- up to which nothing is needed any more
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE report_changes (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id bigint      NOT NULL,
    report    bigint      NOT NULL, -- reports.id
    revision  bigint      NOT NULL, -- that it made of the report
    day       date        NOT NULL, -- that the rows of the report are kept under
    removed   boolean     NOT NULL, -- the report is gone
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    position  bigint
);
CREATE UNIQUE INDEX report_changes_position ON report_changes (position);
CREATE INDEX report_changes_new ON report_changes (id) WHERE position IS NULL;
CREATE INDEX report_changes_report ON report_changes (domain_id, report, revision);

CREATE TABLE stream_clock (
    position bigint NOT NULL -- the last that was given
);
INSERT INTO stream_clock VALUES (0);

-- What a report says, and whether it counts: each change makes another revision.
ALTER TABLE reports ADD COLUMN revision bigint NOT NULL DEFAULT 1;
