-- What advice needs to know of each source and day, and which keys sign. Both are made from the rows by a pass, off the
-- write path, as source_days is.
CREATE TABLE source_facts (
    domain_id bigint   NOT NULL,
    day       date     NOT NULL,
    kind      smallint NOT NULL, -- 0 an address or a network, 1 no readable address
    source    inet     NOT NULL, -- :: unless kind is 0; an address without a length is a single one
    facts     bytea    NOT NULL, -- cells and marks, packed
    PRIMARY KEY (domain_id, day, kind, source)
);

-- Signatures by domain and selector: the messages that carried them, by the reporter's verdict about the messages.
CREATE TABLE selector_days (
    domain_id    bigint   NOT NULL,
    day          date     NOT NULL,
    kind         smallint NOT NULL, -- 0 a key, 2 all the other keys
    signer       text     NOT NULL, -- d=
    selector     text     NOT NULL, -- s=; '' where reports do not tell
    passed       bigint   NOT NULL, -- messages whose signature with it is valid
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
    PRIMARY KEY (domain_id, day, kind, signer, selector)
);

ALTER TABLE domain_days ADD COLUMN reduced bigint NOT NULL DEFAULT 0; -- the value of changes that these two know of
CREATE INDEX domain_days_unreduced ON domain_days (domain_id, day) WHERE changes <> reduced;
