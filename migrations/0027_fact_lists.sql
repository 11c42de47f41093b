-- The facts of source_facts that belong to a day, in one piece, with what they have in common written once: what is known of a
-- domain with 500 sources a day over 90 days is read in 90 pieces, where it would be 45,000. Written where source_facts is, which
-- a dmarcd that knows no lists goes on reading; a pass makes those of days before.
CREATE TABLE fact_lists (
    domain_id bigint NOT NULL,
    day       date   NOT NULL,
    reduced   bigint NOT NULL, -- as domain_days had it then: where it has another value now, a dmarcd that knows no lists was there
    facts     bytea  NOT NULL, -- packed
    PRIMARY KEY (domain_id, day)
) WITH (toast_tuple_target = 8160);
ALTER TABLE fact_lists ALTER COLUMN facts SET STORAGE EXTERNAL; -- to unpack them would take longer than to read them

-- How far that pass has come: domains to this one are done.
CREATE TABLE fact_lists_made (
    domain_id bigint NOT NULL
);
INSERT INTO fact_lists_made VALUES (0);
