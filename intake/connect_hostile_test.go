// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemetrygateway/telemetry/intake"
)

// field returns a field of a message, in binary.
func field(number protowire.Number, content string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), content))
}

// TestConnectRefused sends what cannot be taken as a whole: the answer says why,
// quotes nothing, and nothing is recorded.
func TestConnectRefused(t *testing.T) {
	const (
		exhausted = "resource_exhausted"
		argument  = "invalid_argument"
		event     = `{"feature":"search","action":"executed"}`
	)
	events := func(n int, one string) string { return `{"events":[` + strings.Repeat(one+",", n-1) + one + `]}` }
	client := func(c string) string { return `{"client":` + c + `,"events":[` + event + `]}` }
	for _, row := range []struct {
		name, contentType, body string
		code, field             string
		want                    string // in the message
	}{
		{"empty", "json", ``, argument, "", "not a telemetryintake"},
		{"not JSON", "json", `secret`, argument, "", "not a telemetryintake"},
		{"cut off", "json", one[:30], argument, "", "not a telemetryintake"},
		{"two values", "json", one + one, argument, "", "not a telemetryintake"},
		{"list", "json", `[` + one + `]`, argument, "", "not a telemetryintake"},
		{"null", "json", `null`, argument, "events", "no events"},
		{"invalid UTF-8", "json", "{\"secret\xff\":1}", argument, "", "UTF-8"},
		{"no events", "json", `{"client":{"name":"web"}}`, argument, "events", "no events"},
		{"events are null", "json", `{"events":null}`, argument, "events", "no events"},
		{"events are no list", "json", `{"events":{"secret":1}}`, argument, "events", "not a list"},
		{"events of GraphQL", "json", body(`[` + simple + `]`), argument, "events", "no events"},
		{"two lists of events", "json", `{"events":[` + event + `],"events":[` + event + `]}`, argument, "", "not a telemetryintake"},
		{"other capitals", "json", `{"Events":[` + event + `]}`, argument, "events", "no events"},
		{"too many events", "json", events(501, event), exhausted, "events", "501 events are more than the 500"},
		{"too many values", "json", events(2, `{"feature":"search","action":"executed","parameters":{"privateMetadata":{"secret":[`+strings.Repeat("0,", 25_000)+`0]}}}`), exhausted, "events", "more than 50000 values"},
		{"too many objects", "json", events(3, strings.Repeat("[{},", 10_000)+strings.Repeat("]", 10_000)), exhausted, "events", "more than 50000 values"},
		{"nested without end", "json", `{"events":` + strings.Repeat("[", 40_000) + strings.Repeat("]", 40_000) + `}`, argument, "", "not a telemetryintake"},
		{"too large", "json", `{"events":[],"x":"` + strings.Repeat(" ", 1<<20) + `"}`, exhausted, "", "larger than"},
		{"client is a text", "json", client(`"secret"`), argument, "client", "not a telemetryintake"},
		{"client's name is a number", "json", client(`{"name":12345678}`), argument, "client", "not a telemetryintake"},
		{"client has no name", "json", client(`{}`), argument, "client.name", "no name"},
		{"client's name is long", "json", client(`{"name":"` + strings.Repeat("n", 257) + `"}`), argument, "client", "256 bytes"},
		{"client's version is long", "json", client(`{"name":"n","version":"` + strings.Repeat("n", 256) + `"}`), argument, "client", "256 bytes"},
		{"key is a number", "json", `{"idempotencyKey":12345678,"events":[` + event + `]}`, argument, "idempotency_key", "not a text"},
		{"key is long", "json", `{"idempotencyKey":"` + strings.Repeat("k", 129) + `","events":[` + event + `]}`, argument, "idempotency_key", "128 bytes"},

		{"empty", "proto", ``, argument, "events", "no events"},
		{"not a message", "proto", "secret", argument, "", "not a telemetryintake"},
		{"cut off", "proto", binary(t, one)[:20], argument, "", "not a telemetryintake"},
		{"unknown fields only", "proto", field(4, "secret"), argument, "events", "no events"},
		{"field of another type", "proto", string(protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)), argument, "events", "no events"},
		{"too many events", "proto", strings.Repeat(field(2, ""), 501), exhausted, "events", "501 events are more than the 500"},
		{"far too many events", "proto", strings.Repeat(field(2, ""), 500_000), exhausted, "events", "more than 50000 values"},
		{"too many values", "proto", field(2, field(4, field(3, field(1, field(2, field(6, strings.Repeat(field(1, ""), 60_000))))))), exhausted, "events", "more than 50000 values"},
		{"too many texts", "proto", field(2, strings.Repeat(field(2, "f"), 60_000)), exhausted, "events", "more than 50000 values"},
		{"too large", "proto", field(9, strings.Repeat(" ", 1<<20)), exhausted, "", "larger than"},
		{"client is no message", "proto", field(1, "secret") + field(2, ""), argument, "client", "not a telemetryintake"},
		{"client's name is not UTF-8", "proto", field(1, field(1, "secret\xff")) + field(2, ""), argument, "client", "not a telemetryintake"},
		{"client's texts in two pieces", "proto", field(1, field(1, strings.Repeat("n", 200))) + field(1, field(2, strings.Repeat("v", 57))) + field(2, ""), argument, "client", "256 bytes"},
		{"key is long", "proto", field(3, strings.Repeat("k", 129)) + field(2, ""), argument, "idempotency_key", "128 bytes"},
	} {
		t.Run(row.contentType+" "+row.name, func(t *testing.T) {
			d := openConnect(t, intake.Options{})
			for _, compressed := range []bool{false, true} {
				d.requests = nil
				r := connectRequest("application/"+row.contentType, row.body)
				if compressed {
					if row.body == "" {
						continue
					}
					r.Body = io.NopCloser(zipped(t, row.body))
					r.ContentLength = -1
					r.Header.Set("Content-Encoding", "gzip")
				}
				got := d.call(t, r)
				if got.Code != row.code || !strings.Contains(got.Message, row.want) || got.field() != row.field {
					t.Errorf("compressed %v: %d %.300s", compressed, got.Status, got.Text)
				}
				if strings.Contains(d.log.String()+got.Text, "secret") || strings.Contains(got.Text, "12345678") || len(got.Text) > 2<<10 {
					t.Errorf("content in %s %s", d.log, got.Text)
				}
				if q := d.requests[0]; q.Status != got.Status || q.Recorded != 0 {
					t.Errorf("measured %+v", q)
				}
			}
			if events := d.events.All(); len(events) > 0 {
				t.Errorf("%d events recorded", len(events))
			}
		})
	}
}

func zipped(t testing.TB, text string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestConnectNeighbours puts what only the binary form can hold between two valid
// events.
func TestConnectNeighbours(t *testing.T) {
	names := field(2, "search") + field(3, "executed")
	private := func(value string) string { return names + field(4, field(3, field(1, field(1, "k")+field(2, value)))) }
	nested := func(n int) string {
		value := field(3, "secret")
		for range n {
			value = field(6, field(1, value))
		}
		return private(value)
	}
	for _, row := range []struct{ event, want string }{
		{"", "feature_invalid feature"},
		{"secret", "undecodable "},
		{names + field(1, "secret"), "undecodable "},
		{field(2, "secret\xff") + field(3, "executed"), "invalid_utf8 feature"},
		{names + field(6, "secret\xff"), "invalid_utf8 interaction_id"},
		{names + field(5, field(2, "\xff")), "invalid_utf8 marketing_tracking.first_source_url"},
		{names + field(4, field(4, field(1, "\xff"))), "invalid_utf8 parameters.billing_metadata.product"},
		{names + field(4, field(2, field(1, "\xff"))), "invalid_utf8 parameters.metadata"},
		{private(field(3, "secret\xff")), "invalid_utf8 parameters.private_metadata"},
		{nested(32), "too_deep parameters.private_metadata"},
		{private(""), "undecodable parameters.private_metadata"},
		{names + field(4, field(2, field(1, "k")+"\x11\x00\x00\x00\x00\x00\x00\xf0\x7f")), "not_finite parameters.metadata"},
		{names + field(1, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "timestamp_invalid timestamp"},
	} {
		t.Run(row.want, func(t *testing.T) {
			d := openConnect(t, intake.Options{})
			valid := field(2, nested(31))
			got := d.call(t, connectRequest("application/proto", valid+field(2, row.event)+valid))
			if got.Status != http.StatusOK || len(d.events.All()) != 2 {
				t.Fatalf("%d %q, %d events recorded", got.Status, got.Text, len(d.events.All()))
			}
			want := map[string]int{strings.Fields(row.want)[0]: 1}
			if diff := cmp.Diff(want, d.requests[0].Invalid); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"1 " + row.want}, binaryCodes(t, got.Text)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(got.Text+d.log.String(), "secret") {
				t.Errorf("content in %q %s", got.Text, d.log)
			}
		})
	}
}

// TestConnectHTTP sends requests that are wrong, or right, before their message
// is looked at.
func TestConnectHTTP(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405, ""},
		{"GET with a message", func(r *http.Request) {
			r.Method, r.URL.RawQuery, r.Body = http.MethodGet, "connect=v1&encoding=json&message=%7B%22events%22%3A%5B%7B%22feature%22%3A%22search%22%2C%22action%22%3A%22executed%22%7D%5D%7D", http.NoBody
		}, 405, ""},
		{"HEAD", func(r *http.Request) { r.Method = http.MethodHead }, 405, ""},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, 405, ""},
		{"other method of the service", func(r *http.Request) { r.URL.Path += "2" }, 404, ""},
		{"no type", func(r *http.Request) { r.Header.Del("Content-Type") }, 415, ""},
		{"text", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415, ""},
		{"form", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415, ""},
		{"upload", func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, 415, ""},
		{"stream", func(r *http.Request) { r.Header.Set("Content-Type", "application/connect+json") }, 415, ""},
		{"compressed as nobody does", func(r *http.Request) { r.Header.Set("Content-Encoding", "br") }, 501, "unimplemented"},
		{"said to be compressed", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 400, "invalid_argument"},
		{"compressed, cut off", func(r *http.Request) {
			r.Header.Set("Content-Encoding", "gzip")
			z := zipped(t, one)
			z.Truncate(z.Len() - 8)
			r.Body = io.NopCloser(z)
		}, 400, "invalid_argument"},
		{"long idempotency key", func(r *http.Request) { r.Header.Set("Idempotency-Key", strings.Repeat("k", 129)) }, 400, "invalid_argument"},
		{"length beyond the limit", func(r *http.Request) { r.ContentLength = 1<<20 + 6 }, 429, "resource_exhausted"},
		{"no end", func(r *http.Request) { r.Body, r.ContentLength = &endless{limit: 2 << 20}, -1 }, 429, "resource_exhausted"},
		{"no end, compressed", func(r *http.Request) {
			r.Body, r.ContentLength = &endless{limit: 2 << 20}, -1
			r.Header.Set("Content-Encoding", "gzip")
		}, 429, "resource_exhausted"},
		{"cut off", func(r *http.Request) { r.Body = http.NoBody }, 400, "invalid_argument"},
		{"other version of the protocol", func(r *http.Request) { r.Header.Set("Connect-Protocol-Version", "2") }, 400, "invalid_argument"},

		{"version of the protocol", func(r *http.Request) { r.Header.Set("Connect-Protocol-Version", "1") }, 200, ""},
		{"time limit", func(r *http.Request) { r.Header.Set("Connect-Timeout-Ms", "10000") }, 200, ""},
		{"longest idempotency key", func(r *http.Request) { r.Header.Set("Idempotency-Key", strings.Repeat("k", 128)) }, 200, ""},
		{"long interaction ID", func(r *http.Request) { r.Header.Set("X-Sourcegraph-Interaction-ID", strings.Repeat("i", 257)) }, 200, ""},
		{"interaction ID that is not UTF-8", func(r *http.Request) { r.Header.Set("X-Sourcegraph-Interaction-ID", "\xff") }, 200, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := openConnect(t, intake.Options{})
			r := connectRequest("application/json", one)
			row.change(r)
			got := d.call(t, r)
			if got.Status != row.status || got.Code != row.code || (len(d.events.All()) == 1) != (row.status == 200) {
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

// TestBomb sends a few kilobytes that become megabytes, and garbage after them:
// whoever decompressed all of it would stumble over that.
func TestBomb(t *testing.T) {
	bomb := strings.Repeat(zipped(t, strings.Repeat("\x00", 1<<20)).String(), 3) + "garbage"
	d := openConnect(t, intake.Options{})
	for _, contentType := range []string{"json", "proto"} {
		r := connectRequest("application/"+contentType, bomb)
		r.Header.Set("Content-Encoding", "gzip")
		if got := d.call(t, r); got.Code != "resource_exhausted" || !strings.HasPrefix(got.Message, "message size 1048577 ") {
			t.Errorf("%d %s", got.Status, got.Text)
		}
		envelope := string([]byte{1, 0, 0, byte(len(bomb) >> 8), byte(len(bomb))})
		r = connectRequest("application/grpc-web+"+contentType, envelope+bomb)
		r.Header.Set("Grpc-Encoding", "gzip")
		if got := d.do(t, r); got.Header.Get("Grpc-Status") != "8" || !strings.HasPrefix(got.Header.Get("Grpc-Message"), "message size 1048577 ") {
			t.Errorf("%d %v %q", got.Status, got.Header, got.Text)
		}
	}
}

// TestLargerRequests takes as much as it is told to.
func TestLargerRequests(t *testing.T) {
	d := openConnect(t, intake.Options{MaxBody: 8 << 20, MaxEvents: 1000})
	text := strings.Repeat("x", 6000)
	events := strings.Repeat(`{"feature":"search","action":"executed","parameters":{"privateMetadata":{"k":"`+text+`"}}},`, 999)
	for _, contentType := range []string{"json", "proto"} {
		sent := `{"events":[` + events + `{"feature":"search","action":"executed"}]}`
		if contentType == "proto" {
			sent = binary(t, sent)
		}
		if got := d.call(t, connectRequest("application/"+contentType, sent)); got.Status != http.StatusOK || len(d.events.All()) != 1000 {
			t.Errorf("%d %.300s, %d events recorded", got.Status, got.Text, len(d.events.All()))
		}
		d.events.Reset()
	}
}

// FuzzConnect holds what is promised whatever is sent: what the answer does not
// call invalid is recorded, and nothing is when there is an error.
func FuzzConnect(f *testing.F) {
	f.Add([]byte(wholeRequest), true)
	f.Add([]byte(binary(f, wholeRequest)), false)
	f.Add([]byte(strings.Replace(one, `"search"`, `"?","parameters":{"metadata":{"k":null},"privateMetadata":{"a":"\ud800","b":1e999}}`, 1)), true)
	f.Add([]byte(field(2, "\x0a")+field(2, field(2, "\xff"))), false)
	f.Add([]byte(`{"events":[null,1,"a",[],{"timestamp":{}},{"parameters":null},{"parameters":[]}]}`), true)
	f.Add([]byte(field(1, "")+"\x12\x80\x80\x80\x80\x10"), false)
	d := openConnect(f, intake.Options{})
	f.Fuzz(func(t *testing.T, sent []byte, inJSON bool) {
		d.events.Reset()
		d.log.Reset()
		d.requests = nil
		contentType := "application/proto"
		if inJSON {
			contentType = "application/json"
		}
		got := d.do(t, connectRequest(contentType, string(sent)))
		if inJSON && !json.Valid([]byte(got.Text)) {
			t.Errorf("the answer is not JSON: %q", got.Text)
		}
		q, recorded := d.requests[0], len(d.events.All())
		if recorded != q.Recorded || q.Failed != 0 || recorded > 0 && got.Status != http.StatusOK || got.Status >= 500 {
			t.Errorf("%d, %d events recorded, measured %+v", got.Status, recorded, q)
		}
		if d.log.Len() > 0 {
			t.Errorf("logged %s", d.log)
		}
	})
}
