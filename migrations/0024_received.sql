-- The ledger is asked for what was received in a period, whatever came before and since.
CREATE INDEX messages_received ON messages (received_at);
