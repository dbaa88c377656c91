// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

// A product is the example service, started as a developer would.
type product struct {
	*authority
	binary string
	client glewlwyd.Client
	secret string // its file

	mu     sync.Mutex
	tokens []string // all that it got
}

// newProduct builds the example's page with npm and the example itself with
// that page in it, and leaves the source as it is.
func newProduct(t *testing.T) *product {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"web", "examples/service/page"} {
		copySource(t, filepath.Join(dir, folder), filepath.Join("..", folder))
		for _, args := range [][]string{{"ci", "--no-update-notifier"}, {"run", "build"}} {
			npm := exec.Command("npm", args...)
			npm.Dir = filepath.Join(dir, folder)
			if out, err := npm.CombinedOutput(); err != nil {
				t.Fatalf("npm %s in %s: %v (it needs the npm registry)\n%s", args[0], folder, err, out)
			}
		}
	}
	const script = "examples/service/page/public/app.js"
	source, err := filepath.Abs(filepath.Join("..", script))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, script)}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	p := &product{authority: startAuthority(t), binary: filepath.Join(dir, "service")}
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", p.binary, "../examples/service")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	p.client = p.service(t, "polls-client")
	p.secret = secretFile(t, p.client)
	return p
}

// copySource copies a folder without what npm made of it.
func copySource(t *testing.T, to, from string) {
	t.Helper()
	made := []string{"node_modules", "dist", "build", "app.js"}
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(made, entry.Name()) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(made, entry.Name()):
			return nil
		}
		name, err := filepath.Rel(from, path)
		if err != nil || entry.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, name), 0o755))
		}
		content, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(to, name), content, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// gatewayFor starts a gateway that knows the product under the name polls.
func (p *product) gatewayFor(t *testing.T, dir string) *process {
	t.Helper()
	write(t, filepath.Join(dir, "services.yaml"), `services: [{client: polls-client, service: polls, environments: [journey]}]`)
	flags := append(p.introspection(t, p.IntrospectionURL()), "-oauth-issuer", p.Issuer(), "-services", "services.yaml")
	return startGateway(t, dir, flags...)
}

// start starts the product.
func (p *product) start(t *testing.T, dir, gateway string, flags ...string) *process {
	t.Helper()
	cmd := exec.Command(p.binary, append([]string{
		"-listen", "127.0.0.1:0", "-gateway", gateway, "-service", "polls", "-environment", "journey",
		"-token-url", p.tokenURL(t), "-client-id", p.client.ID, "-client-secret-file", p.secret, "-audience", ourAudience,
	}, flags...)...)
	cmd.Dir, cmd.Env = dir, cleanEnv()
	return launch(t, cmd, "service")
}

// tokenURL is the provider's, seen through a proxy that takes down the tokens.
func (p *product) tokenURL(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(p.TokenURL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host}) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var got struct {
				Token string `json:"access_token"`
			}
			if json.Unmarshal(body, &got) == nil && got.Token != "" {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.tokens = append(p.tokens, got.Token)
			}
			return err
		},
	})
	t.Cleanup(proxy.Close)
	return proxy.URL + target.Path
}

// stop ends the product as a platform does and returns its log.
func (p *product) stop(t *testing.T, s *process, exit int) string {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	if got := s.wait(t).ExitCode(); got != exit {
		t.Errorf("the service ended with %d, not %d:\n%s", got, exit, s.tail(20))
	}
	return s.tail(1 << 20)
}

// nothingSecret fails if a text has a secret, a token, a cookie or what somebody
// wrote.
func (p *product) nothingSecret(t *testing.T, place, text string) {
	t.Helper()
	p.secrets.none(t, place, text)
	for _, written := range []string{"canary-session", "once and for all", "Tabulators", "Blanks in fours", "Whatever gofmt says"} {
		if strings.Contains(text, written) {
			t.Errorf("%s has %q", place, written)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tokens) == 0 {
		t.Error("the service got no token")
	}
	for _, token := range p.tokens {
		for _, part := range strings.Split(token, ".")[1:] {
			if strings.Contains(text, part) {
				t.Errorf("%s has a token", place)
			}
		}
	}
}

// TestService builds the example as it is in the repository, and proves what its
// README says.
func TestService(t *testing.T) {
	chromium, folder := installBrowser(t)
	p := newProduct(t)
	t.Run("page", func(t *testing.T) { testServicePage(t, p) })
	t.Run("stops", func(t *testing.T) { testServiceStops(t, p) })
	t.Run("browser", func(t *testing.T) { testServiceInBrowser(t, p, chromium, folder) })
}

// testServiceStops takes the gateway away from the example. What is recorded
// meanwhile is lost from memory, and it says what; from a queue it arrives after
// the next start. Either way the product goes on, and stops when it is told to.
func testServiceStops(t *testing.T, p *product) {
	for _, row := range []struct {
		name    string
		flags   []string
		exit    int
		says    string
		arrives []string
	}{
		{"from memory", nil, 1, `msg="events are lost, because they could not be sent" events=2 of="poll.link/copied 1, poll.vote/counted 1"`, nil},
		{"from a queue", []string{"-db", "service.db"}, 0, `msg="events are kept, and sent after the next start" events=2 in=service.db`, []string{"poll.link/copied", "poll.vote/counted"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s := p.start(t, dir, "http://"+closedPort(t), row.flags...)
			_, list := s.get(t, "/api/polls")
			var polls []struct{ ID string }
			if err := json.Unmarshal([]byte(list), &polls); err != nil {
				t.Fatal(err)
			}
			page := "http://" + s.address
			if status, body := curl(t, "-X", "PUT", "-d", `{"answer":1}`, page+"/api/polls/"+polls[0].ID+"/vote"); status != "200" {
				t.Errorf("vote: %s %s", status, body)
			}
			if status, body := curl(t, "-H", "Content-Type: application/json", "-d", `{"client":{"name":"test"},"events":[{"feature":"poll.link","action":"copied"}]}`,
				page+"/telemetryintake.v1.TelemetryIntakeService/RecordEvents"); status != "200" {
				t.Errorf("an event of the page: %s %s", status, body)
			}
			if log := p.stop(t, s, row.exit); !strings.Contains(log, row.says) {
				t.Errorf("it did not say %s:\n%s", row.says, log)
			}

			g := p.gatewayFor(t, dir)
			s = p.start(t, dir, "http://"+g.address, row.flags...)
			if len(row.arrives) > 0 {
				await(t, dir, len(row.arrives))
			}
			p.stop(t, s, 0)
			var arrived []string
			for line := range readTopic(t, "sqlite://"+dir+"/data/topic.db") {
				arrived = append(arrived, line.Attributes["event.feature"]+"/"+line.Attributes["event.action"])
			}
			slices.Sort(arrived)
			if !slices.Equal(arrived, row.arrives) {
				t.Errorf("%q arrived, not %q", arrived, row.arrives)
			}
		})
	}
}

// testServicePage asks the example for its page: what a browser may do with it is
// next to nothing, and a cookie that came by https never goes by http.
func testServicePage(t *testing.T, p *product) {
	s := p.start(t, t.TempDir(), "http://"+closedPort(t), "-public-url", "https://polls.example.com")
	r, err := http.Get("http://" + s.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	html, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if policy := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("policy %q", policy)
	}
	if inline := regexp.MustCompile(`<style|\s(style|on\w+)=|<script>`).Find(html); inline != nil {
		t.Errorf("the page has %s", inline)
	}
	cookies := r.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || !cookies[0].Secure || cookies[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("cookies %v", cookies)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		if status, body := curl(t, "-H", "Sec-Fetch-Site: "+site, "-d", `{"question":"q","answers":["a","b"]}`, "http://"+s.address+"/api/polls"); status != "403" {
			t.Errorf("a page of another site asks: %s %s", status, body)
		}
	}
	p.stop(t, s, 0)
}

// await returns when a gateway in dir has published so many events, or is late.
func await(t *testing.T, dir string, events int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tail := exec.CommandContext(ctx, telemetry, "tail", "-from-start", "-follow", "-limit", strconv.Itoa(events))
	tail.Dir, tail.Env = dir, cleanEnv()
	if err := tail.Run(); err != nil {
		t.Errorf("%d events have not arrived: %v", events, err)
	}
}
