// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/telemetrygateway/telemetry/"

// everything stands for all packages of the module.
var everything = []string{"*"}

// drivers are the SQL drivers, which public packages leave to their users.
var drivers = []string{"modernc.org/sqlite", "github.com/jackc/pgx"}

// duckdb is C++, which what faces the internet must not carry.
const duckdb = "github.com/duckdb"

// rules say, for each package, which of ours it may import and what it must
// never link, not even through others. Adding a package without a row here
// fails the test, so that where it belongs is decided and not drifted into.
var rules = map[string]struct {
	imports []string
	never   []string
	why     string
}{
	"gen/telemetrygateway/v1":                           {why: "generated from the contract; imports nothing of ours"},
	"gen/telemetrygateway/v1/telemetrygatewayv1connect": {imports: []string{"gen/telemetrygateway/v1"}, why: "generated from the contract"},
	"gen/telemetryintake/v1":                            {why: "generated from the contract between a page and its backend; it knows nothing of the other contract"},
	"gen/telemetryintake/v1/telemetryintakev1connect":   {imports: []string{"gen/telemetryintake/v1"}, why: "generated from the contract between a page and its backend"},
	".": {
		imports: []string{"gen/telemetrygateway/v1", "internal/limits"},
		never:   []string{"net/http", "connectrpc.com/connect", "go.opentelemetry.io/otel", "gopkg.in/yaml.v3"},
		why:     "the SDK: whoever imports it gains protobuf and uuid, and no more",
	},
	"telemetrytest": {imports: []string{".", "gen/telemetrygateway/v1", "internal/limits"}, why: "for users' tests"},
	"queue": {
		imports: []string{"gen/telemetrygateway/v1", "internal/database", "internal/license", "internal/limits", "internal/strictyaml"},
		never:   slices.Concat(drivers, []string{"net/http", "go.opentelemetry.io/otel", "connectrpc.com/connect"}),
		why:     "public: it takes a database and has no opinion on its driver, nor on who empties it",
	},
	"eventlog": {
		imports: []string{"gen/telemetrygateway/v1", "internal/database", "internal/limits"},
		never:   slices.Concat(drivers, []string{"net/http", "go.opentelemetry.io/otel", "connectrpc.com/connect"}),
		why:     "public: it takes a database; what is in it never leaves, so it knows nothing that sends",
	},
	"buffer": {
		imports: []string{"client", "gen/telemetrygateway/v1"},
		never:   []string{"database/sql", "go.opentelemetry.io/otel", "google.golang.org/grpc", module + "queue", module + "internal/limits"},
		why:     "memory between a recorder and a client, for services that own no disk",
	},
	"exporter": {
		imports: []string{"client", "queue"},
		never:   slices.Concat(drivers, []string{"go.opentelemetry.io/otel"}),
		why:     "queue to gateway, and nothing else",
	},
	"intake": {
		imports: []string{".", "eventlog", "gen/telemetrygateway/v1", "gen/telemetryintake/v1", "gen/telemetryintake/v1/telemetryintakev1connect", "internal/limits", "queue"},
		never:   slices.Concat(drivers, []string{module + "client", module + "exporter", "go.opentelemetry.io/otel/sdk"}),
		why:     "a door: it records, shows administrators what was recorded, and sends nothing",
	},
	"internal/database":         {never: append([]string{"net/http"}, drivers...), why: "what the stores share about SQL; drivers are the application's"},
	"internal/database/cluster": {why: "tests and benchmarks only"},
	"client":                    {imports: []string{"gen/telemetrygateway/v1", "gen/telemetrygateway/v1/telemetrygatewayv1connect"}, never: []string{"database/sql", "go.opentelemetry.io/otel", "google.golang.org/grpc", "cloud.google.com/go/pubsub/v2", "github.com/go-jose/go-jose/v4", module + "internal/limits"}, why: "public: whoever imports it gets little else, and it must not know the gateway's insides"},
	"internal/watch":            {why: "files that change; it does not know what is in them"},
	"internal/strictyaml":       {never: []string{"net/http"}, why: "lists that people write; it does not know what is in them"},
	"internal/limits":           {imports: []string{"gen/telemetrygateway/v1"}, why: "what every stage agrees on"},
	"internal/license":          {imports: []string{"internal/limits"}, never: []string{"net/http"}, why: "small enough to audit"},
	"internal/identity":         {imports: []string{"gen/telemetrygateway/v1", "internal/license", "internal/limits", "internal/oauth", "internal/strictyaml", "internal/watch"}, never: []string{"connectrpc.com/connect", "google.golang.org/grpc"}, why: "who sends, whatever the RPC"},
	"internal/oauth":            {imports: []string{"internal/limits"}, never: []string{"connectrpc.com/connect", "google.golang.org/grpc", "golang.org/x/oauth2", "database/sql", module + "internal/identity"}, why: "proves access tokens, gets none, and does not know what they are for"},
	"internal/payload":          {imports: []string{"gen/telemetrygateway/v1", "internal/limits"}, never: []string{module + "internal/identity", "connectrpc.com/connect", module + "internal/topic"}, why: "a format; it knows neither who sends nor what carries it"},
	"internal/topic":            {imports: []string{"internal/limits"}, why: "carries messages and knows nothing of events"},
	"internal/topic/emulator":   {why: "tests only"},
	"internal/topic/pubsubfake": {imports: []string{"internal/limits"}, why: "tests and benchmarks only"},
	"internal/observe":          {imports: []string{"internal/limits"}, never: []string{"net/http/pprof"}, why: "sees no events; and importing net/http/pprof would add handlers to the default mux"},
	"internal/gateway": {
		imports: []string{"gen/telemetrygateway/v1", "gen/telemetrygateway/v1/telemetrygatewayv1connect", "internal/identity", "internal/limits", "internal/observe", "internal/payload", "internal/topic"},
		why:     "the station that joins identity, payload and topic",
	},
	"internal/command":    {never: []string{"database/sql", "net/http"}, why: "what the command lines of all programs share; it knows none of them"},
	"internal/deadletter": {imports: []string{"internal/limits", "internal/payload", "internal/topic"}, never: []string{duckdb, module + "internal/pipeline", module + "internal/warehouse"}, why: "topics of dead letters; it links into the static binary, so it knows no warehouse"},
	"internal/warehouse": {
		never: []string{"net/http/pprof", module + "internal/topic", module + "internal/payload", "modernc.org/sqlite"},
		why:   "rows in, answers out; it knows neither where rows come from nor what a payload is",
	},
	"internal/warehouse/door":         {imports: []string{"internal/warehouse"}, never: []string{module + "internal/topic"}, why: "lets a running warehouse be asked, and nothing else"},
	"internal/warehouse/bigqueryfake": {never: []string{module + "internal/warehouse"}, why: "tests only: a BigQuery that knows nothing of us"},
	"internal/pipeline": {
		imports: []string{"gen/telemetrygateway/v1", "internal/limits", "internal/observe", "internal/payload", "internal/topic", "internal/warehouse"},
		never:   []string{module + "internal/gateway", module + "internal/identity"},
		why:     "the station that joins topic, payload and warehouse; it knows events by what was published",
	},
	"internal/balance":        {imports: []string{"internal/payload", "internal/pipeline", "internal/topic", "internal/warehouse"}, why: "audits what the pipeline did, from both of its ends"},
	"internal/golden":         {why: "tests only"},
	"internal/oauth/glewlwyd": {never: []string{module + "internal/oauth"}, why: "for tests and for trying out: a provider that knows nothing of us"},
	"cmd/telemetry":           {imports: everything, never: []string{"testing", module + "internal/topic/emulator", module + "internal/topic/pubsubfake", module + "internal/golden", module + "internal/oauth/glewlwyd", module + "internal/database/cluster", module + "telemetrytest", module + "internal/warehouse", module + "internal/pipeline", duckdb, "runtime/cgo"}, why: "wires everything; one static binary without anything of the tests"},
	"cmd/telemetry-pipeline":  {imports: everything, never: []string{"testing", module + "internal/topic/emulator", module + "internal/topic/pubsubfake", module + "internal/golden", module + "internal/warehouse/bigqueryfake", module + "internal/gateway"}, why: "wires everything that needs the warehouse; the binary with C++ in it faces no sender"},
	"examples/provider":       {imports: []string{"internal/oauth/glewlwyd"}, why: "a provider to try things out with"},
	"examples/service":        {imports: []string{".", "buffer", "client", "exporter", "gen/telemetrygateway/v1", "intake", "queue"}, why: "to be copied from, so it has only what everybody has: public packages"},
	"bench":                   {imports: everything, why: "measures everything"},
	"journey":                 {imports: everything, why: "drives everything"},
	"web/test/server":         {imports: []string{".", "gen/telemetrygateway/v1", "intake"}, why: "the tests of the web client only"},
}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func TestDependencies(t *testing.T) {
	// The go command repeats an old result unless it knows what the test
	// depends on, which is every source file.
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// As the static binary is built. Without cgo there is no DuckDB: -e lets what
	// needs it be looked at all the same.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath+"/", module)
		name = strings.TrimSuffix(name, "/")
		if name == "" {
			name = "." // the root
		}
		seen[name] = true
		rule, ok := rules[name]
		if !ok {
			t.Errorf("package %s has no row in rules: decide what it may import", name)
			continue
		}
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, module)
			if i+"/" == module {
				ours, isOurs = ".", true
			}
			if isOurs && !slices.Contains(rule.imports, ours) && !slices.Equal(rule.imports, everything) {
				t.Errorf("%s imports %s, and may not: %s", name, ours, rule.why)
			}
			if strings.HasPrefix(i, module+"cmd/") {
				t.Errorf("%s imports %s: nothing imports a command", name, i)
			}
		}
		for _, never := range rule.never {
			for _, d := range p.Deps {
				if d == never || strings.HasPrefix(d, never+"/") {
					t.Errorf("%s links %s, and must not: %s", name, d, rule.why)
				}
			}
		}
	}
	for name := range maps.Keys(rules) {
		if !seen[name] {
			t.Errorf("rules has a row for %s, which is not there", name)
		}
	}
}
