-- What is older is no longer kept. Days before a horizon have no rows, but they still have totals, until those go as well.
CREATE TABLE horizons (
    name text PRIMARY KEY, -- rows, raw_messages or totals
    day  date NOT NULL     -- the first one that is kept
);
CREATE INDEX reports_day ON reports (domain_id, day);
CREATE INDEX failure_reports_received ON failure_reports (received_at);
