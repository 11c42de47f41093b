package dmarc

import "time"

// A RecordChange is a set of DNS records that was seen to have changed.
type RecordChange struct {
	SeenAt time.Time // when it was seen; it happened some time since the look before
	Name   string
	Type   string   // "TXT"
	Before []string // none if there were no such records
	After  []string
}
