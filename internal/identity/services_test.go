// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func openServices(t *testing.T, path string) (*serviceFile, *bytes.Buffer, *[]string) {
	t.Helper()
	var log bytes.Buffer
	var told []string
	s, err := openServiceFile(path, slog.New(slog.NewTextHandler(&log, nil)), func(entries int, err error) {
		told = append(told, fmt.Sprint(entries, err != nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, &log, &told
}

// wantAllowed checks who may send, in lines of client, service and environment.
func wantAllowed(t *testing.T, s *serviceFile, want map[string]bool) {
	t.Helper()
	for line, want := range want {
		var f [3]string
		copy(f[:], strings.Split(line, " "))
		err := s.allow(f[0], f[1], f[2])
		if (err == nil) != want {
			t.Errorf("client %q as %q from %q: %v, want allowed: %v", f[0], f[1], f[2], err, want)
		}
		if err != nil {
			wantRefusal(t, err, NotAllowed)
		}
	}
}

func TestServicesWithoutFile(t *testing.T) {
	s, _, told := openServices(t, "")
	wantAllowed(t, s, map[string]bool{
		"pings pings":      true,
		"pings pings prod": true,
		"pings pongs":      false,
		"pings Pings":      false,
		"pings pingss":     false,
		"pings ":           false,
		" pings":           false,
		" ":                false, // a token without a client
	})
	if err := s.reload(); err != nil || len(*told) != 0 {
		t.Errorf("there is nothing to read again: %v, %q", err, *told)
	}
}

func TestServicesExample(t *testing.T) {
	s, _, told := openServices(t, "testdata/services.yaml")
	if got := fmt.Sprint(*told); got != "[4 false]" {
		t.Errorf("told %s, want four entries", got)
	}
	wantAllowed(t, s, map[string]bool{
		"3f6c2a9e pings":         true,
		"3f6c2a9e pings prod":    true,
		"3f6c2a9e pings dev":     true,
		"3f6c2a9e pings test":    false,
		"3f6c2a9e pings PROD":    false,
		"3f6c2a9e pings *":       false, // no environment is called that
		"3f6c2a9e pongs":         true,
		"3f6c2a9e pongs staging": true,
		"3f6c2a9e pongs *":       true,
		"3f6c2a9e 3f6c2a9e":      false, // with a file, a client is not its own service
		"3f6c2a9e PINGS":         false,
		"3f6c2a9e ":              false,
		"0042 reports":           true,
		"0042 reports prod":      false,
		"42 reports":             false,
		"0042 pings":             false,
		"pings-ci pings":         true,
		"pings-ci pings ci":      true,
		"pings-ci pings prod":    false,
		"pings pings":            false,
		" pings":                 false,
	})
}

func TestServicesFile(t *testing.T) {
	const entry = "services:\n- client: a\n  service: b\n"
	for name, row := range map[string]struct{ text, want string }{
		"an entry":                      {entry, ""},
		"no entries":                    {"services: []\n", ""},
		"quotes":                        {"services: [{client: '1', service: \"2\"}]", ""},
		"no environments":               {entry + "  environments: []\n", ""},
		"a client twice":                {entry + "- client: a\n  service: c\n", ""},
		"a service twice":               {entry + "- client: c\n  service: b\n", ""},
		"both twice":                    {entry + "- client: a\n  service: b\n  environments: ['*']\n", `line 4: client "a" with service "b" is listed in line 2 already`},
		"empty":                         {"", "services: []"},
		"comments":                      {"# nothing\n", "services: []"},
		"null":                          {"services:\n", "line 1: this is not a list"},
		"a list":                        {"- client: a\n", "line 1: this is not an object; there must be one with: services"},
		"an object":                     {"services:\n  a: b\n", "line 2: this is not a list"},
		"another field":                 {entry + "version: 1\n", `line 4: field "version" is not known; it must be one of: services`},
		"a field of an entry":           {entry + "  environment: [a]\n", `line 4: field "environment" is not known; it must be one of: client, environments, service`},
		"another case":                  {"services:\n- Client: a\n", `line 2: field "Client" is not known`},
		"no client":                     {"services:\n- service: b\n", "line 2: field client is missing"},
		"no service":                    {entry + "\n\n- client: c\n", "line 6: field service is missing"},
		"a field twice":                 {entry + "  client: c\n", "line 4: field client is there twice"},
		"services twice":                {entry + "services: []\n", "line 4: field services is there twice"},
		"an empty name":                 {"services:\n- client: ''\n  service: b\n", "line 2: this is empty"},
		"a name that is missing":        {"services:\n- client:\n  service: b\n", "line 2: this is not a text"},
		"a number":                      {"services:\n- client: 0042\n  service: b\n", "line 2: this is not a text; put it in quotes"},
		"a truth":                       {"services:\n- client: a\n  service: true\n", "line 3: this is not a text"},
		"a control character":           {"services:\n- client: \"a\\tb\"\n  service: b\n", "line 2: this contains a control character"},
		"a long service":                {"services:\n- client: a\n  service: " + strings.Repeat("b", 129) + "\n", "line 3: this has 129 bytes; at most 128 are allowed"},
		"environments as a text":        {entry + "  environments: prod\n", "line 4: this is not a list"},
		"environments: null":            {entry + "  environments:\n", "line 4: this is not a list"},
		"an environment twice":          {entry + "  environments: [a, b, a]\n", `line 4: environment "a" is listed twice`},
		"any environment, and one":      {entry + "  environments: [a, '*']\n", `line 2: "*" stands for every environment`},
		"an environment that is a list": {entry + "  environments: [[a]]\n", "line 4: this is not a text"},
		"a star without quotes":         {entry + "  environments: [*]\n", "in quotes"},
		"an alias":                      {"services:\n- &x {client: a, service: b}\n- *x\n", "line 3: this is not an object"},
		"a merge":                       {"services:\n- &x {client: a, service: b}\n- <<: *x\n  service: c\n", `line 3: field "<<" is not known`},
		"a tag":                         {"services:\n- client: !!binary YQ==\n  service: b\n", "line 2: this is not a text"},
		"two documents":                 {entry + "---\n" + entry, "line 4: a second document begins"},
		"garbage after it":              {entry + "---\n}", "line 4"},
		"a tabulator":                   {"services:\n\t- client: a\n", "line 2"},
		"not UTF-8":                     {"services:\n- client: \xff\n", "UTF-8"},
		"too large":                     {"#" + strings.Repeat("x", 1<<20), "more than 1048576"},
		"deep":                          {"services: " + strings.Repeat("[", 100_000), "depth"},
	} {
		_, err := parseServices([]byte(row.text))
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: error is %v, want one with %q", name, err, row.want)
		}
	}
}

func TestServicesAreReadAgain(t *testing.T) {
	path := writeFile(t, "services.yaml", "services:\n- {client: a, service: one}\n")
	s, log, told := openServices(t, path)
	change := func(text, wantTold, wantLog string) {
		t.Helper()
		if text == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		*told = nil
		log.Reset()
		err := s.reload()
		if got := fmt.Sprint(*told); got != "["+wantTold+"]" || !strings.Contains(log.String(), wantLog) {
			t.Errorf("told %s, error %v, log %s, want %s and %q", got, err, log, wantTold, wantLog)
		}
		if failed := strings.HasSuffix(wantTold, "true"); failed != (err != nil) {
			t.Errorf("error is %v, want one: %v", err, failed)
		}
	}
	one := map[string]bool{"a one": true, "a two": false}
	two := map[string]bool{"a one": false, "a two": true}
	wantAllowed(t, s, one)
	change("services:\n- {client: a, service: two}\n- {client: b, service: two}\n", "2 false", "read again")
	wantAllowed(t, s, two)
	change("services:\n- {client: a, service: one, env: [x]}\n", "0 true", "line 2")
	wantAllowed(t, s, two)
	change("", "0 true", "stays in force")
	wantAllowed(t, s, two)
	change("services:\n- {client: a, service: one}\n", "1 false", "read again")
	wantAllowed(t, s, one)
	change("services: []\n", "0 false", "read again")
	wantAllowed(t, s, map[string]bool{"a one": false, "a two": false, "a a": false})

	if _, err := openServiceFile(path+".missing", slog.New(slog.DiscardHandler), func(int, error) {}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v, want one about a file that is missing from the start", err)
	}
}

func FuzzServices(f *testing.F) {
	example, err := os.ReadFile("testdata/services.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, text := range []string{
		"", "services: []", "services: [{client: a, service: b, environments: ['*']}]", "services:\n- &x {client: a}\n- *x\n",
		"services: [{client: 1, service: true}]", "services: {}\n---\nservices: []\n", "\xff\xfe", "[[[[", "services: !!set {a}",
		"a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nservices: *c\n", "? [a]\n: b\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		listed, err := parseServices(text)
		s := &serviceFile{}
		if err != nil {
			if listed != nil {
				t.Error("there are both entries and an error")
			}
			return
		}
		s.listed.Store(&listed)
		for name, l := range listed {
			if name.client == "" || name.service == "" || l.line == 0 {
				t.Errorf("entry %q in line %d is not whole", name, l.line)
			}
			if err := s.allow(name.client, name.service, ""); err != nil {
				t.Errorf("%q is listed, and refused: %v", name, err)
			}
			if err := s.allow(name.client+"x", name.service, ""); err == nil && listed[clientService{name.client + "x", name.service}] == nil {
				t.Errorf("a client like %q is let in", name)
			}
			for _, environment := range l.environments {
				if err := s.allow(name.client, name.service, environment); err != nil {
					t.Errorf("%q is listed with %q, and refused: %v", name, environment, err)
				}
			}
			if len(l.environments) == 0 && s.allow(name.client, name.service, "prod") == nil {
				t.Errorf("%q may name an environment", name)
			}
		}
		if s.allow("", "", "") == nil {
			t.Error("a token without a client is let in")
		}
	})
}
