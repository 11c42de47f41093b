package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// problem turns an error of ours into a problem (RFC 9457). It alone knows
// which status means what. What the caller cannot know is logged, not told.
func (a *API) problem(err error, doing string) error {
	var refused *dmarc.Error
	var cannot dmarc.Refusal
	switch {
	case errors.As(err, &cannot):
		return huma.Error409Conflict(doing + ": " + cannot.Error())
	case errors.Is(err, dmarc.ErrForbidden):
		return huma.Error403Forbidden(doing + ": you have not the role that this needs")
	case errors.Is(err, dmarc.ErrNotFound):
		return huma.Error404NotFound(doing + ": not found")
	case errors.Is(err, dmarc.ErrBadCursor):
		return huma.Error400BadRequest("after: "+dmarc.ErrBadCursor.Error(), &huma.ErrorDetail{Location: "query.after", Message: "begin without it, and pass next as it was given"})
	case errors.Is(err, errOtherList):
		return huma.Error400BadRequest("after: "+errOtherList.Error(), &huma.ErrorDetail{Location: "query.after", Message: "goes on with the list it came from alone: keep its filters and sort as they were, or begin without it"})
	case errors.As(err, &refused) && (refused.Outcome == dmarc.OutcomeTooLarge || refused.Outcome == dmarc.OutcomeBomb):
		return huma.NewError(http.StatusRequestEntityTooLarge, refused.Error())
	case errors.As(err, &refused):
		return huma.Error422UnprocessableEntity(refused.Error())
	case errors.Is(err, context.Canceled):
		return huma.NewError(499, doing+": the request was given up")
	case errors.Is(err, context.DeadlineExceeded):
		a.opts.Log.Error(doing, "error", err)
		return huma.Error503ServiceUnavailable(doing + ": it took too long; try a shorter period")
	}
	a.opts.Log.Error(doing, "error", err)
	return huma.Error500InternalServerError(doing + ": something went wrong; the log says what")
}

// writeProblem answers with a problem outside of the operations.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}
