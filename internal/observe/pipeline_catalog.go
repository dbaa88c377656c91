// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import "github.com/telemetrygateway/telemetry/internal/limits"

// PipelineCatalog returns every metric that a pipeline has, apart from those
// that the Prometheus library makes about the process and the Go runtime.
func PipelineCatalog() []Metric {
	return []Metric{
		// What became of events. Messages that a topic delivers again, as after a
		// crash, are counted again: the warehouse knows them.
		{
			Name: "telemetry_pipeline_events_total", Kind: KindCounter, Unit: "events",
			Help:   "Messages of events that were handled, by what became of them: landed as new rows; duplicate, which a sender had sent before; redelivered, which the topic had delivered before; or made dead letters, as conflict (of an ID with other content), invalid, or refused by the warehouse for good. With BigQuery, all that it takes count as landed: its views tell them apart.",
			Labels: []Label{{Name: "result", Values: []string{"landed", "duplicate", "redelivered", "conflict", "invalid", "refused"}}},
			Panel:  "Events by result",
			Alert: Alert{
				Name: "PipelineDeadLetters", For: "0m",
				Expr: `sum by (result) (increase(telemetry_pipeline_events_total{result=~"conflict|invalid|refused"}[15m])) > 0`,
				Help: "Events were published that cannot land. They are kept: telemetry deadletter ls says why, and replay publishes them again.",
			},
		},
		{
			Name: "telemetry_pipeline_rejected_total", Kind: KindCounter, Unit: "events",
			Help:   "New rows of the table of rejected events, by reason, those of the gateway's dead letters included. Where a batch has some that were delivered before, the warehouse says how many are new but not which, and the last ones are taken for new. With BigQuery, all that it takes are.",
			Labels: []Label{{Name: "reason", Values: rejectedReasons()}},
			Panel:  "Rejected events by reason",
		},
		{
			Name: "telemetry_pipeline_landing_delay_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time from the gateway having received an event to the commit of the batch that it is in.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600},
			Panel:   "Landing delay",
		},

		// Inserting.
		{
			Name: "telemetry_pipeline_warehouse_up", Kind: KindGauge, Unit: "none",
			Help:  "1 if the last attempts to open the warehouse, and to insert events and dead letters, succeeded.",
			Panel: "Warehouse",
			Alert: Alert{
				Name: "PipelineWarehouseAway", For: "5m",
				Expr: "telemetry_pipeline_warehouse_up == 0",
				Help: "Nothing lands. Nothing is lost either: the topic keeps what is not in the warehouse, and the pipeline goes on by itself once it can. /readyz and the log say what is wrong.",
			},
		},
		{
			Name: "telemetry_pipeline_batch_rows", Kind: KindHistogram, Unit: "rows",
			Help:    "Rows in one batch.",
			Labels:  []Label{topic()},
			Buckets: []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 16_384},
			Panel:   "Rows per batch",
		},
		{
			Name: "telemetry_pipeline_insert_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time for one attempt to insert a batch, whether it succeeds or not.",
			Labels:  []Label{topic()},
			Buckets: durationBuckets(),
			Panel:   "Time to insert a batch",
		},
		{
			Name: "telemetry_pipeline_insert_errors_total", Kind: KindCounter, Unit: "attempts",
			Help:  "Attempts to insert a batch that failed. Each batch is tried until it succeeds.",
			Panel: "Failures to insert",
		},

		// What is yet to be handled, where the topic can tell.
		{
			Name: "telemetry_pipeline_backlog_messages", Kind: KindGauge, Unit: "messages",
			Help:   "Messages that the topic has and the pipeline has not acknowledged.",
			Labels: []Label{topic()},
			Panel:  "Backlog",
		},
		{
			Name: "telemetry_pipeline_backlog_bytes", Kind: KindGauge, Unit: "bytes",
			Help:   "Bytes of keys, attributes and data of those messages.",
			Labels: []Label{topic()},
			Panel:  "Bytes of the backlog",
		},
		{
			Name: "telemetry_pipeline_backlog_age_seconds", Kind: KindGauge, Unit: "seconds",
			Help:   "Age of the oldest of those messages, 0 if there is none.",
			Labels: []Label{topic()},
			Panel:  "Age of the backlog",
			Alert: Alert{
				Name: "PipelineBehind", For: "15m",
				Expr: "telemetry_pipeline_backlog_age_seconds > 15 * 60",
				Help: "What analysts see is more than a quarter of an hour old. If telemetry_pipeline_warehouse_up is 1, more arrives than lands: compare the time to insert a batch with the rows in one.",
			},
		},

		{
			Name: "telemetry_pipeline_queries_total", Kind: KindCounter, Unit: "queries",
			Help:   "Queries and exports that were asked of this process, by whether they were answered.",
			Labels: []Label{{Name: "result", Values: []string{"ok", "failed"}}},
			Panel:  "Queries",
		},
		{
			Name: "telemetry_pipeline_build_info", Kind: KindGauge, Unit: "none",
			Help:   "Always 1; the labels say what the binary was built from.",
			Labels: []Label{{Name: "version", Fixed: true}, {Name: "commit", Fixed: true}},
			Panel:  "Build",
		},
	}
}

// rejectedReasons are those of dead letters, the gateway's and the pipeline's.
func rejectedReasons() []string {
	var codes []string
	for _, r := range limits.Reasons() {
		if r.Permanent {
			codes = append(codes, r.Code)
		}
	}
	for _, r := range limits.PipelineReasons() {
		codes = append(codes, r.Code)
	}
	return codes
}
