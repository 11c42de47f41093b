package ingest

import "time"

// SetClock gives a mailbox another clock.
func (m *IMAP) SetClock(now func() time.Time) { m.now = now }
