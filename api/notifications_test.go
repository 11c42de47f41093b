package api_test

import (
	"context"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func (f *fake) Notifications(_ context.Context, q dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error) {
	f.last = q
	e := dmarc.Event{ID: 3, At: day, Rule: dmarc.RuleSPFLimit, Domain: "a.example", Phase: dmarc.EventBegan, Problem: true, Title: "SPF <b>", Text: "text"}
	return []dmarc.Notification{
		{Event: e, Deliveries: []dmarc.DeliveryStatus{{Target: "ops", State: dmarc.DeliverySent, Attempts: 2, DoneAt: day.Add(time.Hour)}, {Target: "chat", State: dmarc.DeliveryWaiting, Error: "it answers 500", NextAt: day}}},
		{Event: dmarc.Event{ID: 2, At: day, Rule: dmarc.RuleMailbox, Subject: "reports", Phase: dmarc.EventOver}},
	}, "more", f.err
}
