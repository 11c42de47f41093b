-- Who may do what, and what was done.
CREATE TABLE tokens (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     bytea       NOT NULL UNIQUE, -- SHA-256 of the secret, which is random and long
    name       text        NOT NULL,
    roles      text[]      NOT NULL,
    everything boolean     NOT NULL,
    domains    text[]      NOT NULL,        -- with their subdomains, unless it is for everything
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at    timestamptz                  -- the hour
);
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;

-- Keys that dmarcd made for itself, such as the one that sessions are signed with.
CREATE TABLE keys (
    name text  PRIMARY KEY,
    key  bytea NOT NULL
);

CREATE TABLE audit (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    who     text        NOT NULL,
    via     text        NOT NULL,
    address inet,
    action  text        NOT NULL,
    subject text        NOT NULL,
    detail  text        NOT NULL
);
CREATE INDEX audit_action ON audit (action, id);
CREATE INDEX audit_who ON audit (who, id);

-- The domain that all of a message is about: null if something in it is no stored report, 0 if its reports are about
-- several domains. A ledger that is read by those who may know of some domains only is read by it.
CREATE FUNCTION message_domain(parts jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE
            WHEN count(*) = 0 OR bool_or(coalesce(p->>'report', '') = '') THEN NULL
            WHEN min(split_part(p->>'report', '-', 1)) = max(split_part(p->>'report', '-', 1)) THEN min(split_part(p->>'report', '-', 1))::bigint
            ELSE 0
        END
        FROM jsonb_array_elements(parts) AS p
    $$;
CREATE INDEX messages_domain ON messages (message_domain(parts), id);

-- Finds the subdomains of a domain.
CREATE INDEX domains_reversed ON domains (reverse(name) COLLATE "C");
