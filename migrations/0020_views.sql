-- What other programs may read by SQL, such as Grafana: views whose names and columns stay as they are. docs/sql.md tells what
-- each means, and a test holds it against them. What changes comes as v2. Days are days in UTC.

CREATE VIEW v1_domain_days AS
SELECT t.day, d.name AS domain, t.messages, t.dmarc_pass AS passed, t.dkim_aligned, t.spf_aligned,
    t.none AS delivered, t.quarantine AS quarantined, t.reject AS rejected, t.estimated, t.reports
FROM domain_days t
JOIN domains d ON d.id = t.domain_id
WHERE t.dated;

CREATE VIEW v1_source_days AS
SELECT t.day, d.name AS domain,
    CASE t.kind WHEN 0 THEN 'address' WHEN 1 THEN 'unreadable' ELSE 'others' END AS kind,
    CASE t.kind WHEN 0 THEN t.source END AS source,
    t.messages, t.dmarc_pass AS passed, t.dkim_aligned, t.spf_aligned, t.none AS delivered, t.quarantine AS quarantined, t.reject AS rejected
FROM source_days t
JOIN domains d ON d.id = t.domain_id
WHERE t.dated;

CREATE VIEW v1_reporter_days AS
SELECT t.day, d.name AS domain, r.org_name AS reporter,
    sum(t.messages)::bigint AS messages,
    coalesce(sum(t.messages) FILTER (WHERE t.verdict & 3 <> 0), 0)::bigint AS passed,
    sum(t.reports)::bigint AS reports
FROM reporter_days t
JOIN reporters r ON r.domain_id = t.domain_id AND r.id = t.reporter_id
JOIN domains d ON d.id = t.domain_id
WHERE t.dated
GROUP BY t.day, d.name, r.org_name;

CREATE VIEW v1_sources AS
SELECT d.name AS domain, t.source,
    CASE t.class WHEN 1 THEN 'own' WHEN 2 THEN 'service' WHEN 3 THEN 'forwarder' WHEN 4 THEN 'suspicious' ELSE 'unknown' END AS class,
    CASE t.confidence WHEN 0 THEN 'guess' WHEN 1 THEN 'likely' ELSE 'sure' END AS confidence
FROM domain_sources t
JOIN domains d ON d.id = t.domain_id;

CREATE VIEW v1_verdicts AS
SELECT d.name AS domain, v.computed_at, v.verdict, v.policy, v.target, v.next, v.sentence, v.blockers, v.loss_a_day,
    v.own AS own_messages, v.passing AS own_passed
FROM verdicts v
JOIN domains d ON d.id = v.domain_id
WHERE v.computed_at IS NOT NULL;

CREATE VIEW v1_tls_reports AS
SELECT t.begins_at, t.ends_at, d.name AS domain, r.org_name AS reporter, t.successful, t.failed
FROM tls_reports t
JOIN reporters r ON r.domain_id = t.domain_id AND r.id = t.reporter_id
JOIN domains d ON d.id = t.domain_id
WHERE t.active;

CREATE VIEW v1_messages AS
SELECT m.id, m.received_at, b.name AS mailbox, m.outcome, m.reason, m.size
FROM messages m
JOIN mailboxes b ON b.id = m.mailbox_id;

CREATE VIEW v1_notifications AS
SELECT id, at, rule, domain, subject, phase, problem, title, body AS text
FROM events;
