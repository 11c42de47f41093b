-- Reports of which only what parsedmarc kept is known: the report itself, when it comes, is to be found to be the same.
CREATE INDEX reports_reduced ON reports (domain_id, begins_at) WHERE flags & 8589934592 <> 0;
