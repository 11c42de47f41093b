package store_test

import (
	"reflect"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestMessagesAreKnownByTheirDigestsInTheirMailbox(t *testing.T) {
	s, _ := open(t)
	file := dmarc.Delivery{Mailbox: dmarc.MailboxImport, Digest: dmarc.Digest{1}, ReceivedAt: received, Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"}
	mail := dmarc.Delivery{Mailbox: dmarc.MailboxImport, Digest: dmarc.Digest{2}, ReceivedAt: received, Outcome: dmarc.OutcomeNotAReport, Place: dmarc.Place{UIDValidity: 1, UID: 1}}
	fates, err := s.Add(t.Context(), []dmarc.Delivery{file, mail})
	if err != nil {
		t.Fatal(err)
	}
	digests := []dmarc.Digest{{1}, {2}, {3}, {1}}
	want := map[dmarc.Digest]dmarc.Fate{{1}: {MessageID: fates[0].MessageID, Known: true, Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"}}
	if got, err := s.Known(t.Context(), dmarc.MailboxImport, digests); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, mailbox := range []string{dmarc.MailboxUpload, "nobody"} {
		if got, err := s.Known(t.Context(), mailbox, digests); err != nil || len(got) != 0 {
			t.Errorf("%s: %+v, %v", mailbox, got, err)
		}
	}
}
