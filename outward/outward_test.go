package outward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestAddressesAreJudgedByWhatTheyStandFor(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "192.0.3.1": true, "2a00:1450:4001::1": true, "::ffff:8.8.8.8": true, "64:ff9b::8.8.8.8": true, "172.32.0.1": true,
		"100.128.0.1": true, "223.255.255.254": true,

		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"100.100.100.200": false, "0.0.0.0": false, "0.1.2.3": false, "192.0.0.192": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"192.0.2.1": false, "203.0.113.9": false, "168.63.129.16": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "fec0::1": false,
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false, "64:ff9b::127.0.0.1": false, "64:ff9b::a9fe:a9fe": false,
		"64:ff9b:1::8.8.8.8": false, "2002:7f00:1::": false, "2001::1": false, "2001:db8::1": false, "100::1": false, "4000::1": false, "2a00::1%eth0": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public %v", text, got)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestWhatIsAllowedIsAllowedInEveryForm(t *testing.T) {
	inside := Reach{}.With(netip.MustParsePrefix("10.0.0.0/8"))
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "8.8.8.8": true, "192.168.0.1": false, "127.0.0.1": false} {
		if got := inside.allows(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for host, reached := range map[string]string{"localhost": "127.0.0.1", "LOCALHOST.": "::1", "192.168.0.7": "192.168.0.7", "[fd00::1]": "fd00::1", "::ffff:10.0.0.1": "10.0.0.1"} {
		if r := (Reach{}).ToHost(host); !r.allows(netip.MustParseAddr(reached)) || r.allows(netip.MustParseAddr("192.168.0.8")) {
			t.Errorf("%s does not mean %s alone", host, reached)
		}
	}
	if r := (Reach{}).ToHost("internal.example"); r.allows(netip.MustParseAddr("10.0.0.1")) {
		t.Error("a name is no address")
	}
	if err := (Reach{All: true}).Check(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
}

// The address counts that is connected to, not the name and not the first address of a redirect.
func TestNoNameAndNoRedirectLeadsInside(t *testing.T) {
	reached := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer inside.Close()
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	for _, url := range []string{inside.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port} {
		if _, err := (&http.Client{Transport: Reach{}.Transport()}).Get(url); !errors.Is(err, ErrNotPublic) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if reached {
		t.Fatal("it was reached")
	}
	// One that may be reached sends on to one that may not: 127.0.0.1 is allowed, 127.0.0.2 is not.
	there, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("NOT RUN: this machine has no 127.0.0.2")
	}
	hidden := httptest.NewUnstartedServer(inside.Config.Handler)
	hidden.Listener = there
	hidden.Start()
	defer hidden.Close()
	door := httptest.NewServer(http.RedirectHandler(hidden.URL, http.StatusFound))
	defer door.Close()
	client := &http.Client{Transport: Reach{}.ToHost("127.0.0.1").Transport()}
	if _, err := client.Get(door.URL); !errors.Is(err, ErrNotPublic) || !strings.Contains(err.Error(), "127.0.0.2") || reached {
		t.Errorf("through a redirect: %v, reached %v", err, reached)
	}
	if _, err := client.Get(inside.URL); err != nil || !reached {
		t.Errorf("what is allowed: %v", err)
	}
}

func TestAProxyOfTheEnvironmentDecidesItself(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Host) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	if all := proxyAddresses(); !all[proxy.Listener.Addr().String()] || len(all) != 1 {
		t.Fatalf("%v", all)
	}
	transport := Reach{}.ByProxy()
	to, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport.Proxy = http.ProxyURL(to) // that of the environment is read once in a process
	conn, err := transport.DialContext(context.Background(), "tcp", proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := (&http.Client{Transport: transport}).Get("http://inside.example/"); err != nil || len(asked) != 1 {
		t.Errorf("%v, asked %v", err, asked)
	}
	if _, err := transport.DialContext(context.Background(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrNotPublic) {
		t.Errorf("past the proxy: %v", err)
	}
}
