package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/stream"
)

// A streamTo is another system that is told of every report and its rows.
type streamTo struct {
	Name     string
	To       string
	From     string // start or now
	Domains  []string
	User     string // at Kafka
	Password secret
	SASL     string
	CAFile   string
	CertFile string
	KeyFile  string

	passwordFile string
	listed
}

// Where a stream that is new begins.
const (
	fromStart = "start"
	fromNow   = "now"
)

func newStream() *streamTo {
	s := &streamTo{Domains: []string{}}
	s.From, s.SASL = fromStart, stream.SASLScramSHA512
	s.settings = []*setting{
		{key: "name", doc: "name of the stream, for good: by it is known how far it has come", example: `"siem"`, required: true, value: textValue(&s.Name, targetName)},
		{key: "to", doc: "where to: the path of a file, - for standard output, kafka://HOST:PORT,HOST:PORT/TOPIC, or kafkas:// with TLS", example: `"kafkas://kafka.example.com:9093/dmarc"`, secret: true, required: true, value: textValue(&s.To, streamTarget)},
		{key: "from", doc: "where the stream begins when it is new: with all that is stored (start), or with what changes from then on (now)", value: choiceValue(&s.From, fromStart, fromNow)},
		{key: "domains", doc: "domains to tell of, with their subdomains; empty: all", example: `["example.com"]`, value: listValue(&s.Domains, readDomain)},
		{key: "user", doc: "user to log in at Kafka with SASL; empty: no login", example: `"dmarcd"`, value: textValue(&s.User, nil)},
		{key: "password", doc: "password of the user", example: `"secret"`, secret: true, value: secretValue(&s.Password, nil)},
		{key: "password_file", doc: "file that holds the password", example: `"/etc/dmarcd/kafka_password"`, value: textValue(&s.passwordFile, nil)},
		{key: "sasl", doc: "how to log in", value: choiceValue(&s.SASL, stream.SASLScramSHA512, stream.SASLScramSHA256, stream.SASLPlain)},
		{key: "ca_file", doc: "certificates (PEM) of the authorities that brokers are believed by; empty: those of the system", example: `"/etc/dmarcd/kafka_ca.pem"`, value: textValue(&s.CAFile, nil)},
		{key: "cert_file", doc: "certificate (PEM) to show to brokers; empty: none", example: `"/etc/dmarcd/kafka.pem"`, value: textValue(&s.CertFile, nil)},
		{key: "key_file", doc: "its key (PEM)", example: `"/etc/dmarcd/kafka-key.pem"`, value: textValue(&s.KeyFile, nil)},
	}
	s.in("stream")
	return s
}

// standardOutput is where a stream goes in place of a file.
const standardOutput = "-"

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// readKafka takes the address of a topic apart. It is none if there are no brokers.
func readKafka(text string) (brokers []string, topic string, encrypted bool, err error) {
	rest, plain := strings.CutPrefix(text, "kafka://")
	if !plain {
		if rest, encrypted = strings.CutPrefix(text, "kafkas://"); !encrypted {
			return nil, "", false, nil
		}
	}
	hosts, topic, _ := strings.Cut(rest, "/")
	if !topicName.MatchString(topic) {
		return nil, "", false, errors.New("must end in the name of a topic, as in kafkas://kafka.example.com:9093/dmarc")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "9092")
		}
		if err := hostPort(host); err != nil || strings.HasPrefix(host, ":") {
			return nil, "", false, errors.New("must name brokers, as in kafkas://kafka1.example.com:9093,kafka2.example.com:9093/dmarc; user and password have settings of their own")
		}
		brokers = append(brokers, host)
	}
	return brokers, topic, encrypted, nil
}

// streamTarget checks where a stream goes.
func streamTarget(text string) error {
	if text == standardOutput {
		return nil
	}
	if strings.Contains(text, "://") {
		brokers, _, _, err := readKafka(text)
		if err == nil && brokers == nil {
			err = errors.New("must be the path of a file, -, kafka://… or kafkas://…")
		}
		return err
	}
	if directory(text) != nil {
		return errors.New(`must be the whole path of a file, such as "/var/lib/dmarcd/reports.ndjson", -, kafka://… or kafkas://…`)
	}
	return nil
}

// checkStreams looks at what the settings of streams say about each other.
func (l *loader) checkStreams() {
	names, files := map[string]bool{}, map[string]bool{}
	for _, s := range l.cfg.Streams {
		switch {
		case s.Name == "" && !s.setting("name").refused:
			l.wrong(s.at("name"), "is missing; give each stream a name")
		case s.Name != "" && names[s.Name]:
			l.wrong(s.at("name"), "another stream has the name "+shown(s.Name)+" already; give each its own")
		}
		names[s.Name] = true
		if s.setting("to").refused {
			continue
		}
		if s.To == "" {
			l.wrong(s.at("to"), "is missing; write the path of a file, -, kafka://… or kafkas://…")
			continue
		}
		brokers, _, encrypted, _ := readKafka(s.To)
		if brokers == nil {
			if files[s.To] {
				l.wrong(s.at("to"), "another stream goes there already; give each its own")
			}
			files[s.To] = true
		}
		for key, given := range map[string]bool{"user": s.User != "", "password": !s.Password.empty() || s.passwordFile != ""} {
			if given && brokers == nil {
				l.wrong(s.at(key), "has no use but for Kafka; remove it")
			}
		}
		for key, given := range map[string]bool{"ca_file": s.CAFile != "", "cert_file": s.CertFile != "", "key_file": s.KeyFile != ""} {
			if given && !encrypted {
				l.wrong(s.at(key), "has no use but with kafkas://; remove it, or write that in to")
			}
		}
		switch {
		case brokers == nil:
		case s.User != "" && s.Password.empty() && s.passwordFile == "":
			l.wrong(s.at("user"), "is given, but there is no password; give password_file or password")
		case s.User == "" && (!s.Password.empty() || s.passwordFile != ""):
			l.wrong(s.at("password"), "has no use without user; give that as well")
		case s.User != "" && s.SASL == stream.SASLPlain && !encrypted:
			l.wrong(s.at("sasl"), "sends the password in plain text over the network; write kafkas:// in to, or use scram-sha-512")
		case encrypted:
			if _, err := s.tls(); err != nil {
				l.wrong(s.at("ca_file"), err.Error())
			}
		}
	}
}

// tls returns how the stream speaks TLS.
func (s *streamTo) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		text, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM format", s.CAFile)
		}
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		return nil, errors.New("cert_file and key_file need each other; name both")
	}
	if s.CertFile != "" {
		// Read again for each connection: it may have been renewed.
		pair := &certificate{certFile: s.CertFile, keyFile: s.KeyFile}
		if _, err := pair.get(nil); err != nil {
			return nil, fmt.Errorf("cannot use the certificate: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(nil) }
	}
	return c, nil
}

// sink returns where the stream goes. Nothing is opened yet.
func (s *streamTo) sink(stdout io.Writer) (stream.Sink, error) {
	if s.To == standardOutput {
		return &stream.Lines{W: stdout}, nil
	}
	brokers, topic, encrypted, err := readKafka(s.To)
	if err != nil {
		return nil, err
	}
	if brokers == nil {
		return &stream.File{Path: s.To}, nil
	}
	o := stream.KafkaOptions{Brokers: brokers, Topic: topic, User: s.User, Password: s.Password.reveal(), SASL: s.SASL}
	if encrypted {
		if o.TLS, err = s.tls(); err != nil {
			return nil, err
		}
	}
	return stream.NewKafka(o), nil
}

// scope is the domains that the stream tells of.
func (s *streamTo) scope() dmarc.Scope {
	if len(s.Domains) == 0 {
		return dmarc.Everything
	}
	return dmarc.ScopeOf(s.Domains...)
}
