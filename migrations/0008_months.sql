-- Long periods and many domains: a line for each domain and month, the sum of its days.
CREATE TABLE domain_months (
    month        date    NOT NULL, -- its first day
    domain_id    bigint  NOT NULL,
    dated        boolean NOT NULL,
    rows         bigint  NOT NULL,
    messages     bigint  NOT NULL,
    dmarc_pass   bigint  NOT NULL,
    dkim_aligned bigint  NOT NULL,
    spf_aligned  bigint  NOT NULL,
    none         bigint  NOT NULL,
    quarantine   bigint  NOT NULL,
    reject       bigint  NOT NULL,
    pass         bigint  NOT NULL,
    unstated     bigint  NOT NULL,
    estimated    bigint  NOT NULL,
    reports      bigint  NOT NULL,
    PRIMARY KEY (month, domain_id, dated)
);
CREATE INDEX domain_months_domain ON domain_months (domain_id, month);
INSERT INTO domain_months
SELECT date_trunc('month', day), domain_id, dated, sum(rows), sum(messages), sum(dmarc_pass), sum(dkim_aligned), sum(spf_aligned),
    sum(none), sum(quarantine), sum(reject), sum(pass), sum(unstated), sum(estimated), sum(reports)
FROM domain_days
GROUP BY 1, 2, 3;

-- Lists of one domain must not read those of others.
CREATE INDEX tls_reports_of_domain ON tls_reports (domain_id, begins_at DESC, id DESC);
CREATE INDEX failure_reports_of_domain ON failure_reports (domain_id, arrived_at DESC, id DESC);
