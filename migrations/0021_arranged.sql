-- How operators arrange their domains: in groups, such as those of a client or a brand, with labels, left out of lists, kept
-- longer or shorter. What the configuration file says stands beside what was said by the API, and wins. Domains are
-- named, since much can be said before the first report comes. All of it is small.
CREATE TABLE domain_groups (
    name    text    NOT NULL,
    file    boolean NOT NULL, -- it stands in the configuration
    note    text    NOT NULL,
    domains text[]  NOT NULL, -- with their subdomains
    PRIMARY KEY (name, file)
);

-- NULL: nothing is said.
CREATE TABLE domain_settings (
    name          text    NOT NULL, -- of a domain, without its subdomains
    file          boolean NOT NULL,
    labels        text[],
    ignored       boolean,
    keep_rows     int, -- days; 0: for ever
    keep_raw      int,
    keep_failures int,
    PRIMARY KEY (name, file)
);
CREATE INDEX domain_settings_labels ON domain_settings USING gin (labels);

CREATE VIEW arranged_domains AS
SELECT name, coalesce(f.labels, a.labels, '{}') AS labels, coalesce(f.ignored, a.ignored, false) AS ignored,
    coalesce(f.keep_rows, a.keep_rows) AS keep_rows, coalesce(f.keep_raw, a.keep_raw) AS keep_raw, coalesce(f.keep_failures, a.keep_failures) AS keep_failures
FROM (SELECT * FROM domain_settings WHERE file) AS f
FULL JOIN (SELECT * FROM domain_settings WHERE NOT file) AS a USING (name);

CREATE VIEW arranged_groups AS
SELECT DISTINCT ON (name) name, file, note, domains
FROM domain_groups
ORDER BY name, file DESC;

-- Reports about an ignored domain are taken in like others, but it is in no list and no sum. Kept here as well, where every
-- machine of a database that is spread has it.
ALTER TABLE domains ADD COLUMN ignored boolean NOT NULL DEFAULT false;

-- A domain may have a horizon of its own, before or after that of all, which is of domain 0.
ALTER TABLE horizons ADD COLUMN domain_id bigint NOT NULL DEFAULT 0;
ALTER TABLE horizons DROP CONSTRAINT horizons_pkey;
ALTER TABLE horizons ADD PRIMARY KEY (name, domain_id);

-- Tokens may be for the domains that a group has when they are used.
ALTER TABLE tokens ADD COLUMN groups text[] NOT NULL DEFAULT '{}';

-- Names for sending addresses and networks, of a domain or of all.
CREATE TABLE network_labels (
    domain  text    NOT NULL, -- '': of all domains
    network cidr    NOT NULL,
    file    boolean NOT NULL,
    labels  text[]  NOT NULL,
    PRIMARY KEY (domain, network, file)
);
