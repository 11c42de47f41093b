package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/oapi-codegen/runtime" // of the generated client

	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/internal/racetest"
)

// useOfClient is a program that asks for a list and a summary with the client that
// is generated.
const useOfClient = `package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	client, err := NewClientWithResponses(os.Args[1])
	if err != nil {
		panic(err)
	}
	limit := int64(10)
	list, err := client.ListDomainsWithResponse(context.Background(), &ListDomainsParams{Limit: &limit})
	if err != nil || list.JSON200 == nil {
		panic(fmt.Sprint(err, list))
	}
	summary, err := client.GetSummaryWithResponse(context.Background(), "a.example", &GetSummaryParams{})
	if err != nil || summary.JSON200 == nil {
		panic(fmt.Sprint(err, summary))
	}
	missing, err := client.GetChecksWithResponse(context.Background(), "b.example")
	if err != nil || missing.ApplicationproblemJSON404 == nil {
		panic(fmt.Sprint(err, missing))
	}
	fmt.Println(list.JSON200.Items[0].Totals.Messages, summary.JSON200.Domain, len(summary.JSON200.Series), missing.StatusCode())
}
`

// A client that oapi-codegen makes of openapi.json compiles, and reads what is
// answered.
func TestAGeneratedClientWorks(t *testing.T) {
	racetest.Calm(t)
	dir := t.TempDir()
	generated, program := filepath.Join(dir, "client.go"), filepath.Join(dir, "main.go")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Stderr = new(strings.Builder)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, cmd.Stderr)
		}
		return string(out)
	}
	run("tool", "oapi-codegen", "-generate", "types,client", "-package", "main", "-o", generated, "openapi.json")
	if err := os.WriteFile(program, []byte(useOfClient), 0o600); err != nil {
		t.Fatal(err)
	}
	// The files stand in a folder of this module for the compiler alone.
	here, err := filepath.Abs("client")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "client.go"): generated, filepath.Join(here, "main.go"): program}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api.New(&fake{}, nil, api.Options{}))
	defer server.Close()
	if got, want := run("run", "-overlay", list, "./client", server.URL), "10 a.example 3 404\n"; got != want {
		t.Errorf("the client read %q, want %q", got, want)
	}
}
