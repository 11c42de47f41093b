package dmarc

import (
	"errors"
	"net/netip"
	"time"
)

// ErrForbidden is returned for what somebody may not do, where that they may
// not tells them nothing about what there is.
var ErrForbidden = errors.New("not allowed")

// A Role is something that may be done.
type Role string

// The roles. Admin includes read and upload, but not failures: failure reports
// tell about people, and who may read them is said by name.
const (
	RoleRead     Role = "read"     // read what reports tell
	RoleUpload   Role = "upload"   // bring reports
	RoleAdmin    Role = "admin"    // change things
	RoleFailures Role = "failures" // read failure reports
)

// Roles are all roles.
var Roles = []Role{RoleRead, RoleUpload, RoleAdmin, RoleFailures}

// A Token lets its bearer in. Its secret is shown once and never kept.
type Token struct {
	ID      int64
	Name    string // no two that are good have the same
	Roles   []Role
	Scope   Scope    // without what its groups have
	Groups  []string // of domains, which it is for as they are when it is used
	Created time.Time
	Expires time.Time // zero: never
	Revoked time.Time // zero: it is not
	Used    time.Time // the hour it was used last; zero: never
}

// Good tells whether the token opens anything at a time.
func (t *Token) Good(now time.Time) bool {
	return t.Revoked.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires))
}

// An AuditEntry is a change, or a reading of what may not be read unnoticed.
type AuditEntry struct {
	ID      int64
	At      time.Time
	Who     string
	Via     string     // how they were known: token, session, provider, proxy, command, open
	From    netip.Addr // invalid if there is none
	Action  string     // such as "token.create"
	Subject string     // what it was done to
	Detail  string     // for people
}

// An AuditQuery asks for the audit log, newest first.
type AuditQuery struct {
	Action string // "" for all
	Who    string // "" for all
	Period Period // zero: whenever
	Page
}
