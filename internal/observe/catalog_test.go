// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/observe"
)

func scrape(t *testing.T, m interface{ Handler() http.Handler }) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// touched returns metrics of which everything has happened once.
func touched(t *testing.T) *observe.Metrics {
	t.Helper()
	m := observe.NewMetrics("v1.2.3", "c0ffee")
	m.EventsReceived.Add(1, "licensed_instance")
	m.Events.Add(1, "licensed_instance", "accepted", "")
	m.ProcessedEvents.Add(1, "true", "success", "licensed_instance")
	m.PayloadLength.Observe(1, "success", "licensed_instance")
	m.TotalLength.Observe(1, "false", "licensed_instance")
	m.Calls.Add(1, "RecordEvents", "ok")
	m.Streams.Add(1, "licensed_instance")
	m.IdentificationFailures.Add(1, "revoked")
	m.ReceivedMessageSize.Observe(1, "licensed_instance")
	m.AckDuration.Observe(1, "licensed_instance")
	m.InFlightBytes.Add(1)
	m.PublishDuration.Observe(1, "events")
	m.PublishBatch.Observe(1, "events")
	m.PublishedMessageSize.Observe(1)
	m.LicenseFileEntries.Set(1, "keys")
	m.LicenseFileLoaded.Set(1, "keys")
	m.LicenseFileErrors.Add(1, "keys")
	m.TokenChecks.Add(1, "introspection", "active")
	m.TokenCheckDuration.Observe(1)
	m.ServicesFileEntries.Set(1)
	m.ServicesFileLoaded.Set(1)
	m.ServicesFileErrors.Add(1)
	m.Topic("events", func(context.Context) (observe.TopicStats, error) {
		return observe.TopicStats{Messages: 3, Bytes: 300, Oldest: time.Now().Add(-time.Hour), ExpiredUnread: 7}, nil
	})
	return m
}

// touchedInstance is touched for an instance.
func touchedInstance(t *testing.T) *observe.InstanceMetrics {
	t.Helper()
	m := observe.NewInstanceMetrics("v1.2.3", "c0ffee", func(context.Context) (observe.QueueStats, error) {
		return observe.QueueStats{
			Pending: 3, Bytes: 300, Oldest: time.Now().Add(-time.Hour),
			Recorded: 100, Exported: 60, DeadLettered: 20, Filtered: 10, Expired: 7,
		}, nil
	})
	m.BatchSize.Observe(1)
	m.ExportDuration.Observe(1)
	m.CleanupDuration.Observe(1)
	m.Mode("limited")
	return m
}

// touchedPipeline is touched for a pipeline.
func touchedPipeline(t *testing.T) *observe.PipelineMetrics {
	t.Helper()
	m := observe.NewPipelineMetrics("v1.2.3", "c0ffee")
	m.LandingDelay.Observe(1)
	m.BatchRows.Observe(1, "events")
	m.InsertDuration.Observe(1, "deadletter")
	m.Backlog("events", func(context.Context) (observe.Backlog, error) {
		return observe.Backlog{Messages: 3, Bytes: 300, Oldest: time.Now().Add(-time.Hour)}, nil
	})
	return m
}

func TestEveryRowIsEmittedAndNothingElse(t *testing.T) {
	for _, process := range []struct {
		name    string
		catalog []observe.Metric
		body    string
	}{
		{"gateway", observe.Catalog(), scrape(t, touched(t))},
		{"instance", observe.InstanceCatalog(), scrape(t, touchedInstance(t))},
		{"pipeline", observe.PipelineCatalog(), scrape(t, touchedPipeline(t))},
	} {
		t.Run(process.name, func(t *testing.T) {
			got := map[string]string{}
			for line := range strings.Lines(process.body) {
				if f := strings.Fields(line); f[0] == "#" && f[1] == "TYPE" && !strings.HasPrefix(f[2], "go_") && !strings.HasPrefix(f[2], "process_") {
					got[f[2]] = f[3]
				}
			}
			want := map[string]string{}
			for _, row := range process.catalog {
				want[row.Name] = string(row.Kind)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the catalog and what is emitted differ (-catalog +emitted):\n%s", diff)
			}
		})
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	for _, body := range []string{scrape(t, touched(t)), scrape(t, touchedInstance(t)), scrape(t, touchedPipeline(t))} {
		problems, err := promlint.New(strings.NewReader(body)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			// Those of the original service are named as they are.
			if strings.HasPrefix(p.Metric, "telemetry_") {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
}

func TestRowsAreWhole(t *testing.T) {
	known := map[string]bool{}
	rows := slices.Concat(observe.Catalog(), observe.InstanceCatalog(), observe.PipelineCatalog())
	for _, row := range rows {
		known[row.Name] = true
		if row.Kind == observe.KindHistogram {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[row.Name+suffix] = true
			}
		}
	}
	alerts := map[string]bool{}
	for _, row := range rows {
		if row.Unit == "" || row.Help == "" || row.Panel == "" {
			t.Errorf("%s lacks its unit, help or panel", row.Name)
		}
		if (row.Kind == observe.KindHistogram) != (len(row.Buckets) > 0) || !slices.IsSorted(row.Buckets) {
			t.Errorf("%s: buckets %v", row.Name, row.Buckets)
		}
		for _, l := range row.Labels {
			if (len(l.Values) == 0) != l.Fixed {
				t.Errorf("%s: label %s is not bounded", row.Name, l.Name)
			}
		}
		a := row.Alert
		if a.Name == "" {
			continue
		}
		if alerts[a.Name] || a.Help == "" || !strings.Contains(a.Expr, row.Name) {
			t.Errorf("%s: alert %q is there twice, lacks help, or is not about the metric", row.Name, a.Name)
		}
		alerts[a.Name] = true
		if d, err := time.ParseDuration(a.For); err != nil || d < 0 {
			t.Errorf("alert %s: For is %q", a.Name, a.For)
		}
		for _, name := range regexp.MustCompile(`\b(src_)?telemetry\w*_\w+`).FindAllString(a.Expr, -1) {
			if !known[name] {
				t.Errorf("alert %s is about %s, which does not exist", a.Name, name)
			}
		}
	}
}

func TestIdentificationReasonsAreThoseThereAre(t *testing.T) {
	var want []string
	for _, r := range identity.Reasons() {
		want = append(want, string(r))
	}
	rows := observe.Catalog()
	i := slices.IndexFunc(rows, func(m observe.Metric) bool { return m.Name == "telemetry_gateway_identification_failures_total" })
	if diff := cmp.Diff(want, rows[i].Labels[0].Values); diff != "" {
		t.Errorf("the catalog differs from package identity (-identity +catalog):\n%s", diff)
	}
}

func TestSendersCannotChooseLabels(t *testing.T) {
	m := observe.NewMetrics("v1.2.3", "c0ffee")
	before := strings.Count(scrape(t, m), "\n")
	for i := range 1000 {
		made := fmt.Sprintf("instance-%d", i)
		m.Events.Add(1, made, "accepted", made)
		m.IdentificationFailures.Add(1, made)
		m.Streams.Add(1, made)
	}
	after := scrape(t, m)
	if strings.Contains(after, "instance-") {
		t.Error("a value that is not in the catalog became a label")
	}
	if grown := strings.Count(after, "\n") - before; grown != 3 {
		t.Errorf("1000 unknown values made %d new series, want one for each metric", grown)
	}
	for _, want := range []string{
		`telemetry_gateway_events_total{outcome="accepted",reason="other",source="other"} 1000`,
		`telemetry_gateway_identification_failures_total{reason="other"} 1000`,
	} {
		if !strings.Contains(after, want) {
			t.Errorf("not found: %s", want)
		}
	}
}

func TestAlertedSeriesBeginAtZero(t *testing.T) {
	body := scrape(t, observe.NewMetrics("v1.2.3", "c0ffee"))
	for _, want := range []string{
		`telemetry_gateway_events_total{outcome="dead_lettered",reason="undecodable",source="licensed_instance"} 0`,
		`telemetry_gateway_events_total{outcome="accepted",reason="",source="licensed_instance"} 0`,
		`telemetry_gateway_license_file_errors_total{file="keys"} 0`,
		`telemetry_gateway_build_info{commit="c0ffee",version="v1.2.3"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("not found: %s", want)
		}
	}
}

func TestBacklogsAreAskedAtEachScrape(t *testing.T) {
	m := observe.NewPipelineMetrics("v1.2.3", "c0ffee")
	unread := int64(1)
	m.Backlog("events", func(context.Context) (observe.Backlog, error) {
		return observe.Backlog{Messages: unread}, nil
	})
	m.Backlog("deadletter", func(context.Context) (observe.Backlog, error) {
		return observe.Backlog{}, errors.New("gone")
	})
	for unread = range int64(3) {
		body := scrape(t, m)
		for _, want := range []string{
			fmt.Sprintf("telemetry_pipeline_backlog_messages{topic=\"events\"} %d\n", unread),
			`telemetry_pipeline_backlog_age_seconds{topic="events"} 0`,
		} {
			if !strings.Contains(body, want) {
				t.Errorf("not found: %s", want)
			}
		}
		if strings.Contains(body, `telemetry_pipeline_backlog_messages{topic="deadletter"}`) {
			t.Error("a topic that cannot tell how much is left is shown as having something")
		}
	}
}

func TestTopicsAreAskedAtEachScrape(t *testing.T) {
	m := observe.NewMetrics("v1.2.3", "c0ffee")
	stored := int64(1)
	m.Topic("events", func(context.Context) (observe.TopicStats, error) {
		return observe.TopicStats{Messages: stored}, nil
	})
	m.Topic("deadletter", func(context.Context) (observe.TopicStats, error) {
		return observe.TopicStats{}, errors.New("gone")
	})
	for stored = range int64(3) {
		body := scrape(t, m)
		if want := fmt.Sprintf("telemetry_gateway_topic_stored_messages{topic=\"events\"} %d\n", stored); !strings.Contains(body, want) {
			t.Errorf("not found: %s", want)
		}
		if !strings.Contains(body, `telemetry_gateway_topic_oldest_message_age_seconds{topic="events"} 0`) {
			t.Error("an empty topic has an oldest message")
		}
		if strings.Contains(body, `telemetry_gateway_topic_stored_messages{topic="deadletter"}`) {
			t.Error("a topic that cannot tell what it holds is shown as holding something")
		}
	}
}

func TestDocumentation(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Metrics

The admin listeners of a gateway, an instance and a pipeline serve these at ` + "`/metrics`" + `,
for Prometheus and everything that reads its format, together with the usual ` + "`go_*`" + ` and
` + "`process_*`" + ` ones. No label has values that a sender can choose: what is not listed here
is counted as ` + "`other`" + `.

This page is made from the files ` + "`*catalog.go` in `internal/observe`" + `;
` + "`go test ./internal/observe -update`" + ` writes it anew.

## Gateway
`)
	document(&b, observe.Catalog())
	b.WriteString("\n## Instance\n\nNames that begin with `src_` are the original service's, and so are their meanings.\n")
	document(&b, observe.InstanceCatalog())
	b.WriteString("\n## Pipeline\n")
	document(&b, observe.PipelineCatalog())
	golden.Check(t, []byte(b.String()), "../../docs/metrics.md")
}

func document(b *strings.Builder, catalog []observe.Metric) {
	b.WriteString("\n| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n")
	for _, row := range catalog {
		var labels []string
		for _, l := range row.Labels {
			labels = append(labels, "`"+l.Name+"`")
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", row.Name, row.Kind, row.Unit, strings.Join(labels, ", "), row.Help)
	}
	b.WriteString("\n### Labels\n\n")
	labels := map[string][]string{}
	for _, row := range catalog {
		for _, l := range row.Labels {
			key := "`" + l.Name + "`"
			if values, ok := labels[key]; l.Name == "reason" || ok && !slices.Equal(values, l.Values) {
				key += " of `" + row.Name + "`"
			}
			labels[key] = l.Values
		}
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		var values []string
		for _, v := range labels[key] {
			if v != "" {
				values = append(values, "`"+v+"`")
			}
		}
		text := strings.Join(values, ", ")
		if text == "" {
			text = "one for each build"
		}
		fmt.Fprintf(b, "* %s: %s\n", key, text)
	}
	b.WriteString("\n### Alerts\n\n| alert | condition | for | what to do |\n|---|---|---|---|\n")
	for _, row := range catalog {
		if a := row.Alert; a.Name != "" {
			fmt.Fprintf(b, "| %s | `%s` | %s | %s |\n", a.Name, strings.ReplaceAll(a.Expr, "|", `\|`), a.For, a.Help)
		}
	}
}
