package stream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/stream"
)

// records reads so many records of a topic, by partition.
func records(t *testing.T, n int, o ...kgo.Opt) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append(o, kgo.ConsumeTopics("dmarc"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// A stream goes to Kafka over TLS with a login. What brokers refuse is sent again, and the
// lines of a report stay in order in one partition.
func TestAStreamGoesToKafka(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	trust := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(4, "dmarc"), kfake.TLS(server.TLS),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "dmarcd", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	options := stream.KafkaOptions{Brokers: cluster.ListenAddrs(), Topic: "dmarc", TLS: trust, User: "dmarcd", Password: "secret", SASL: stream.SASLScramSHA512}
	sink := stream.NewKafka(options)
	if err := sink.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*stream.KafkaOptions){
		"a wrong password":       func(o *stream.KafkaOptions) { o.Password = "guess" },
		"a topic that is not":    func(o *stream.KafkaOptions) { o.Topic = "other" },
		"an unknown authority":   func(o *stream.KafkaOptions) { o.TLS = &tls.Config{ServerName: "example.com"} },
		"another name in TLS":    func(o *stream.KafkaOptions) { o.TLS = &tls.Config{RootCAs: roots, ServerName: "example.org"} },
		"a way that is not SASL": func(o *stream.KafkaOptions) { o.SASL = stream.SASLScramSHA256 },
	} {
		o := options
		change(&o)
		bad := stream.NewKafka(o)
		if err := bad.Check(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		} else if strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: the error tells the password: %v", what, err)
		}
	}

	// The brokers refuse for good once, in the middle of a pass.
	refused, requests := false, 0
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if requests++; requests != 3 || refused {
			return nil, nil, false
		}
		refused = true
		produce := r.(*kmsg.ProduceRequest)
		answer := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range produce.Topics {
			at := kmsg.NewProduceResponseTopic()
			at.Topic, at.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				one := kmsg.NewProduceResponseTopicPartition()
				one.Partition, one.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				at.Partitions = append(at.Partitions, one)
			}
			answer.Topics = append(answer.Topics, at)
		}
		return answer, nil, true
	})
	l := &log{}
	for range 150 {
		l.holding(20)
	}
	s := streamer(l, sink)
	passes := 0
	for err = s.Pass(t.Context(), dmarc.Lease{}); err != nil; err = s.Pass(t.Context(), dmarc.Lease{}) {
		if passes++; passes > 3 {
			t.Fatal(err)
		}
	}
	if passes == 0 || l.moved != at(150) {
		t.Errorf("%d passes failed, moved to %s", passes, l.moved)
	}
	want := 150 * 21
	got := map[string]bool{}
	last := map[string]string{} // of each report
	where := map[string]int32{} // the partition of each report
	read := 0
	for len(got) < want {
		if read++; read > 5 {
			t.Fatalf("%d events of %d", len(got), want)
		}
		got, last, where = map[string]bool{}, map[string]string{}, map[string]int32{}
		all := records(t, want, kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DialTLSConfig(trust), kgo.SASL(scram.Auth{User: "dmarcd", Pass: "secret"}.AsSha512Mechanism()))
		for _, r := range all {
			head := heads(t, append(slices.Clone(r.Value), '\n'))[0]
			report, _, _ := strings.Cut(head, " ")
			if string(r.Key) != report {
				t.Fatalf("key %q of %s", r.Key, head)
			}
			if p, known := where[report]; known && p != r.Partition {
				t.Fatalf("%s is in two partitions", report)
			}
			where[report] = r.Partition
			got[head], last[report] = true, head
		}
	}
	if last["1-150"] != "1-150 row 20" || len(where) != 150 {
		t.Errorf("the last of 1-150: %s, %d reports", last["1-150"], len(where))
	}

	// Who stops while brokers do not answer is not held up.
	cluster.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	l.holding(1)
	go func() { done <- s.Pass(ctx, dmarc.Lease{}) }()
	cancel()
	if err := <-done; err == nil || l.moved != at(150) {
		t.Errorf("%v, moved to %s", err, l.moved)
	}
}
