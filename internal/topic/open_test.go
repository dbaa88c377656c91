// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct{ url, want string }{
		{"", "known are discard"},
		{"kafka://x/y", "known are discard"},
		{"topic.db", "known are discard"},
		{"%zz", "invalid URL escape"},
		{"discard://x", "nothing after the colon"},
		{"discard:?a=1", `unknown parameter "a"`},
		{"log:x", "nothing after the colon"},
		{"memory:?max=1", "known are max_messages"},
		{"memory:?max_messages=0", "1 or more"},
		{"memory:?max_messages=many", "1 or more"},
		{"sqlite:topic.db", "sqlite:///absolute/path"},
		{"sqlite://", "sqlite:///absolute/path"},
		{"sqlite://?retention=1h", "sqlite:///absolute/path"},
		{"sqlite://new/topic.db?retain=1h", "known are retention, max_age, max_bytes"},
		{"sqlite://new/topic.db?subscription=x", "known are retention, max_age, max_bytes"},
		{"sqlite://new/topic.db?retention=7d", "such as 168h"},
		{"sqlite://new/topic.db?max_age=-1h", "such as 168h"},
		{"sqlite://new/topic.db?max_bytes=10GB", "a number of bytes"},
		{"sqlite://new/topic.db?max_bytes=1&max_bytes=2", "given 2 times"},
		{"sqlite://" + dir, "not a regular file"},
	} {
		topic, err := Open(t.Context(), tt.url, slog.New(slog.DiscardHandler))
		if err == nil {
			topic.Close()
			t.Errorf("Open(%q) succeeded", tt.url)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Open(%q) = %v, want it to say %q", tt.url, err, tt.want)
		}
	}
	for _, tt := range []struct{ url, want string }{
		{"kafka://x/y", "known are discard"},
		{"discard:", "keeps no messages"},
		{"log:", "keeps no messages"},
		{"memory:", "only inside the process"},
		{"sqlite://", "sqlite:///absolute/path"},
		{"sqlite://new/topic.db?name=x", "known are subscription, from, peek"},
		{"sqlite://new/topic.db?subscription=", "1 to 100 letters"},
		{"sqlite://new/topic.db?subscription=a/b", "1 to 100 letters"},
		{"sqlite://new/topic.db?from=end", "start or now"},
		{"sqlite://new/topic.db?peek=", "start, now or unread"},
		{"sqlite://new/topic.db?until=now", "goes with peek"},
		{"sqlite://new/topic.db?peek=start&until=later", "now or left out"},
		{"sqlite://new/topic.db?peek=start&subscription=x", "without a subscription"},
		{"sqlite://new/topic.db?peek=start", "no such file"},
		{"sqlite://new/topic.db?peek=unread", "no such file"},
		{"sqlite://new/topic.db?peek=unread&from=now", "leave out"},
	} {
		s, err := Subscribe(t.Context(), tt.url, BatchOptions{}, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
			t.Errorf("Subscribe(%q) succeeded", tt.url)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Subscribe(%q) = %v, want it to say %q", tt.url, err, tt.want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("what was refused left %v behind (%v)", entries, err)
	}
}

func TestSQLitePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct{ url, path string }{
		{"sqlite://" + dir + "/absolute/topic.db", "absolute/topic.db"},
		{"sqlite://./data/dot.db", "data/dot.db"},
		{"sqlite://data/relative.db?retention=1h", "data/relative.db"},
		{"sqlite://bare.db", "bare.db"},
		{"sqlite://Upper Case/ü #&=+.db", "Upper Case/ü #&=+.db"},
		{"sqlite://50%25%3Foff.db", "50%?off.db"},
	} {
		mustPublish(t, mustOpen(t, tt.url), Message{Key: tt.url})
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(filepath.Join(dir, tt.path) + suffix); err != nil {
				t.Errorf("%s: %v", tt.url, err)
			} else if info.Mode().Perm() != 0o600 {
				t.Errorf("%s%s: mode %v, want 0600", tt.url, suffix, info.Mode())
			}
		}
		if folder := filepath.Dir(tt.path); folder != "." {
			if info, err := os.Stat(folder); err != nil || info.Mode().Perm()&0o007 != 0 {
				t.Errorf("%s: its folder has mode %v (%v), open to all", tt.url, info.Mode(), err)
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	topic, err := Open(t.Context(), "memory:?max_messages=3", nil)
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, topic, numbered(0, 2)...)
	errs := topic.Publish(t.Context(), numbered(2, 5))
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], ErrFull) || !errors.Is(errs[2], ErrFull) {
		t.Errorf("Publish = %v, want room for one of three", errs)
	}
	if err := topic.Ping(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("Ping = %v, want ErrFull", err)
	}
	if got := keys(receive(t, topic.(*Memory).Subscribe("s", BatchOptions{}), 3)); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("received %q", got)
	}
	mustPublish(t, topic, numbered(3, 5)...)
}

func TestAppendLine(t *testing.T) {
	for _, tt := range []struct {
		m    Message
		want string
	}{
		{Message{}, `{"key":"","attributes":{},"data":""}`},
		{
			Message{Key: "k", Data: []byte("{ \"b\": [1,\n 2.0],\t\"a\": \"<&>\" }"), Attributes: []Attribute{{"z", "1"}, {"a", "2"}}},
			`{"key":"k","attributes":{"z":"1","a":"2"},"data":{"b":[1,2.0],"a":"<&>"}}`,
		},
		{Message{Key: "number", Data: []byte("1")}, `{"key":"number","attributes":{},"data":1}`},
		{Message{Key: "cut", Data: []byte(`{"a":`)}, `{"key":"cut","attributes":{},"data":"eyJhIjo="}`},
		{Message{Key: "binary", Data: []byte{0, 255}}, `{"key":"binary","attributes":{},"data":"AP8="}`},
		{Message{Key: "not UTF-8", Data: []byte("\"\xff\"")}, `{"key":"not UTF-8","attributes":{},"data":"Iv8i"}`},
		{Message{Key: "\"\\\n\x00\xff☃"}, `{"key":"\"\\\u000a\u0000�☃","attributes":{},"data":""}`},
	} {
		got := string(AppendLine([]byte("> "), tt.m))
		if got != "> "+tt.want {
			t.Errorf("AppendLine =\n%s, want\n%s", got, tt.want)
		}
		if !json.Valid([]byte(got[2:])) {
			t.Errorf("%s is not JSON", got)
		}
	}
}

func TestLogWritesOnce(t *testing.T) {
	var writes []string
	topic := NewLog(writer(func(p []byte) (int, error) {
		writes = append(writes, string(p))
		return len(p), nil
	}))
	mustPublish(t, topic, Message{Key: "1", Data: []byte("1")}, Message{Key: "2", Data: []byte("2")})
	want := `{"key":"1","attributes":{},"data":1}
{"key":"2","attributes":{},"data":2}
`
	if len(writes) != 1 || writes[0] != want {
		t.Errorf("wrote %q, want once %q", writes, want)
	}
	broken := NewLog(writer(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
	if errs := broken.Publish(t.Context(), numbered(0, 2)); len(errs) != 2 || !errors.Is(errs[1], io.ErrClosedPipe) {
		t.Errorf("Publish to a broken writer = %v, want its error for each message", errs)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
