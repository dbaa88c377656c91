// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/deadletter"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// TestList tells the dead letters of all kinds apart.
func TestList(t *testing.T) {
	gateways := published(t, badAction("gateways"), receivedAt)
	pipelines := conflict(published(t, event("pipelines"), receivedAt.Add(time.Hour)))
	foreign := topic.Message{Key: "a/b"} // no dead letter, nor anything else
	url := file(t, "deadletter.db", gateways, pipelines, foreign, gateways)
	id := payload.DeadLetterID(pipelines.Data)
	for _, row := range []struct {
		which deadletter.Selection
		want  []string
	}{
		{where(t), []string{"gateways", "pipelines", ""}},
		{where(t, "stage=gateway"), []string{"gateways"}},
		{where(t, "stage=pipeline"), []string{"pipelines", ""}},
		{where(t, "reason=action_invalid"), []string{"gateways"}},
		{where(t, "reason=*_in*id"), []string{"gateways", ""}},
		{where(t, "reason=action_inval"), nil},
		{where(t, "reason="), nil},
		{where(t, "reason=*c*n*t"), []string{"pipelines"}},
		{where(t, "reason=*t*t"), nil}, // a letter is not used twice
		{where(t, "field=id"), []string{"pipelines"}},
		{where(t, "field="), []string{""}},
		{where(t, "source=unlicensed_instance"), []string{"gateways", "pipelines"}},
		{where(t, "source_id=site-1"), []string{"gateways", "pipelines"}},
		{where(t, "license_id="), []string{"gateways", "pipelines", ""}},
		{where(t, "identity=unlicensed/*"), []string{"gateways", "pipelines"}},
		{where(t, "identity=a"), []string{""}},
		{where(t, "event_id=gate*", "stage=gateway"), []string{"gateways"}},
		{where(t, "event_id=gate*", "stage=pipeline"), nil},
		{where(t, "feature=cody.chat"), []string{"gateways", "pipelines"}},
		{where(t, "action=Not Valid"), []string{"gateways"}},
		{where(t, "id="+hex.EncodeToString(id[:])), []string{"pipelines"}},
		{where(t, "id="+hex.EncodeToString(id[:4])+"*"), []string{"pipelines"}},
		{deadletter.Selection{Since: receivedAt}, []string{"gateways", "pipelines"}},
		{deadletter.Selection{Since: receivedAt.Add(1)}, []string{"pipelines"}},
	} {
		got, looked := list(t, url, row.which)
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%v:\n%s", row.which, diff)
		}
		if looked != (deadletter.Looked{Letters: 3, Matched: len(row.want)}) {
			t.Errorf("%v: looked at %v", row.which, looked)
		}
	}
}

func TestSource(t *testing.T) {
	m := published(t, badAction("x"), receivedAt)
	m.Data = []byte(strings.NewReplacer(`"publisher.source":"unlicensed_instance"`, `"publisher.source":"pinger"`, `"publisher.trust":"unlicensed"`, `"publisher.trust":"service"`).Replace(string(m.Data)))
	if got, _ := list(t, file(t, "deadletter.db", m), where(t, "source=managed_service")); len(got) != 1 {
		t.Error("a service's dead letter is not found by its kind of source")
	}
}

// TestListUnread looks at what a subscription has not taken, and takes nothing
// away from it.
func TestListUnread(t *testing.T) {
	url := file(t, "deadletter.db", letters(t, 3)...)
	sub, err := topic.Subscribe(t.Context(), url+"?subscription=pipeline", topic.BatchOptions{Messages: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if got, _ := list(t, url+"?subscription=pipeline", where(t)); len(got) != 3 {
		t.Errorf("%q are unread, want 3", got)
	}
	receive(t, sub, 1)
	for range 2 {
		if got, _ := list(t, url+"?subscription=pipeline", where(t)); !slices.Equal(got, []string{"event-2"}) {
			t.Errorf("%q are unread, want the last", got)
		}
		if got, _ := list(t, url, where(t)); len(got) != 3 {
			t.Errorf("the topic has %q, want 3", got)
		}
	}
}

func TestListEnds(t *testing.T) {
	stop := errors.New("enough")
	with(t, file(t, "deadletter.db", letters(t, 2)...), func(l *deadletter.Letters) {
		calls := 0
		if _, err := l.List(t.Context(), where(t), func(*deadletter.Letter) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
	if _, err := deadletter.Open(t.Context(), "sqlite:///nowhere/deadletter.db", quiet, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestParseCondition(t *testing.T) {
	for _, text := range []string{"", "reason", "=x", "colour=red"} {
		if _, err := deadletter.ParseCondition(text); err == nil {
			t.Errorf("%q is a condition", text)
		}
	}
	for text, want := range map[string]bool{"id=00": true, "id=0*": false, "event_id=00": false} {
		c, err := deadletter.ParseCondition(text)
		if err != nil || c.One() != want {
			t.Errorf("%s selects one: %v, %v", text, c.One(), err)
		}
	}
}
