package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheckAsksWhereItListens(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080/readyz",
		"0.0.0.0:80":     "http://127.0.0.1:80/readyz",
		":80":            "http://127.0.0.1:80/readyz",
		"[::]:80":        "http://[::1]:80/readyz",
		"192.0.2.1:80":   "http://192.0.2.1:80/readyz",
		"localhost:80":   "http://localhost:80/readyz",
	} {
		if got := readyURL(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

func TestHealthcheckTellsByItsStatus(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/readyz":
			http.NotFound(w, r)
		case !ready:
			http.Error(w, "the database is \x1bgone", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	listening := world{vars: []string{"DMARCD_LISTEN=" + server.Listener.Addr().String()}}
	if got := listening.run(t, "healthcheck"); got != (result{}) {
		t.Errorf("ready: %+v", got)
	}
	if got := (world{}).run(t, "healthcheck", "--url", server.URL+"/other"); got.status != exitFailed || !strings.Contains(got.stderr, "404 Not Found") {
		t.Errorf("another path: %+v", got)
	}
	ready = false
	want := result{exitFailed, "", "dmarcd healthcheck: not ready: " + server.URL + "/readyz answers 503 Service Unavailable: the database is \\x1bgone\n"}
	if got := listening.run(t, "healthcheck"); got != want {
		t.Errorf("not ready:\n got %+v\nwant %+v", got, want)
	}
	server.Close()
	if got := listening.run(t, "healthcheck"); got.status != exitFailed || !strings.Contains(got.stderr, "connection refused") {
		t.Errorf("nobody there: %+v", got)
	}
}
