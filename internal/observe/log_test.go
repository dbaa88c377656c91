// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/observe"
)

func TestLoggerFormatsAndLevels(t *testing.T) {
	var b bytes.Buffer
	log, err := observe.NewLogger(&b, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this", "events", 3)
	var line struct {
		Level, Msg string
		Events     int
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Msg != "this" || line.Level != "WARN" || line.Events != 3 {
		t.Errorf("%v: %s", err, &b)
	}
	b.Reset()
	if log, err = observe.NewLogger(&b, "text", "debug"); err != nil {
		t.Fatal(err)
	}
	log.Debug("this", "events", 3)
	if !strings.Contains(b.String(), "level=DEBUG msg=this events=3\n") {
		t.Errorf("got %s", &b)
	}
}

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range [][2]string{{"xml", "info"}, {"", "info"}, {"json", "loud"}, {"json", ""}} {
		if _, err := observe.NewLogger(&bytes.Buffer{}, c[0], c[1]); err == nil {
			t.Errorf("format %q and level %q were taken", c[0], c[1])
		}
	}
}
