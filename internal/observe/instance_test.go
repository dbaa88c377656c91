// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/exporter"
	"github.com/telemetrygateway/telemetry/internal/observe"
	"github.com/telemetrygateway/telemetry/queue"
)

func emptyQueue(context.Context) (observe.QueueStats, error) { return observe.QueueStats{}, nil }

// instanceLabel returns the values of a metric's last label.
func instanceLabel(t *testing.T, metric string) []string {
	t.Helper()
	rows := observe.InstanceCatalog()
	i := slices.IndexFunc(rows, func(m observe.Metric) bool { return m.Name == metric })
	if i < 0 {
		t.Fatalf("no metric %s", metric)
	}
	return rows[i].Labels[len(rows[i].Labels)-1].Values
}

func TestErrorsOfPassesAreThoseThereAre(t *testing.T) {
	want := []string{""}
	for _, k := range []client.Kind{
		client.Canceled, client.Unreachable, client.Insecure, client.NotGateway, client.Unsupported, client.Refused, client.Busy, client.Broken,
		exporter.KindQueue, exporter.KindFenced, exporter.KindConfig,
	} {
		want = append(want, string(k))
	}
	want = append(want, "not_taken")
	if diff := cmp.Diff(want, instanceLabel(t, "telemetry_instance_export_passes_total")); diff != "" {
		t.Errorf("the catalog differs from packages client and exporter (-packages +catalog):\n%s", diff)
	}
}

func TestReasonsOfAClientAreCounted(t *testing.T) {
	got := instanceLabel(t, "telemetry_instance_verdicts_total")
	for _, r := range []string{client.ReasonNotSent, client.ReasonUnanswered, client.ReasonUnacknowledged, client.ReasonUnencodable, client.ReasonTooLarge} {
		if !slices.Contains(got, r) {
			t.Errorf("reason %s would be counted as other", r)
		}
	}
}

func TestModesAreThoseThereAre(t *testing.T) {
	var want []string
	for m := queue.All; m <= queue.Off; m++ {
		want = append(want, m.String())
	}
	if diff := cmp.Diff(want, instanceLabel(t, "telemetry_instance_export_mode")); diff != "" {
		t.Errorf("the catalog differs from package queue (-queue +catalog):\n%s", diff)
	}
	m := observe.NewInstanceMetrics("v1.2.3", "c0ffee", emptyQueue)
	for _, mode := range []string{"off", "limited"} {
		m.Mode(mode)
	}
	body := scrape(t, m)
	for mode, in := range map[string]string{"all": "0", "limited": "1", "local": "0", "off": "0"} {
		if want := `telemetry_instance_export_mode{mode="` + mode + `"} ` + in + "\n"; !strings.Contains(body, want) {
			t.Errorf("not found: %s", want)
		}
	}
}

// Every event recorded is in one of the terms of a scrape.
func TestTheTermsOfAScrapeAddUp(t *testing.T) {
	body := scrape(t, touchedInstance(t))
	for _, want := range []string{
		"telemetry_instance_recorded_events_total 100\n",
		`telemetry_instance_settled_events_total{outcome="exported"} 60` + "\n",
		`telemetry_instance_settled_events_total{outcome="dead_lettered"} 20` + "\n",
		`telemetry_instance_settled_events_total{outcome="filtered"} 10` + "\n",
		`telemetry_instance_settled_events_total{outcome="expired"} 7` + "\n",
		"src_telemetrygatewayexporter_queue_size 3\n",
		"telemetry_instance_queue_bytes 300\n",
		"src_telemetrygatewayexporter_oldest_unexported_event 3600.",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("not found: %s", want)
		}
	}
}

func TestAnEmptyQueueHasNoOldestEvent(t *testing.T) {
	body := scrape(t, observe.NewInstanceMetrics("v1.2.3", "c0ffee", emptyQueue))
	if !strings.Contains(body, "src_telemetrygatewayexporter_oldest_unexported_event 0\n") {
		t.Error("an empty queue has an oldest event")
	}
}

func TestAQueueThatCannotTellIsNotShownAsEmpty(t *testing.T) {
	body := scrape(t, observe.NewInstanceMetrics("v1.2.3", "c0ffee", func(context.Context) (observe.QueueStats, error) {
		return observe.QueueStats{}, errors.New("gone")
	}))
	if strings.Contains(body, "\nsrc_telemetrygatewayexporter_queue_size") {
		t.Error("a queue that cannot tell what it holds is shown as holding something")
	}
	if !strings.Contains(body, "telemetry_instance_build_info") {
		t.Error("the rest of the scrape is missing")
	}
}
