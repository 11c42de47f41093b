package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// How to log in at Kafka.
const (
	SASLPlain       = "plain"
	SASLScramSHA256 = "scram-sha-256"
	SASLScramSHA512 = "scram-sha-512"
)

// KafkaOptions say where a topic is.
type KafkaOptions struct {
	Brokers  []string // host:port
	Topic    string
	TLS      *tls.Config // nil: without encryption
	User     string      // "" for no login
	Password string
	SASL     string // how to log in
}

// Kafka sends events to a topic, as records whose key is the report, so that those of a
// report come in order. All replicas that are in sync have a record before it counts as sent.
type Kafka struct {
	opts   KafkaOptions
	client *kgo.Client // nil: not connected
}

// NewKafka returns a sink that connects as it is used.
func NewKafka(opts KafkaOptions) *Kafka { return &Kafka{opts: opts} }

// deliveryTime is how long a record is tried to be delivered in one pass.
const deliveryTime = time.Minute

func (k *Kafka) connect() (err error) {
	if k.client == nil {
		k.client, err = kgo.NewClient(k.options()...)
	}
	return err
}

func (k *Kafka) options() []kgo.Opt {
	o := []kgo.Opt{
		kgo.SeedBrokers(k.opts.Brokers...), kgo.ClientID("dmarcd"), kgo.DefaultProduceTopic(k.opts.Topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordDeliveryTimeout(deliveryTime), kgo.DisableClientMetrics(),
	}
	if k.opts.TLS != nil {
		o = append(o, kgo.DialTLSConfig(k.opts.TLS))
	}
	if k.opts.User != "" {
		o = append(o, kgo.SASL(k.login()))
	}
	return o
}

func (k *Kafka) login() sasl.Mechanism {
	auth := scram.Auth{User: k.opts.User, Pass: k.opts.Password}
	switch k.opts.SASL {
	case SASLScramSHA256:
		return auth.AsSha256Mechanism()
	case SASLScramSHA512:
		return auth.AsSha512Mechanism()
	}
	return plain.Auth{User: k.opts.User, Pass: k.opts.Password}.AsMechanism()
}

// Send returns once the topic has all events.
func (k *Kafka) Send(ctx context.Context, events []Event) error {
	if err := k.connect(); err != nil {
		return k.failed(err)
	}
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = &kgo.Record{Key: []byte(e.Key), Value: e.JSON}
	}
	client := k.client
	stop := context.AfterFunc(ctx, client.Close) // what is on its way would be waited for
	err := client.ProduceSync(ctx, records...).FirstErr()
	if !stop() {
		k.client = nil
		err = errors.Join(ctx.Err(), err)
	}
	return k.failed(err)
}

// Sync does nothing: Send has waited.
func (k *Kafka) Sync(context.Context) error { return nil }

// Close closes the connections.
func (k *Kafka) Close() error {
	if k.client != nil {
		k.client.Close()
		k.client = nil
	}
	return nil
}

// failed begins with a new producer the next time: the numbers of one that failed may not
// fit any more.
func (k *Kafka) failed(err error) error {
	if err == nil {
		return nil
	}
	k.Close()
	return fmt.Errorf("sending to the Kafka topic %s: %w", k.opts.Topic, err)
}

// Check connects, logs in and looks for the topic. Nothing is sent.
func (k *Kafka) Check(ctx context.Context) error {
	client, err := kgo.NewClient(append(k.options(), kgo.RequestRetries(0))...)
	if err != nil {
		return err
	}
	defer client.Close()
	r := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(k.opts.Topic)
	r.Topics = append(r.Topics, topic)
	answer, err := r.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("asking Kafka for the topic %s: %w", k.opts.Topic, err)
	}
	for _, t := range answer.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("the topic %s: %w", k.opts.Topic, err)
		}
	}
	return nil
}
