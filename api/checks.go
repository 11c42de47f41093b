package api

import (
	"context"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

func (a *API) checks(ctx context.Context, in *struct{ Domain }) (*struct{ Body *records.Result }, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	result, err := a.store.Look(ctx, aLabel(in.Domain.Domain))
	if err != nil {
		return nil, a.problem(err, "reading checks")
	}
	return &struct{ Body *records.Result }{result}, nil
}

// RecordChangeItem is a set of DNS records that changed.
type RecordChangeItem struct {
	SeenAt time.Time `json:"seen_at" doc:"when the change was seen"`
	Name   string    `json:"name"`
	Type   string    `json:"type"`
	Before []string  `json:"before" nullable:"false" doc:"empty if there were no such records"`
	After  []string  `json:"after" nullable:"false"`
}

func (a *API) recordChanges(ctx context.Context, in *struct {
	Domain
	Page
	Sometime
	Sort string `query:"sort" enum:"seen_at,-seen_at" default:"-seen_at" doc:"the first or the last first"`
}) (*List[RecordChangeItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.RecordChanges(ctx, aLabel(in.Domain.Domain), dmarc.ChangeQuery{Period: in.Sometime.period, Page: in.sorted(in.Sort)})
	if err != nil {
		return nil, a.problem(err, "listing changes of records")
	}
	return listOf(list, next, func(c *dmarc.RecordChange) RecordChangeItem { return RecordChangeItem(*c) }), nil
}
