-- What is asked about one domain must not depend on how many others there are.
CREATE INDEX domain_days_domain ON domain_days (domain_id, day);
