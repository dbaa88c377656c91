// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/queue"
)

// In the modes local and off nothing is sent, not even to connect; what they do
// not allow leaves the queue, and the next pass goes by the next mode.
func TestModes(t *testing.T) {
	for _, mode := range []queue.Mode{queue.Local, queue.Off} {
		t.Run(mode.String(), func(t *testing.T) {
			q := newQueue(t)
			add(t, q, 0, 100)
			s := serve(t)
			e := newExporter(t, q, s.url, Options{})
			q.SetPolicy(queue.Policy{Mode: mode})
			for range 2 {
				if p := export(t, e); p.Sent != 0 || p.Mode != mode || !p.Complete || p.Identity != "" {
					t.Errorf("pass is %+v", p)
				}
			}
			if s.connections.Load() != 0 {
				t.Error("it connected")
			}
			wantStats(t, q, queue.Stats{Recorded: 100, Filtered: 100})
			q.SetPolicy(queue.Policy{Mode: queue.All})
			add(t, q, 100, 200)
			export(t, e)
			wantEvents(t, s.received(t), 100, 200)
		})
	}
}

// A stricter policy holds from the next call on, also in the middle of a pass.
func TestModeChangesDuringPass(t *testing.T) {
	for _, tt := range []struct {
		policy queue.Policy
		most   int
	}{
		{queue.Policy{Mode: queue.Off}, 200},
		{queue.Policy{Mode: queue.Limited, Features: []string{"other"}}, 200},
		{queue.Policy{Mode: queue.Limited, Features: []string{"codeSearch"}}, 1000},
	} {
		q := newQueue(t)
		add(t, q, 0, 1000)
		s := serve(t)
		calls := 0
		s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if calls++; calls == 2 {
				q.SetPolicy(tt.policy)
			}
			pass.ServeHTTP(w, r)
		})
		p := export(t, newExporter(t, q, s.url, Options{Batch: 100}))
		if p.Accepted != tt.most || p.Mode != tt.policy.Mode || !p.Complete {
			t.Errorf("%v: pass is %+v", tt.policy.Mode, p)
		}
		wantEvents(t, s.received(t), 0, tt.most)
		wantStats(t, q, queue.Stats{Recorded: 1000, Exported: int64(tt.most), Filtered: int64(1000 - tt.most)})
	}
}

// So does a shorter list of private metadata, although events were read by the
// longer one.
func TestAllowListChangesDuringPass(t *testing.T) {
	allow, err := queue.ParseAllowed("codeSearch::executed::secret")
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(t)
	q.SetPolicy(queue.Policy{Allow: allow})
	for n := range 1000 {
		e := event(n)
		e.Parameters.PrivateMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"secret": structpb.NewStringValue("secret")}}
		if err := q.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t)
	calls := 0
	s.intercept(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if calls++; calls == 2 {
			q.SetPolicy(queue.Policy{})
		}
		pass.ServeHTTP(w, r)
	})
	if p := export(t, newExporter(t, q, s.url, Options{Batch: 100})); p.Accepted != 1000 || !p.Complete {
		t.Errorf("pass is %+v", p)
	}
	page, err := q.List(t.Context(), queue.Exported, 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	secrets := 0
	for _, item := range page.Items {
		if item.Event.GetParameters().GetPrivateMetadata() != nil {
			secrets++
		}
	}
	if secrets > 200 {
		t.Errorf("%d events left with their private metadata, want at most those of two calls", secrets)
	}
	wantEvents(t, s.received(t), 0, 1000)
}

// A licence that the gateway refuses is reported once, and does not end export;
// its replacement is taken without a restart.
func TestLicenceRefused(t *testing.T) {
	q := newQueue(t)
	s := serve(t)
	id := Identity{LicenseKey: s.unknown, InstanceID: "site", ExternalURL: "https://site.example.com"}
	var log bytes.Buffer
	e := newExporter(t, q, s.url, Options{Batch: 100, Identity: func() Identity { return id }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	sent := 0
	pass := func(events int) Pass {
		add(t, q, sent, sent+events)
		sent += events
		p := export(t, e)
		wantEvents(t, s.received(t), 0, sent)
		return p
	}
	for range 3 {
		p := pass(250)
		if p.Identity != Unlicensed || p.Accepted != 250 || !p.ok() || kindOf(p.LicenseRefused) != client.Refused || e.Status().LicenseRefused == nil {
			t.Errorf("pass with the wrong licence is %+v", p)
		}
	}
	if n := strings.Count(log.String(), "refuses the licence"); n != 1 {
		t.Errorf("the log says %d times that the licence is refused, want 1:\n%s", n, &log)
	}
	id.LicenseKey = s.license
	if p := pass(50); p.Identity != Licensed || !p.ok() || p.LicenseRefused != nil || e.Status().LicenseRefused != nil {
		t.Errorf("pass with the right licence is %+v", p)
	}
	if !strings.Contains(log.String(), "takes the licence again") {
		t.Errorf("the log does not say that all is well again:\n%s", &log)
	}
	id.LicenseKey = "not valid: \xff"
	if p := pass(50); p.Identity != Unlicensed || !p.ok() || p.LicenseRefused == nil {
		t.Errorf("pass with a key that cannot even be sent is %+v", p)
	}
	id.LicenseKey = ""
	if p := pass(50); p.Identity != Unlicensed || !p.ok() || p.LicenseRefused != nil {
		t.Errorf("pass without a licence is %+v", p)
	}
	for _, secret := range []string{s.unknown, s.license, "event-"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// A gateway without keys to check licences with does not keep an instance that
// has one from exporting.
func TestLicencesUnknownToTheGateway(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 10)
	s := serve(t, func(_ *server, o *identity.Options) { o.Licenses.KeysFile = "" })
	e := newExporter(t, q, s.url, Options{Identity: func() Identity { return Identity{LicenseKey: s.license} }})
	if p := export(t, e); p.Identity != Unlicensed || p.Accepted != 10 || p.LicenseRefused == nil {
		t.Errorf("pass is %+v", p)
	}
}

// A gateway that takes neither the licence nor unlicensed instances is given as
// the reason for both.
func TestBothRefused(t *testing.T) {
	q := newQueue(t)
	add(t, q, 0, 10)
	s := serve(t, func(_ *server, o *identity.Options) { o.Unlicensed.Deny = true })
	e := newExporter(t, q, s.url, Options{Identity: func() Identity { return Identity{LicenseKey: s.unknown} }})
	p, err := e.Export(t.Context())
	if err == nil || p.Kind != client.Refused || p.LicenseRefused == nil ||
		!strings.Contains(err.Error(), "as a licensed instance") || !strings.Contains(err.Error(), "as an unlicensed one") {
		t.Errorf("%v, pass is %+v", err, p)
	}
	wantStats(t, q, queue.Stats{Recorded: 10, Pending: 10})
}

func TestIdentityShowsNoLicence(t *testing.T) {
	id := Identity{LicenseKey: "secret", InstanceID: "site"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, id) + fmt.Sprintf(format, struct{ ID *Identity }{&id}); strings.Contains(text, "secret") {
			t.Errorf("%s writes %s", format, text)
		}
	}
}

func TestOptions(t *testing.T) {
	q := newQueue(t)
	for _, o := range []Options{
		{Interval: MaxInterval + 1}, {Interval: -1}, {Batch: MinBatch - 1}, {BatchBytes: -1}, {LeaseFor: 1}, {LeaseFor: queue.MaxLease + 1}, {Grace: -1}, {CleanupInterval: -1},
	} {
		if _, err := New(q, "http://localhost", o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := New(q, "ftp://localhost", Options{}); err == nil {
		t.Error("a URL that is no gateway's is taken")
	}
	e := newExporter(t, q, "", Options{})
	if _, err := e.Export(t.Context()); kindOf(err) != KindConfig {
		t.Errorf("%v, want an error that says that there is no gateway", err)
	}
}
