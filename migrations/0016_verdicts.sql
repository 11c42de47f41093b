-- Who sends as the domains, and whether a stricter policy is safe, as passes find out.

-- Every address that domain_sources has, once for the installation: whose it is, and how many domains class it how.
CREATE TABLE source_identities (
    source     inet        PRIMARY KEY,
    messages   bigint      NOT NULL, -- about, over all domains
    unknown    int         NOT NULL, -- domains by class, each for itself
    own        int         NOT NULL,
    service    int         NOT NULL,
    forwarder  int         NOT NULL,
    suspicious int         NOT NULL,
    due_at     timestamptz NOT NULL DEFAULT '-infinity', -- when to look it up; -infinity: it never was
    checked_at timestamptz,
    failures   int         NOT NULL DEFAULT 0, -- in a row
    ptr        smallint    NOT NULL DEFAULT 0, -- 0 not asked, 1 found, 2 absent, 3 failed
    names      text[]      NOT NULL DEFAULT '{}', -- that lead back to the address
    unproven   text[]      NOT NULL DEFAULT '{}',
    asn        bigint      NOT NULL DEFAULT 0,
    org        text        NOT NULL DEFAULT '',
    country    text        NOT NULL DEFAULT ''
);
CREATE INDEX source_identities_due ON source_identities (due_at, messages DESC);

-- The busiest sources of each domain, and how they are classed.
CREATE TABLE domain_sources (
    domain_id  bigint   NOT NULL,
    source     inet     NOT NULL, -- an address or a network
    class      smallint NOT NULL,
    confidence smallint NOT NULL, -- 0 a guess, 1 likely, 2 sure
    alone      smallint NOT NULL, -- the class without what other domains say; 0 for a guess
    messages   bigint   NOT NULL, -- about: a power of two, so that it seldom changes
    PRIMARY KEY (domain_id, source)
);
CREATE INDEX domain_sources_source ON domain_sources (source);

-- The advice about each domain in short.
CREATE TABLE verdicts (
    domain_id   bigint           PRIMARY KEY,
    changes     bigint           NOT NULL DEFAULT 1, -- grows with what the verdict depends on
    due_at      timestamptz      NOT NULL DEFAULT '-infinity', -- when to compute it
    computed_at timestamptz, -- NULL: never
    soonest_at  timestamptz      NOT NULL DEFAULT '-infinity', -- when to compute it again, however much changes
    verdict     text             NOT NULL DEFAULT '',
    policy      text             NOT NULL DEFAULT '', -- in force
    target      text             NOT NULL DEFAULT '',
    next        text             NOT NULL DEFAULT '',
    attention   smallint         NOT NULL DEFAULT 8,
    sentence    text             NOT NULL DEFAULT '',
    blockers    int              NOT NULL DEFAULT 0,
    ask         int              NOT NULL DEFAULT 0,
    days        int              NOT NULL DEFAULT 0,
    loss_a_day  double precision NOT NULL DEFAULT 0,
    by_class    bigint[]         NOT NULL DEFAULT '{0,0,0,0,0}',
    own         bigint           NOT NULL DEFAULT 0,
    passing     bigint           NOT NULL DEFAULT 0
);
CREATE INDEX verdicts_attention ON verdicts (attention, loss_a_day DESC, domain_id) WHERE computed_at IS NOT NULL;

-- What operators say about sources.
CREATE TABLE overrules (
    domain_id bigint      NOT NULL, -- 0: of all domains
    network   cidr        NOT NULL,
    class     smallint    NOT NULL,
    note      text        NOT NULL,
    said_by   text        NOT NULL,
    said_at   timestamptz NOT NULL,
    PRIMARY KEY (domain_id, network)
);
