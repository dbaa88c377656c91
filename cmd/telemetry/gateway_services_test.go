// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth"
	"github.com/telemetrygateway/telemetry/internal/observe"
)

// TestServiceFlagsThatMakeNoSense has what is wrong with the flags answered
// with one line that says what to do, before anything is written.
func TestServiceFlagsThatMakeNoSense(t *testing.T) {
	secret, empty := writeFile(t, "secret", canary+"\n"), writeFile(t, "empty", " \n")
	slip := writeFile(t, "services.yaml", "services:\n- client: a\n  servise: b\n")
	missing := filepath.Join(t.TempDir(), "missing")
	introspection := []string{"-oauth-introspection-url", "https://accounts.example.com/introspect"}
	issuer := []string{"-oauth-issuer", "https://accounts.example.com"}
	credentials := []string{"-oauth-client-id", "gateway", "-oauth-client-secret-file", secret}
	service := []string{"-count", "1", "-service", "pings"}
	token := []string{"-token-url", "https://accounts.example.com/token", "-client-id", "pings", "-client-secret-file", secret}
	for _, row := range []struct {
		command string
		args    [][]string
		want    string // that the line contains
	}{
		{"gateway", [][]string{{"-oauth-client-secret-file", secret}}, "-oauth-client-secret-file without a provider"},
		{"gateway", [][]string{{"-oauth-client-id", "gateway"}}, "-oauth-client-id without a provider"},
		{"gateway", [][]string{{"-oauth-audience", "us"}}, "-oauth-audience without a provider"},
		{"gateway", [][]string{{"-services", slip}}, "set -oauth-issuer or -oauth-introspection-url"},
		{"gateway", [][]string{issuer, credentials}, "set -oauth-introspection-url too"},
		{"gateway", [][]string{introspection}, "set -oauth-client-id and -oauth-client-secret-file"},
		{"gateway", [][]string{introspection, credentials[:2]}, "-oauth-client-secret-file"},
		{"gateway", [][]string{introspection, credentials[2:]}, "-oauth-client-id"},
		{"gateway", [][]string{introspection, credentials, {"-oauth-client-secret-file", missing}}, "-oauth-client-secret-file: open " + missing},
		{"gateway", [][]string{introspection, credentials, {"-oauth-client-secret-file", empty}}, "empty is empty"},
		{"gateway", [][]string{{"-oauth-issuer", "accounts.example.com"}}, "-oauth-issuer is not a URL"},
		{"gateway", [][]string{{"-oauth-issuer", "ftp://accounts.example.com"}}, "-oauth-issuer is not a URL"},
		{"gateway", [][]string{{"-oauth-introspection-url", "https://user:" + canary + "@host/"}, credentials}, "-oauth-introspection-url must not hold a user or a password"},
		{"gateway", [][]string{issuer, {"-oauth-scope", "telemetry_gateway::events"}}, "-oauth-scope: "},
		{"gateway", [][]string{issuer, {"-oauth-scope", "a::b::publish"}}, "-oauth-scope: "},
		{"gateway", [][]string{issuer, {"-services", missing}}, missing},
		{"gateway", [][]string{issuer, {"-services", slip}}, "line 3: field \"servise\" is not known"},
		{"send", [][]string{{"-count", "1"}}, "who sends?"},
		{"send", [][]string{service, token, {"-site-id", "site"}}, "set one or the other"},
		{"send", [][]string{service, token, {"-license", "key"}}, "set one or the other"},
		{"send", [][]string{{"-count", "1", "-site-id", "site"}, token}, "set -service too"},
		{"send", [][]string{{"-count", "1", "-site-id", "site", "-environment", "prod"}}, "-environment is for managed services"},
		{"send", [][]string{service, token[2:]}, "set -token-url"},
		{"send", [][]string{service, token[:2], token[4:]}, "set -client-id"},
		{"send", [][]string{service, token[:4]}, "set -client-secret-file"},
		{"send", [][]string{service, token[:4], {"-client-secret-file", missing}}, "-client-secret-file: open " + missing},
		{"send", [][]string{service, token[:4], {"-client-secret-file", empty}}, "empty is empty"},
		{"send", [][]string{service, token, {"-token-url", "accounts"}}, "token URL"},
		{"send", [][]string{service, token, {"-token-url", "http://accounts.example.com/token"}}, "use https"},
		{"send", [][]string{service, token, {"-gateway", "http://telemetry.example.com"}}, "use https"},
	} {
		args := []string{row.command}
		for _, a := range row.args {
			args = append(args, a...)
		}
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Chdir(t.TempDir())
			if row.command == "send" {
				args = append(args, "-ledger", "ledger")
			}
			code, stdout, stderr := runOnce(t.Context(), args...)
			if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, row.want) {
				t.Errorf("exit %d with %q and %q, want 2 with one line that has %q", code, stdout, stderr, row.want)
			}
			if strings.Contains(stderr, canary) {
				t.Error("the error shows the secret")
			}
			if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
				t.Errorf("something was written: %v, %v", left, err)
			}
		})
	}
}

// TestServiceWarnings has what works and is yet unlikely to be wanted in
// production.
func TestServiceWarnings(t *testing.T) {
	secret := writeFile(t, "secret", canary)
	for _, row := range []struct {
		name string
		args []string
		want string // that the log contains; nothing is a warning without it
	}{
		{"no provider", nil, `level=INFO msg="managed services are refused`},
		{"signatures for anybody", []string{"-oauth-issuer", "https://127.0.0.1:1"}, `level=WARN msg="access tokens that the provider issued for somebody else`},
		{"signatures for us", []string{"-oauth-issuer", "https://127.0.0.1:1", "-oauth-audience", "us"}, ""},
		{"introspection", []string{"-oauth-introspection-url", "http://127.0.0.1:1", "-oauth-client-id", "gateway", "-oauth-client-secret-file", secret}, ""},
		{"introspection in cleartext", []string{"-oauth-introspection-url", "http://accounts.example.com", "-oauth-client-id", "gateway", "-oauth-client-secret-file", secret}, `level=WARN msg="the provider of access tokens is asked without encryption`},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			c, err := parseGateway(row.args, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			new(provider).observe(&c.serviceOptions, observe.NewMetrics("", ""), logger)
			if _, err := identity.New(identity.Options{Services: c.serviceOptions}); err != nil {
				t.Fatal(err)
			}
			c.services.warn(logger)
			if got := log.String(); !strings.Contains(got, row.want) || strings.Count(got, "\n") != strings.Count(row.want, "level") {
				t.Errorf("the log is %q, want %q", got, row.want)
			}
			if strings.Contains(log.String(), canary) {
				t.Error("the log shows the secret")
			}
		})
	}
}

// TestProviderIsObserved has checks of tokens show in the metrics, and the
// provider's absence in a note.
func TestProviderIsObserved(t *testing.T) {
	for _, row := range []struct {
		name     string
		decides  string
		checks   []oauth.Check
		note     bool
		observed int // durations
	}{
		{"away", "introspection", []oauth.Check{{Method: "introspection", Result: "active"}, {Method: "introspection", Result: "unavailable"}}, true, 2},
		{"back", "introspection", []oauth.Check{{Method: "introspection", Result: "unavailable"}, {Method: "introspection", Result: "inactive"}}, false, 2},
		{"away, and a flood", "introspection", []oauth.Check{{Method: "introspection", Result: "unavailable"}, {Method: "introspection", Result: "limited"}, {Method: "signature", Result: "inactive"}, {Method: "cache", Result: "active"}}, true, 1},
		{"no keys, which introspection does not need", "introspection", []oauth.Check{{Method: "signature", Result: "unavailable"}, {Method: "introspection", Result: "active"}}, false, 1},
		{"no keys", "signature", []oauth.Check{{Method: "signature", Result: "unavailable"}}, true, 0},
		{"keys", "signature", []oauth.Check{{Method: "signature", Result: "unavailable"}, {Method: "signature", Result: "refused"}}, false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			metrics := observe.NewMetrics("", "")
			var p provider
			var o identity.ServiceOptions
			if row.decides == "introspection" {
				o.OAuth.IntrospectionURL = "https://accounts.example.com/introspect"
			}
			p.observe(&o, metrics, slog.New(slog.DiscardHandler))
			for _, c := range row.checks {
				c.Took = time.Millisecond
				o.OAuth.Checked(c)
			}
			o.Loaded(3, nil)
			o.Loaded(0, errors.New("gone"))
			if note := p.note(); (note != "") != row.note {
				t.Errorf("note %q", note)
			}
			w := httptest.NewRecorder()
			metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			last := row.checks[len(row.checks)-1]
			for _, want := range []string{
				fmt.Sprintf("telemetry_gateway_token_checks_total{method=%q,result=%q} 1\n", last.Method, last.Result),
				"telemetry_gateway_services_file_entries 3\n", "telemetry_gateway_services_file_errors_total 1\n",
			} {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("not found: %s", want)
				}
			}
			observed := 0
			_, count, _ := strings.Cut(w.Body.String(), "\ntelemetry_gateway_token_check_seconds_count ")
			_, _ = fmt.Sscan(count, &observed) // there is no line before the first
			if observed != row.observed {
				t.Errorf("%d durations of the provider, want %d", observed, row.observed)
			}
		})
	}
}

// TestReadyWithoutProvider has a gateway whose provider is not there stay
// ready, take events from others, and say what is not well.
func TestReadyWithoutProvider(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	g := startGateway(t, t.TempDir(), "127.0.0.1:0",
		"-oauth-introspection-url", away.URL, "-oauth-client-id", "gateway", "-oauth-client-secret-file", writeFile(t, "secret", canary))
	ready := func() string {
		t.Helper()
		r, err := http.Get(g.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("status %d, %v", r.StatusCode, err)
		}
		return string(b)
	}
	if got := ready(); got != "ok\n" {
		t.Errorf("before anyone asked: %q", got)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, g.url+"/telemetrygateway.v1.TelemetryGatewayService/RecordEvent",
		strings.NewReader(`{"metadata":{"identifier":{"managedService":{"serviceId":"pings"}}},"event":{"id":"a"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer token"}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a service gets status %d with %v", response.StatusCode, response.Header)
	}
	if got := ready(); !strings.HasPrefix(got, "ok, but the OAuth provider cannot be asked") {
		t.Errorf("afterwards: %q", got)
	}
	if code, stdout, stderr := runOnce(t.Context(), "send", "-gateway", g.url, "-site-id", "site", "-count", "1"); code != 0 {
		t.Errorf("an instance: %d, %s%s", code, stdout, stderr)
	}
}
