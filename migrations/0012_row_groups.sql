-- Rows in groups: a tuple holds some dozens of rows of one report, a column in an array each. That takes a third of the
-- space and a fifth of the time of a tuple a row, since most of that was the tuple's own. What reads rows one by one
-- reads the view.
ALTER TABLE rows RENAME TO single_rows;

CREATE TABLE row_groups (
    domain_id        bigint     NOT NULL,
    report           bigint     NOT NULL, -- reports.id
    day              date       NOT NULL,
    messages         bigint[]   NOT NULL,
    header_from_id   bigint[],            -- null if it is null in all rows
    envelope_from_id bigint[],
    envelope_to_id   bigint[],
    auth_id          bigint[]   NOT NULL,
    flags            int[],               -- null if it is 0 in all rows
    verdict          smallint[] NOT NULL, -- the reporter's; above it 256: in no series, 512: shared among days
    ours             smallint[] NOT NULL, -- recomputed
    source           inet[]     NOT NULL  -- an element is null where there is no address
) PARTITION BY RANGE (day);
-- Groups are made to fit into a page with others; what does not is not worth compressing.
ALTER TABLE row_groups
    ALTER messages SET STORAGE EXTERNAL, ALTER header_from_id SET STORAGE EXTERNAL, ALTER envelope_from_id SET STORAGE EXTERNAL,
    ALTER envelope_to_id SET STORAGE EXTERNAL, ALTER auth_id SET STORAGE EXTERNAL, ALTER flags SET STORAGE EXTERNAL,
    ALTER verdict SET STORAGE EXTERNAL, ALTER ours SET STORAGE EXTERNAL, ALTER source SET STORAGE EXTERNAL;
CREATE INDEX row_groups_day ON row_groups (domain_id, day, report);

-- Each month as it was, since a month that was given up must not come back.
DO $$
DECLARE
    part record;
    name text;
BEGIN
    FOR part IN
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'single_rows'::regclass AND NOT i.inhdetachpending -- those are given up
    LOOP
        name := replace(part.relname, 'rows_', 'row_groups_');
        EXECUTE format('CREATE TABLE %I PARTITION OF row_groups %s', name, part.bound);
        EXECUTE format($sql$
            INSERT INTO %I
            SELECT domain_id, report, day, array_agg(messages ORDER BY place),
                CASE WHEN bool_or(header_from_id IS NOT NULL) THEN array_agg(header_from_id ORDER BY place) END,
                CASE WHEN bool_or(envelope_from_id IS NOT NULL) THEN array_agg(envelope_from_id ORDER BY place) END,
                CASE WHEN bool_or(envelope_to_id IS NOT NULL) THEN array_agg(envelope_to_id ORDER BY place) END,
                array_agg(auth_id ORDER BY place),
                CASE WHEN bool_or(flags <> 0) THEN array_agg(flags ORDER BY place) END,
                array_agg(verdict ORDER BY place), array_agg(ours ORDER BY place), array_agg(source ORDER BY place)
            FROM (
                SELECT *, ctid AS place, (row_number() OVER (PARTITION BY domain_id, day, report ORDER BY ctid) - 1) / 30 AS n
                FROM %I
            ) AS r
            GROUP BY domain_id, day, report, n
            ORDER BY domain_id, day, report, n$sql$, name, part.relname);
    END LOOP;
END $$;
DROP TABLE single_rows;

CREATE VIEW rows AS
SELECT domain_id, report, messages, header_from_id, envelope_from_id, envelope_to_id, auth_id, day, coalesce(flags, 0) AS flags,
    verdict, ours, source
FROM (
    SELECT domain_id, report, day, unnest(messages) AS messages, unnest(header_from_id) AS header_from_id,
        unnest(envelope_from_id) AS envelope_from_id, unnest(envelope_to_id) AS envelope_to_id, unnest(auth_id) AS auth_id,
        unnest(flags) AS flags, unnest(verdict) AS verdict, unnest(ours) AS ours, unnest(source) AS source
    FROM row_groups
) AS r;
