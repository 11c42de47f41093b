-- The domain of a message was found by a query of its own for each line of the ledger, which cost more than the rest of
-- the line. Most messages have one part: PostgreSQL writes this expression into the index in place of the call. The values
-- are the same, so that the index remains.
CREATE FUNCTION message_domain_of_many(parts jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE
            WHEN count(*) = 0 OR bool_or(coalesce(p->>'report', '') = '') THEN NULL
            WHEN min(split_part(p->>'report', '-', 1)) = max(split_part(p->>'report', '-', 1)) THEN min(split_part(p->>'report', '-', 1))::bigint
            ELSE 0
        END
        FROM jsonb_array_elements(parts) AS p
    $$;
-- It is parsed here and now, so that it knows the other function whatever the search path.
CREATE OR REPLACE FUNCTION message_domain(parts jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN jsonb_array_length(parts) = 1 THEN nullif(split_part(parts->0->>'report', '-', 1), '')::bigint
        ELSE message_domain_of_many(parts)
    END;
