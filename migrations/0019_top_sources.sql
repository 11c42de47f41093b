-- A day names its 100 busiest sources now, no longer 250: what a period costs is in proportion to it. Days that name more are
-- summarised anew; those whose rows are gone stay as they are.
UPDATE domain_days d
SET summarised = -1
FROM (
    SELECT domain_id, day, dated
    FROM source_days
    WHERE kind = 0
    GROUP BY domain_id, day, dated
    HAVING count(*) > 100
) AS s
WHERE d.domain_id = s.domain_id AND d.day = s.day AND d.dated = s.dated
    AND d.day >= coalesce((SELECT day FROM horizons WHERE name = 'rows'), '-infinity');
