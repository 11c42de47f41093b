package api

import (
	"context"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// NotificationItem is something that people were told, and what became of
// telling it.
type NotificationItem struct {
	ID         int64          `json:"id"`
	At         time.Time      `json:"at"`
	Rule       string         `json:"rule" enum:"new_source,pass_rate,reporter_stopped,record_changed,record_broke,verdict_changed,spf_limit,mailbox_unreachable,reports_refused"`
	Domain     *string        `json:"domain" doc:"null if it is about the installation"`
	Subject    *string        `json:"subject" doc:"what it is about: an address, a reporter, a check, a record, a mailbox; null for the domain itself"`
	Phase      string         `json:"phase" enum:"began,over,once"`
	Problem    bool           `json:"problem" doc:"somebody should look at it"`
	Title      string         `json:"title"`
	Text       string         `json:"text"`
	Deliveries []DeliveryItem `json:"deliveries" nullable:"false" doc:"one for each target that wants to hear of it"`
}

// DeliveryItem is how far telling a target is.
type DeliveryItem struct {
	Target   string     `json:"target"`
	State    string     `json:"state" enum:"waiting,sent,given_up"`
	Attempts int        `json:"attempts"`
	Error    *string    `json:"error" doc:"of the last attempt, if it failed"`
	NextAt   *time.Time `json:"next_attempt_at"`
	DoneAt   *time.Time `json:"done_at" doc:"when it was sent or given up"`
}

// notifications serves GET /notifications.
func (a *API) notifications(ctx context.Context, in *struct {
	Page
	Sometime
	OfDomain
	Rule    string `query:"rule" enum:"new_source,pass_rate,reporter_stopped,record_changed,record_broke,verdict_changed,spf_limit,mailbox_unreachable,reports_refused" doc:"only what this rule tells"`
	Phase   string `query:"phase" enum:"began,over,once" doc:"only what began, is over, or happened once"`
	Problem string `query:"problem" enum:"true,false" doc:"only what somebody should look at; false: nobody need"`
	Sort    string `query:"sort" enum:"at,-at" default:"-at" doc:"the first or the last first"`
}) (*List[NotificationItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Notifications(ctx, dmarc.NotificationQuery{
		Domain: aLabel(in.OfDomain.Domain), Subdomains: in.Subdomains, Rule: dmarc.NotifyRule(in.Rule), Phase: in.Phase, Problem: choice(in.Problem),
		Period: in.Sometime.period, Page: in.sorted(in.Sort),
	})
	if err != nil {
		return nil, a.problem(err, "listing notifications")
	}
	return listOf(list, next, func(n *dmarc.Notification) NotificationItem {
		item := NotificationItem{ID: n.ID, At: n.At, Rule: string(n.Rule), Domain: orNull(n.Domain), Subject: orNull(n.Subject), Phase: string(n.Phase),
			Problem: n.Problem, Title: n.Title, Text: n.Text, Deliveries: []DeliveryItem{}}
		for _, d := range n.Deliveries {
			item.Deliveries = append(item.Deliveries, DeliveryItem{d.Target, string(d.State), d.Attempts, orNull(d.Error), timeOrNull(d.NextAt), timeOrNull(d.DoneAt)})
		}
		return item
	}), nil
}
