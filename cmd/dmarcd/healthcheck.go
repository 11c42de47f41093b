package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const healthcheckUsage = `Asks a running dmarcd whether it is ready: its database can be reached and its migrations are applied.
Exit status 0 if it is, else 1. Containers use it as their health check.`

// healthTime is how long the answer may take: less than orchestrators wait.
const healthTime = 4 * time.Second

func runHealthcheck(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("healthcheck", "", healthcheckUsage)
	fs.configFlag()
	url := fs.String("url", "", "`URL` to ask (default /readyz at the configured listen address)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *url == "" {
		cfg, err := env.loadConfig(*fs.config, valuesOnly)
		if err != nil {
			return err
		}
		*url = readyURL(cfg.Listen)
		if cfg.HTTP.CertFile != "" {
			*url = "https" + strings.TrimPrefix(*url, "http")
		}
	}
	return healthy(ctx, *url)
}

// readyURL returns where a dmarcd that listens on an address tells whether it
// is ready. One that listens on all addresses is asked over loopback.
func readyURL(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	if host == "" {
		host = "127.0.0.1"
	} else if ip := net.ParseIP(host); ip.Equal(net.IPv6unspecified) {
		host = "::1"
	} else if ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz"
}

// healthy returns nil if the address answers with a status of success.
func healthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError(fmt.Sprintf("--url %q is no URL; want http://127.0.0.1:8080/readyz", url))
	}
	// Not by a proxy: what is asked is this machine.
	// Its certificate is for the name that others call it by.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return fmt.Errorf("not ready: %s answers %s: %s", url, resp.Status, bytes.TrimSpace(body))
}
