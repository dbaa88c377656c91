// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const canary = "canary-7d1f"

// sample is a command's flags of every sort.
type sample struct {
	*Flags
	listen, topic string
	wait          time.Duration
	count         int
	fast          bool
	token         *Secret
}

func newSample() *sample {
	s := &sample{Flags: NewFlags("telemetry sample", "[flags] [FILE]\n\nDoes nothing.\n")}
	s.StringVar(&s.listen, "listen", "127.0.0.1:1", "`address` to listen on")
	s.Env("listen", "PORT", func(p string) string { return ":" + p })
	s.StringVar(&s.topic, "topic", "memory:", "`URL` of the topic")
	s.DurationVar(&s.wait, "stop-timeout", time.Minute, "how `long` to wait")
	s.IntVar(&s.count, "count", 3, "`events` to send")
	s.BoolVar(&s.fast, "fast", false, "hurry")
	s.token = s.Secret("token", "a `token`, or @FILE")
	return s
}

func TestAFlagWinsOverTheEnvironmentOverTheDefault(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want string // of -listen, and its source
	}{
		{"default", nil, nil, "127.0.0.1:1   # default"},
		{"further variable", map[string]string{"PORT": "99"}, nil, ":99   # from env PORT"},
		{"twin before further", map[string]string{"PORT": "99", "TELEMETRY_LISTEN": ":2"}, nil, ":2   # from env TELEMETRY_LISTEN"},
		{"empty is not set", map[string]string{"PORT": "99", "TELEMETRY_LISTEN": ""}, nil, ":99   # from env PORT"},
		{"flag", map[string]string{"PORT": "99", "TELEMETRY_LISTEN": ":2"}, []string{"-listen", ":3"}, ":3   # from flag"},
		{"flag with two dashes", map[string]string{"TELEMETRY_LISTEN": ":2"}, []string{"--listen=:3"}, ":3   # from flag"},
		{"flag set to its default", map[string]string{"PORT": "99"}, []string{"-listen", "127.0.0.1:1"}, "127.0.0.1:1   # from flag"},
		{"empty flag", map[string]string{"PORT": "99"}, []string{"-listen="}, `""   # from flag`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			var out strings.Builder
			s := newSample()
			if err := s.Parse(append(c.args, "-print-config"), &out, &out); !errors.Is(err, ErrDone) {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "\nlisten = "+c.want+"\n") {
				t.Errorf("want listen = %s in\n%s", c.want, out.String())
			}
		})
	}
}

func TestValuesOfAllKindsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("TELEMETRY_STOP_TIMEOUT", "5s")
	t.Setenv("TELEMETRY_COUNT", "7")
	t.Setenv("TELEMETRY_FAST", "true")
	t.Setenv("TELEMETRY_TOKEN", canary)
	s := newSample()
	if err := s.Parse(nil, t.Output(), t.Output()); err != nil {
		t.Fatal(err)
	}
	if s.wait != 5*time.Second || s.count != 7 || !s.fast || string(*s.token) != canary {
		t.Errorf("got %v %v %v", s.wait, s.count, s.fast)
	}
}

func TestBadFlagsSayWhereTheyComeFrom(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  [2]string
		want string
	}{
		{args: []string{"-tpoic", "x"}, want: "unknown flag -tpoic (did you mean -topic?)"},
		{args: []string{"-zzz"}, want: "unknown flag -zzz; see telemetry help sample"},
		{args: []string{"-count", "many"}, want: `invalid value "many" for flag -count`},
		{args: []string{"-count"}, want: "flag needs an argument: -count"},
		{args: []string{"-fast=perhaps"}, want: `invalid boolean value "perhaps" for -fast`},
		{args: []string{"-count", "-- many\n"}, want: `invalid value "-- many\n" for flag -count`},
		{args: []string{"---zzz x"}, want: "bad flag syntax: ---zzz x"},
		{args: []string{"--zzz x"}, want: "unknown flag -zzz x; see telemetry help sample"},
		{args: []string{"-- zzz"}, want: `unexpected argument "-- zzz"`},
		{args: []string{"extra"}, want: `unexpected argument "extra"`},
		{args: []string{"-fast", "extra", "-count", "1"}, want: `unexpected argument "extra"`},
		{env: [2]string{"TELEMETRY_COUNT", "many"}, want: `invalid value "many" in TELEMETRY_COUNT, which sets -count`},
		{env: [2]string{"TELEMETRY_STOP_TIMEOUT", "5"}, want: `invalid value "5" in TELEMETRY_STOP_TIMEOUT`},
	} {
		t.Run(strings.Join(append(c.args, c.env[0]), " "), func(t *testing.T) {
			if c.env[0] != "" {
				t.Setenv(c.env[0], c.env[1])
			}
			err := newSample().Parse(c.args, t.Output(), t.Output())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if !errors.As(err, new(ConfigError)) {
				t.Error("the command would not exit with 2")
			}
		})
	}
}

func TestArgumentsMayStandAnywhere(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"a", "-count", "9"}, []string{"a"}},
		{[]string{"-count", "9", "a"}, []string{"a"}},
		{[]string{"a", "-count=9", "b"}, []string{"a", "b"}},
		{[]string{"-count", "9", "--", "-a", "-b"}, []string{"-a", "-b"}},
		{[]string{"-count", "9", "-"}, []string{"-"}},
		{[]string{"-- why = so\nSELECT 1", "-count", "9"}, []string{"-- why = so\nSELECT 1"}},
		{[]string{"-count", "9", "--why=so\nSELECT 1"}, []string{"--why=so\nSELECT 1"}},
		{[]string{"---- why ----\nSELECT 1", "-count", "9"}, []string{"---- why ----\nSELECT 1"}},
		{[]string{"-count", "9", "--\n--why\nSELECT 1", "a"}, []string{"--\n--why\nSELECT 1", "a"}},
		{[]string{"-topic", "-- x\n", "-count", "9"}, nil},
		{[]string{"-count", "9"}, nil},
	} {
		s := newSample()
		s.Takes = "FILE"
		if err := s.Parse(c.args, t.Output(), t.Output()); err != nil {
			t.Fatalf("%q: %v", c.args, err)
		}
		if diff := cmp.Diff(c.want, s.Args()); diff != "" || s.count != 9 {
			t.Errorf("%q: count %d, arguments (-want +got):\n%s", c.args, s.count, diff)
		}
	}
}

func TestASlipInTheEnvironmentIsNamed(t *testing.T) {
	t.Setenv("TELEMETRY_TOPICS", "memory:")
	t.Setenv("TELEMETRY_GATEWAY_EXPORTER_EXPORT_ADDR", "elsewhere")
	var stderr strings.Builder
	if err := newSample().Parse(nil, t.Output(), &stderr); err != nil {
		t.Fatal(err)
	}
	want := "telemetry sample: warning: TELEMETRY_TOPICS is set but sets nothing; did you mean TELEMETRY_TOPIC?\n"
	if stderr.String() != want {
		t.Errorf("got %q, want %q", stderr.String(), want)
	}
}

func TestPrintConfigHidesSecrets(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"token", canary, "token = (hidden)"},
		{"token", "", `token = ""`},
		{"token", "@" + canary, "token = (hidden)"},
		{"topic", "https://user:" + canary + "@host/path", "topic = https://(hidden)@host/path"},
		{"topic", "https://" + canary + "@host/path", "topic = https://(hidden)@host/path"},
		{"topic", "a://u:" + canary + "@h,b://u:" + canary + "@h", "topic = a://(hidden)@h"},
		{"topic", "https://user:100%/?#@\" " + canary + "@host", "topic = https://(hidden)@host"},
		{"topic", "postgres://host/a?password=" + canary + "&sslmode=require", "topic = postgres://host/a?password=(hidden)&sslmode=require"},
		{"topic", "postgres://host/a?sslmode=require&sslpassword=" + canary, "topic = postgres://host/a?sslmode=require&sslpassword=(hidden)"},
		{"topic", "https://host/introspect?client_secret=" + canary + "&token=" + canary, "topic = https://host/introspect?client_secret=(hidden)&token=(hidden)"},
		{"topic", "https://host/a", "topic = https://host/a"},
		{"topic", "sqlite://data/a b.db", `topic = "sqlite://data/a b.db"`},
	} {
		var out strings.Builder
		if err := newSample().Parse([]string{"-" + c.flag, c.value, "-print-config"}, &out, &out); !errors.Is(err, ErrDone) {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.want+"   # from flag\n") {
			t.Errorf("want %s in\n%s", c.want, out.String())
		}
		if strings.Contains(out.String(), canary) {
			t.Errorf("%s shows the secret", c.value)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := Secret(canary)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, struct{ S Secret }{s})
		fmt.Fprintf(&out, verb, &struct{ S *Secret }{&s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("", "s", s, "in", struct{ S Secret }{s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("", "s", s, "in", struct{ S Secret }{s})
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": s, "p": &s}); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("a secret was printed: %s", &out)
		}
	}
}

func TestHelpNamesEveryFlagWithDefaultAndVariable(t *testing.T) {
	var out strings.Builder
	if err := newSample().Parse([]string{"-h"}, &out, t.Output()); !errors.Is(err, ErrDone) {
		t.Fatal(err)
	}
	for _, part := range []string{
		"usage: telemetry sample [flags] [FILE]\n\nDoes nothing.\n",
		"\n  -count events\n        events to send (default 3)\n        $TELEMETRY_COUNT\n",
		"\n  -listen address\n        address to listen on (default 127.0.0.1:1)\n        $TELEMETRY_LISTEN, $PORT\n",
		"\n  -fast\n        hurry\n        $TELEMETRY_FAST\n",
		"\n  -token token\n        a token, or @FILE\n        $TELEMETRY_TOKEN\n",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("want\n%sin\n%s", part, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"send", "send", 0},
		{"", "abc", 3},
		{"snd", "send", 1},
		{"sned", "send", 1},
		{"sent", "send", 1},
		{"tail", "send", 4},
		{"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("from %q to %q: got %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	commands := []string{"gateway", "send", "tail", "license", "version"}
	for word, want := range map[string]string{
		"gatway":  " (did you mean gateway?)",
		"gate":    " (did you mean gateway?)",
		"licence": " (did you mean license?)",
		"snd":     " (did you mean send?)",
		"x":       "",
		"publish": "",
	} {
		if got := didYouMean(word, commands, ""); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}
