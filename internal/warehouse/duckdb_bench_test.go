// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// BenchmarkDuckDBInsert inserts batches of new rows, as large as DuckDB's row
// groups, into a file that has nothing or a million rows already. It reports the
// most memory that the process ever had, which only means something when one
// benchmark runs alone.
func BenchmarkDuckDBInsert(b *testing.B) {
	const batch = 16384
	for _, there := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("there=%d", there), func(b *testing.B) {
			w, err := warehouse.Open(b.Context(), "duckdb://"+filepath.Join(b.TempDir(), "warehouse.duckdb"), warehouse.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			m := newRowMix()
			insert := func(rows []warehouse.Row) {
				result, err := w.Insert(b.Context(), &warehouse.Batch{Events: rows})
				if err != nil || result.Landed != len(rows) {
					b.Fatalf("%+v, %v", result, err)
				}
			}
			rows := make([]warehouse.Row, batch)
			for n := 0; n < there; n += batch {
				m.fill(rows)
				insert(rows)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				m.fill(rows)
				b.StartTimer()
				insert(rows)
			}
			b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(peakMemory(b))/(1<<20), "peak-MB")
		})
	}
}

// A rowMix makes up rows as those of licensed instances are.
type rowMix struct {
	random *rand.Rand
	clock  time.Time
}

func newRowMix() *rowMix {
	return &rowMix{rand.New(rand.NewPCG(1, 2)), time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)}
}

func (m *rowMix) fill(rows []warehouse.Row) {
	for i := range rows {
		rows[i] = m.row()
	}
}

func (m *rowMix) row() warehouse.Row {
	m.clock = m.clock.Add(time.Duration(m.random.IntN(2_000_000)))
	one := func(of ...string) string { return of[m.random.IntN(len(of))] }
	const identity = "license/0198a8b0-7c52-7ad1-9d5c-0242ac120002"
	r := warehouse.Row{
		ContentHash: m.random.Int64(), Identity: identity, EventID: m.uuid(),
		Source: "licensed_instance", SourceID: "bench-site", ExternalURL: "https://bench.example.com",
		LicenseID: "0198a8b0-7c52-7ad1-9d5c-0242ac120002", LicenseStatus: "valid",
		LicenseFingerprint: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", LicenseTags: []string{"plan:bench"},
		Feature:    one("search.results", "codeIntel.hover", "batchChanges.page", "completion.suggestion", "notebooks.editor"),
		Action:     one("viewed", "clicked", "executed", "submitted", "accepted", "dismissed"),
		RecordedAt: m.clock, ReceivedAt: m.clock.Add(time.Minute), LandedAt: m.clock.Add(2 * time.Minute),
		ServerVersion: one("6.4.1203", "6.5.0", "6.5.1"), AnonymousUserID: m.uuid(), ParametersVersion: 1,
		Metadata: []warehouse.Metadatum{
			{Key: "durationMs", Value: float64(m.random.IntN(20_000))},
			{Key: "resultCount", Value: float64(m.random.IntN(500))},
			{Key: "position", Value: float64(m.random.IntN(50))},
			{Key: "queryLength", Value: float64(m.random.IntN(200))},
			{Key: "acceptedRatio", Value: m.random.Float64()},
		},
		FeatureFlags: []warehouse.Flag{
			{Name: "search-ranking-v2", Value: one("true", "false")}, {Name: "new-navigation", Value: one("true", "false")}, {Name: "context-panel", Value: one("true", "false")},
		},
		TraceID: fmt.Sprintf("%016x%016x", m.random.Uint64(), m.random.Uint64()),
	}
	if user := 1 + m.random.Int64N(5000); user%3 > 0 {
		r.UserID = &user
	}
	if m.random.IntN(2) == 0 {
		r.ClientName, r.ClientVersion, r.InteractionID = one("web", "vscode", "jetbrains"), "1.82.4", m.uuid()
	}
	sum := sha256.Sum256([]byte(r.Identity + "\x00" + r.EventID))
	r.KeyHash = [16]byte(sum[:16])
	// As long as payloads of such events are, and as compressible.
	r.Payload = fmt.Appendf(nil, `{"metadata":{"requestId":"bench","identifier":{"licensedInstance":{"instanceId":"bench-site","externalUrl":"https://bench.example.com","licenseKeyFingerprint":%q,"license":{"id":%q,"keyId":"bench","version":4,"tags":["plan:bench"],"users":1000,"createdAt":"2026-01-01T00:00:00Z","expiresAt":"2030-01-01T00:00:00Z","status":"valid"}}}},"event":{"id":%q,"timestamp":%q,"feature":%q,"action":%q,"source":{"server":{"version":%q}},"parameters":{"version":1,"metadata":{"acceptedRatio":%g,"durationMs":%g,"position":%g,"queryLength":%g,"resultCount":%g}},"user":{"anonymousUserId":%q},"featureFlags":{"flags":{"context-panel":"true","new-navigation":"false","search-ranking-v2":"true"}},"interaction":{"traceId":%q}},"labels":{"publisher.source":"licensed_instance","publisher.id":"bench-site","license.id":%q,"event.id":%q,"event.feature":%q,"event.action":%q,"event.hasPrivateMetadata":"false","receivedAt":%q,"publisher.trust":"licensed","license.status":"valid"}}`,
		r.LicenseFingerprint, r.LicenseID, r.EventID, r.RecordedAt.Format(time.RFC3339Nano), r.Feature, r.Action, r.ServerVersion,
		r.Metadata[4].Value, r.Metadata[0].Value, r.Metadata[2].Value, r.Metadata[3].Value, r.Metadata[1].Value,
		r.AnonymousUserID, r.TraceID, r.LicenseID, r.EventID, r.Feature, r.Action, r.ReceivedAt.Format(time.RFC3339Nano))
	return r
}

func (m *rowMix) uuid() string {
	a, b := m.random.Uint64(), m.random.Uint64()
	return fmt.Sprintf("%012x-7%03x-%04x-%012x", m.clock.UnixMilli(), a&0xfff, 0x8000|b>>50&0x3fff, b&(1<<48-1))
}

// peakMemory returns the most bytes that the process ever had in memory.
func peakMemory(t testing.TB) (bytes int64) {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	text, err := io.ReadAll(status)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscanf(after, "%d kB", &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}
