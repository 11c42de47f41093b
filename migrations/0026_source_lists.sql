-- The lines of source_days that belong to a day, in one piece: a long period of one domain is read in as many pieces as it has
-- days, where its lines would be a hundred times as many. Written where source_days is; a pass makes those of days before.
CREATE TABLE source_lists (
    domain_id  bigint  NOT NULL,
    day        date    NOT NULL,
    dated      boolean NOT NULL,
    summarised bigint  NOT NULL, -- as domain_days had it then: where it has another value now, a dmarcd that knows no lists was there
    lines      text    NOT NULL, -- a line each: kind, address and the columns of the tally
    PRIMARY KEY (domain_id, day, dated)
) WITH (toast_tuple_target = 8160);
ALTER TABLE source_lists ALTER COLUMN lines SET STORAGE EXTERNAL; -- to unpack them would take longer than to read them

-- How far that pass has come: domains to this one are done.
CREATE TABLE source_lists_made (
    domain_id bigint NOT NULL
);
INSERT INTO source_lists_made VALUES (0);
