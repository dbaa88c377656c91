// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// TestDamagedJSONIsNotQuoted sends JSON that is wrong where events and licence
// keys stand. Neither the log nor the error repeats them.
func TestDamagedJSONIsNotQuoted(t *testing.T) {
	const canary = "CANARY"
	var log bytes.Buffer
	s := start(t, func(o *Options, _ *identity.Options, so *ServeOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		so.Log = o.Log
	})
	const metadata = `{"metadata":{"identifier":{"unlicensedInstance":{"instanceId":"site"}}}}`
	for name, messages := range map[string][]string{
		"value":       {metadata, `{"events":{"events":[{"timestamp":"` + canary + `"}]}}`},
		"syntax":      {metadata, `{"events":{"events":[{"id":` + canary + `}]}}`},
		"number":      {metadata, `{"events":{"events":[{"parameters":{"metadata":{"a":"` + canary + `"}}}]}}`},
		"map key":     {metadata, `{"events":{"events":[{"parameters":{"metadata":{"` + canary + `":1,"` + canary + `":2}}}]}}`},
		"licence key": {`{"metadata":{"identifier":{"licensedInstance":{"licenseKey":` + canary + `}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			for _, m := range messages {
				body = append(body, envelope([]byte(m))...)
			}
			r, err := h2c(t).Post(s.url()+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure, "application/connect+json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			answer, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(answer, []byte("invalid_argument")) || !bytes.Contains(answer, []byte("(line 1:")) || bytes.Contains(answer, []byte(canary)) {
				t.Errorf("the sender got %s", answer)
			}
		})
	}
	s.stop()
	<-s.served
	if text := log.String(); !strings.Contains(text, "(line 1:") || strings.Contains(text, canary) {
		t.Errorf("the log is:\n%s", text)
	}
}

// TestJSONIsDecodedInTurn shows that messages are not decoded at once, whoever
// sends them, because what they take then is not charged to anyone.
func TestJSONIsDecodedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		codec := jsonCodec{"json", limits.ReceiveBytes, make(chan struct{}, 1)}
		codec.turn <- struct{}{} // another message is being decoded
		decoded := make(chan error, 1)
		go func() { decoded <- codec.Unmarshal([]byte(`{}`), new(batchRequest)) }()
		synctest.Wait()
		select {
		case err := <-decoded:
			t.Fatalf("decoded out of turn: %v", err)
		default:
			<-codec.turn
		}
		if err := <-decoded; err != nil || len(codec.turn) != 0 {
			t.Errorf("decoded: %v; turns taken: %d", err, len(codec.turn))
		}
	})
}

// TestJSONGrows has a message that is small enough as JSON and too large as
// wire format.
func TestJSONGrows(t *testing.T) {
	s := start(t, discarding)
	body := `{"metadata":{"identifier":{"unlicensedInstance":{"instanceId":"site"}}},"events":[{"id":"a","parameters":{"privateMetadata":{"a":[` +
		strings.Repeat("0,", limits.ReceiveBytes/8) + `0]}}}]}`
	r, err := http.Post(s.url()+telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventBatchProcedure, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if answer, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusBadRequest || !bytes.Contains(answer, []byte("in wire format")) {
		t.Errorf("status %d: %s", r.StatusCode, answer)
	}
}
