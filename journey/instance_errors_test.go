// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// instanceTo starts an instance that exports to a gateway all the time.
func instanceTo(t *testing.T, gatewayURL string, env []string, flags ...string) *process {
	t.Helper()
	cmd := exec.Command(telemetry, append([]string{"instance", "-listen", "127.0.0.1:0", "-admin", "off", "-export-interval", "100ms", "-gateway", gatewayURL}, flags...)...)
	cmd.Dir, cmd.Env = t.TempDir(), append(withoutProxy(cleanEnv()), env...)
	return launch(t, cmd, "instance")
}

func withoutProxy(env []string) (kept []string) {
	for _, v := range env {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=")
		if !strings.HasSuffix(name, "_PROXY") {
			kept = append(kept, v)
		}
	}
	return kept
}

// mutation records one event, as clients in the field do.
const mutation = `{"query": "mutation RecordTelemetryEvents($events: [TelemetryEventInput!]!) { telemetry { recordEvents(events: $events) { alwaysNil } } }",
	"variables": {"events": [{"feature": "codeSearch", "action": "executed", "source": {"client": "journey"}, "parameters": {"version": 1}}]}}`

// recorded is what an instance answers when it has recorded the event.
const recorded = `{"data":{"telemetry":{"recordEvents":{"alwaysNil":null}}}}`

func recordEvent(t *testing.T, i *process) {
	t.Helper()
	if status, body := curl(t, "--noproxy", "*", "-H", "Content-Type: application/json", "-d", mutation, "http://"+i.address+"/.api/graphql"); status != "200" || strings.TrimSpace(body) != recorded {
		t.Fatalf("the instance answers %s: %s", status, body)
	}
}

// arrived reads what a gateway has published: how many events of the instance,
// and as whose.
func arrived(t *testing.T, dir string) (n int, source string) {
	t.Helper()
	for line := range readTopic(t, "sqlite://"+dir+"/data/topic.db") {
		n++
		source = line.Attributes["publisher.source"]
	}
	return n, source
}

const exported = `msg="export pass".* accepted=1 `

// certificate makes a certificate for the names, signed by itself, and returns
// its file and that of its key.
func certificate(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// gatewayWithTLS starts a gateway in dir that serves with a certificate.
func gatewayWithTLS(t *testing.T, dir, cert, key string) *process {
	t.Helper()
	cmd := exec.Command(telemetry, "gateway", "-listen", "127.0.0.1:0", "-admin", "off", "-tls-cert", cert, "-tls-key", key)
	cmd.Dir, cmd.Env = dir, cleanEnv()
	return launch(t, cmd, "gateway")
}

// A licence that the gateway does not take is an administrator's to see to, and
// no reason to keep the events back.
func TestInstanceLicenceRefused(t *testing.T) {
	_, public := issueLicence(t)
	licence, _ := issueLicence(t) // of another vendor
	dir := t.TempDir()
	g := startGateway(t, dir, "-license-keys", public)
	i := instanceTo(t, "http://"+g.address, nil, "-license", licence)
	recordEvent(t, i)
	i.await(t, `level=ERROR msg="the gateway refuses the licence; events are sent as those of an unlicensed instance`)
	i.await(t, exported)
	if n, source := arrived(t, dir); n != 1 || source != "unlicensed_instance" {
		t.Errorf("%d events arrived from %q, want one from an unlicensed instance", n, source)
	}
	if status, body := i.get(t, "/readyz"); status != http.StatusOK || !strings.Contains(body, "the gateway refuses the licence") {
		t.Errorf("/readyz: %d %s, want it to name the licence", status, body)
	}
	if strings.Contains(i.tail(1000), licence) {
		t.Error("the licence key is in the log")
	}
}

// Whatever is wrong between an instance and its gateway, the instance records,
// keeps the event, and says what is wrong and what to do.
func TestInstanceExportErrors(t *testing.T) {
	cert, key := certificate(t, "gateway.example.com")
	clear := startGateway(t, t.TempDir())
	withTLS := gatewayWithTLS(t, t.TempDir(), cert, key)
	mail := talker(t)
	forbidding := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "policy", http.StatusForbidden) }))
	defer forbidding.Close()
	closed := closedPort(t)

	for _, row := range []struct {
		name    string
		gateway string
		env     []string
		kind    string
		says    []string
	}{
		{"certificate of an unknown authority", "https://" + withTLS.address, nil, "insecure", []string{"authority that is not trusted here", "add that authority's certificate to the trusted roots"}},
		{"no such host", "https://gateway.invalid", nil, "unreachable", []string{"cannot find the gateway", "gateway.invalid"}},
		{"nothing listens", "http://" + closed, nil, "unreachable", []string{closed, "is it running, and is the address right"}},
		{"http to a TLS port", "http://" + withTLS.address, nil, "not_gateway", []string{"check the address, its port and its path, and whether it is http or https"}},
		{"https to a cleartext port", "https://" + clear.address, nil, "insecure", []string{"does not speak TLS on this port", "the right port"}},
		{"admin port", "http://" + clear.admin, nil, "not_gateway", []string{"what answers is not a gateway", "404", "check the address, its port"}},
		{"port of something else", "http://" + mail, nil, "not_gateway", []string{"does not speak HTTP", "check the port"}},
		{"a proxy that blocks everything", forbidding.URL, nil, "not_gateway", []string{"neither gRPC nor Connect gets through", "Connect over HTTP/1.1: ", "403 Forbidden"}},
		{"a proxy that opens no tunnel", "https://gateway.example.com", []string{"HTTPS_PROXY=" + forbidding.URL}, "unreachable", []string{strings.TrimPrefix(forbidding.URL, "http://"), "does not let calls through", "403 Forbidden"}},
		{"a proxy that is away", "https://gateway.example.com", []string{"HTTPS_PROXY=http://" + closed}, "unreachable", []string{"cannot reach the proxy", closed, "HTTPS_PROXY"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := instanceTo(t, row.gateway, row.env)
			recordEvent(t, i)
			line := i.await(t, `level=ERROR msg="export failed; events stay queued and are tried again" (.*)`)
			for _, text := range append(row.says, "kind="+row.kind, "request ID ") {
				if !strings.Contains(line, text) {
					t.Errorf("the log does not say %q:\n%s", text, line)
				}
			}
			if status, body := i.get(t, "/readyz"); status != http.StatusOK || !strings.Contains(body, "("+row.kind+")") {
				t.Errorf("/readyz: %d %s, want it to be ready and to say %s", status, body, row.kind)
			}
			// It goes on recording, and keeps what it has.
			recordEvent(t, i)
			i.signal(t, syscall.SIGTERM)
			if s := i.wait(t); s.ExitCode() != 0 {
				t.Errorf("the instance ended with %v", s)
			}
			stdout, stderr, exit := run(t, i.cmd.Dir, nil, "queue", "stats", "-db", "sqlite://data/instance.db")
			if pending := regexp.MustCompile(`(?i)pending\W+2\b`); exit != 0 || !pending.MatchString(stdout) {
				t.Errorf("queue stats: exit %d: %s%s, want 2 pending", exit, stdout, stderr)
			}
		})
	}
}

// With the authority's certificate, events arrive over TLS; and through a proxy
// that opens tunnels, where the instance itself cannot find the gateway.
func TestInstanceOverTLS(t *testing.T) {
	cert, key := certificate(t, "gateway.example.com")
	dir := t.TempDir()
	g := gatewayWithTLS(t, dir, cert, key)
	i := instanceTo(t, "https://"+g.address, nil, "-ca", cert)
	recordEvent(t, i)
	i.await(t, exported)

	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "gateway.example.com:443" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here) }()
		_, _ = io.Copy(here, there)
	}))
	defer proxy.Close()
	j := instanceTo(t, "https://gateway.example.com", []string{"HTTPS_PROXY=" + proxy.URL}, "-ca", cert)
	recordEvent(t, j)
	j.await(t, exported)
	if n, _ := arrived(t, dir); n != 2 {
		t.Errorf("%d events arrived, want 2", n)
	}
}

// A proxy that speaks HTTP/1.1 and nothing else carries no gRPC, and the events
// arrive all the same.
func TestInstanceBehindHTTP1(t *testing.T) {
	dir := t.TempDir()
	g := startGateway(t, dir)
	to := &url.URL{Scheme: "http", Host: g.address}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	var calls atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 { // and not the beginning of HTTP/2
			calls.Add(1)
		}
		pass.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	i := instanceTo(t, proxy.URL, nil)
	recordEvent(t, i)
	i.await(t, exported)
	if n, _ := arrived(t, dir); n != 1 || calls.Load() != 1 {
		t.Errorf("%d events arrived, in %d calls through the proxy, want 1 in 1", n, calls.Load())
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// talker is something that speaks first, and not HTTP.
func talker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 mail.example.com ESMTP\r\n")
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}
