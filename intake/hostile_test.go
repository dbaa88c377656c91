// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/intake"
)

// TestRefused sends what cannot be taken as a whole: the answer says why, quotes
// nothing, and nothing is recorded.
func TestRefused(t *testing.T) {
	query := func(q string) string { return fmt.Sprintf(`{"query":%q}`, q) }
	wide := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"secret%d":1,`, i)
		}
		return b.String()
	}
	for _, row := range []struct {
		name, body string
		status     int
		want       string // in the message
	}{
		{"empty", ``, 400, "not JSON"},
		{"not JSON", `secret`, 400, "not JSON"},
		{"cut off", body(`[` + simple + `]`)[:80], 400, "not JSON"},
		{"two values", body(`[`+simple+`]`) + body(`[`+simple+`]`), 400, "not JSON"},
		{"invalid UTF-8", body("[\"secret\xff\"]"), 400, "UTF-8"},
		{"text", `"secret"`, 400, "not an object"},
		{"batch", ` [` + body(`[`+simple+`]`) + `]`, 400, "batches"},
		{"null", `null`, 400, "no query"},
		{"no query", `{"variables":{}}`, 400, "no query"},
		{"query is no text", `{"query":{"secret":1}}`, 400, "not an object with"},
		{"variables are no object", `{"query":"{telemetry{__typename}}","variables":["secret"]}`, 400, "variables are not an object"},
		{"too large", `{"query":"` + strings.Repeat(" ", 1<<20) + `"}`, 413, "larger than 1048576 bytes"},
		{"nested without end", `{"query":"{a}","variables":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`, 400, "not JSON"},

		{"not GraphQL", query(`secret`), 200, "syntax error"},
		{"long query", query(`{` + strings.Repeat(" ", 8<<10) + `telemetry{__typename}}`), 200, "exceeds the maximum allowed query length"},
		{"deep query", query(`{telemetry` + strings.Repeat(`{exportedEvents`, 20) + `{__typename}` + strings.Repeat(`}`, 21)), 200, "exceeds max depth"},
		{"nested literals", query(`mutation{telemetry{recordEvents(events:` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `){alwaysNil}}}`), 200, "nesting depth"},
		{"fragment that is in itself", query(`{telemetry{...f}} fragment f on TelemetryQuery{...f}`), 200, "itself"},
		{"fragments that double", doubling(), 200, "too many selections (limit 1000)"},
		{"aliases", query(`{` + aliases(700) + `}`), 200, ""},
		{"undefined escape in a description", query(`"\q" {telemetry{__typename}}`), 200, ""},
		{"negated text", query(`mutation{telemetry{recordEvents(events:[{feature:-"a",action:"bb",source:{client:"c"},parameters:{version:0}}]){alwaysNil}}}`), 200, ""},
		{"huge number in a literal", query(`mutation{telemetry{recordEvents(events:[{feature:"aa",action:"bb",source:{client:"c"},parameters:{version:0,privateMetadata:9999999999999999999999}}]){alwaysNil}}}`), 200, "cannot be executed"},
		{"subscription", query(`subscription{telemetry{__typename}}`), 200, ""},
		{"two operations", query(`query a{telemetry{__typename}} query b{telemetry{__typename}}`), 200, "more than one operation"},
		{"no events", body(`[]`), 200, "no events"},
		{"too many events", body(`[` + strings.Repeat(simple+`,`, 500) + simple + `]`), 200, "501 events are more than the 500"},
		{"event is null", body(`[null]`), 200, "null"},
		{"event is a text", body(`["12345678"]`), 200, "invalid type"},
		{"feature is a number", body(`[{"feature":12345678,` + simple[len(`{"feature":"search",`):] + `]`), 200, "does not have the type"},
		{"no feature", body(`[{` + simple[len(`{"feature":"search",`):] + `]`), 200, "null"},
		{"version is a fraction", body(`[` + strings.Replace(simple, `"version":0`, `"version":1.5`, 1) + `]`), 200, "does not have the type"},
		{"version is without end", body(`[` + strings.Replace(simple, `"version":0`, `"version":1e999`, 1) + `]`), 200, "does not have the type"},
		{"unknown field", body(`[{"user":{"userId":1},` + simple[1:] + `]`), 200, "not defined"},
		{"many unknown fields", body(`[{` + wide(40_000) + simple[1:] + `]`), 200, "not defined"},
		{"too many fields", body(`[{` + wide(50_000) + simple[1:] + `]`), 400, "more than 50000 values"},
		{"too many values", body(`[` + strings.Repeat(`{},`, 50_000) + simple + `]`), 400, "more than 50000 values"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t, intake.Options{})
			got := d.do(t, request(row.body))
			if got.Status != row.status || len(got.Errors) == 0 || !strings.Contains(got.Text, row.want) {
				t.Errorf("%d %.300s", got.Status, got.Text)
			}
			if len(got.Text) > 16<<10 {
				t.Errorf("the answer has %d bytes", len(got.Text))
			}
			if events := d.events.All(); len(events) > 0 {
				t.Errorf("%d events recorded", len(events))
			}
			if strings.Contains(d.log.String(), "secret") || strings.Contains(got.Text, "12345678") {
				t.Errorf("content in %s %s", d.log, got.Text)
			}
			if strings.Contains(got.Text, "cannot be executed") != strings.Contains(d.log.String(), "panicked") {
				t.Errorf("logged %q for %s", d.log, got.Text)
			}
			if r := d.requests[0]; r.Status != row.status || r.Recorded != 0 {
				t.Errorf("measured %+v", r)
			}
		})
	}
}

// doubling is a query in which each fragment stands for two of the next.
func doubling() string {
	var b strings.Builder
	b.WriteString(`{telemetry{...f0}}`)
	for i := range 30 {
		fmt.Fprintf(&b, ` fragment f%d on TelemetryQuery{...f%d ...f%d}`, i, i+1, i+1)
	}
	b.WriteString(` fragment f30 on TelemetryQuery{__typename}`)
	return fmt.Sprintf(`{"query":%q}`, b.String())
}

func aliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d:telemetry{x}", i)
	}
	return b.String()
}

// TestHTTP sends requests that are wrong before their body is read.
func TestHTTP(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405},
		{"HEAD", func(r *http.Request) { r.Method = http.MethodHead }, 405},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, 405},
		{"form", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		{"upload", func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, 415},
		{"unreadable type", func(r *http.Request) { r.Header.Set("Content-Type", "application/json; =") }, 415},
		{"compressed", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415},
		{"long idempotency key", func(r *http.Request) { r.Header.Set("Idempotency-Key", strings.Repeat("k", 129)) }, 400},
		{"length beyond the limit", func(r *http.Request) { r.ContentLength = 1<<20 + 1 }, 413},
		{"no end", func(r *http.Request) { r.Body, r.ContentLength = &endless{limit: 2 << 20}, -1 }, 413},
		{"cut off", func(r *http.Request) { r.Body = http.NoBody }, 400},

		{"longest idempotency key", func(r *http.Request) { r.Header.Set("Idempotency-Key", strings.Repeat("k", 128)) }, 200},
		{"long interaction ID", func(r *http.Request) { r.Header.Set("X-Sourcegraph-Interaction-ID", strings.Repeat("i", 257)) }, 200},
		{"interaction ID that is not UTF-8", func(r *http.Request) { r.Header.Set("X-Sourcegraph-Interaction-ID", "\xff") }, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t, intake.Options{})
			r := request(body(`[` + simple + `]`))
			row.change(r)
			got := d.do(t, r)
			if got.Status != row.status || (len(d.events.All()) == 1) != (row.status == 200) {
				t.Errorf("%d %s", got.Status, got.Text)
			}
			if got.Status == 405 && got.Header.Get("Allow") != "OPTIONS, POST" {
				t.Errorf("headers %v", got.Header)
			}
			for _, e := range d.events.All() {
				if e.Interaction != nil {
					t.Errorf("recorded %v", e.Interaction)
				}
			}
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", got.Header)
			}
		})
	}
}

// endless is a body without an end. Whoever reads more than limit of it is at
// fault.
type endless struct{ limit int }

func (e *endless) Read(p []byte) (int, error) {
	if e.limit -= len(p); e.limit < 0 {
		panic("too much of the request is read")
	}
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (*endless) Close() error { return nil }

// TestLiteralUTF8 sends invalid UTF-8 where JSON cannot: in a literal's escape.
func TestLiteralUTF8(t *testing.T) {
	d := open(t, intake.Options{})
	q := `mutation{telemetry{recordEvents(events:[{feature:"aa",action:"bb",source:{client:"c"},parameters:{version:0,privateMetadata:{a:"\xff"}}}]){alwaysNil}}}`
	for _, key := range []string{"", "key"} {
		r := request(fmt.Sprintf(`{"query":%q}`, q))
		r.Header.Set("Idempotency-Key", key)
		got := d.do(t, r)
		if codes := got.codes(); len(codes) != 1 || codes[0] != "0 invalid_utf8 parameters.private_metadata" {
			t.Errorf("%s", got.Text)
		}
	}
}

// FuzzBody holds what is promised whatever is sent: the answer is JSON or an
// error says why, and what has no error is recorded.
func FuzzBody(f *testing.F) {
	f.Add([]byte(body(`[` + simple + `]`)))
	f.Add([]byte(body(`[` + simple + `,{"feature":"?","action":"b","source":{"client":"c"},"parameters":{"version":1,"metadata":[{"key":"k","value":null}],"privateMetadata":[1e999]}}]`)))
	f.Add([]byte(doubling()))
	f.Add([]byte(`{"query":"{__schema{types{name}}}"}`))
	f.Add([]byte(`{"query":"mutation{telemetry{recordEvents(events:[{feature:-\"a\"}]){alwaysNil}}}"}`))
	f.Add([]byte(`{"query":"\"\\q\" {telemetry{__typename}}"}`))
	f.Add([]byte(`{"Query":"{telemetry{__typename}}","variables":{"value":null}}`))
	d := open(f, intake.Options{})
	f.Fuzz(func(t *testing.T, sent []byte) {
		d.events.Reset()
		d.log.Reset()
		d.requests = nil
		r := httptest.NewRequest(http.MethodPost, "/.api/graphql", bytes.NewReader(sent))
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("the answer is not JSON: %q", w.Body)
		}
		got := d.requests[0]
		if recorded := len(d.events.All()); recorded != got.Recorded || got.Failed != 0 {
			t.Errorf("%d events recorded, measured %+v", recorded, got)
		}
		if d.log.Len() > 0 && !strings.Contains(d.log.String(), "panicked") {
			t.Errorf("logged %s", d.log)
		}
	})
}
