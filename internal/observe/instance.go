// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// InstanceMetrics are an instance's: one field for each row of InstanceCatalog
// that is counted as things happen. Values of labels are given in the catalog's
// order.
type InstanceMetrics struct {
	*registry

	QueuedEvents    Counter   // {failed}
	BatchSize       Histogram // {}
	ExportedEvents  Counter   // {}
	Verdicts        Counter   // {reason}
	ExportPasses    Counter   // {identity, error}
	Exports         Counter   // {}
	ExportErrors    Counter   // {}
	ExportDuration  Histogram // {}
	LastExport      Gauge     // {}
	LicenseRefused  Gauge     // {}
	FileErrors      Counter   // {file}
	IntakeRequests  Counter   // {result}
	InvalidEvents   Counter   // {reason}
	EventsPruned    Counter   // {}
	Cleanups        Counter   // {}
	CleanupErrors   Counter   // {}
	CleanupDuration Histogram // {}
	EventLogPruned  Counter   // {}

	mode Gauge // {mode}
}

// QueueStats is what a queue holds, and what became of everything recorded into
// it since it was made.
type QueueStats struct {
	Pending, Bytes int64
	// Oldest is when the oldest event pending was recorded; zero without one.
	Oldest                                              time.Time
	Recorded, Exported, DeadLettered, Filtered, Expired int64
}

// NewInstanceMetrics returns the metrics of one process, all at zero, in a
// registry of their own. Each scrape asks stats for what the queue holds; when
// it fails, the scrape goes without.
func NewInstanceMetrics(version, commit string, stats func(context.Context) (QueueStats, error)) *InstanceMetrics {
	m := &InstanceMetrics{registry: newRegistry(InstanceCatalog())}
	m.QueuedEvents = m.counter("src_telemetry_export_store_queued_events")
	m.BatchSize = m.histogram("src_telemetrygatewayexporter_batch_size")
	m.ExportedEvents = m.counter("src_telemetrygatewayexporter_exported_events")
	m.Verdicts = m.counter("telemetry_instance_verdicts_total")
	m.ExportPasses = m.counter("telemetry_instance_export_passes_total")
	m.Exports = m.counter("src_telemetrygatewayexporter_exporter_total")
	m.ExportErrors = m.counter("src_telemetrygatewayexporter_exporter_errors_total")
	m.ExportDuration = m.histogram("src_telemetrygatewayexporter_exporter_duration_seconds")
	m.LastExport = m.gauge("telemetry_instance_exported_timestamp_seconds")
	m.LicenseRefused = m.gauge("telemetry_instance_license_refused")
	m.FileErrors = m.counter("telemetry_instance_file_errors_total")
	m.IntakeRequests = m.counter("telemetry_instance_intake_requests_total")
	m.InvalidEvents = m.counter("telemetry_instance_invalid_events_total")
	m.EventsPruned = m.counter("src_telemetrygatewayexporter_events_pruned")
	m.Cleanups = m.counter("src_telemetrygatewayexporter_queue_cleanup_total")
	m.CleanupErrors = m.counter("src_telemetrygatewayexporter_queue_cleanup_errors_total")
	m.CleanupDuration = m.histogram("src_telemetrygatewayexporter_queue_cleanup_duration_seconds")
	m.EventLogPruned = m.counter("telemetry_instance_event_log_pruned_events_total")
	m.mode = m.gauge("telemetry_instance_export_mode")
	m.gauge("telemetry_instance_build_info").Set(1, version, commit)
	m.prometheus.MustRegister(&queued{
		recorded: m.desc("telemetry_instance_recorded_events_total", KindCounter),
		settled:  m.desc("telemetry_instance_settled_events_total", KindCounter),
		pending:  m.desc("src_telemetrygatewayexporter_queue_size", KindGauge),
		bytes:    m.desc("telemetry_instance_queue_bytes", KindGauge),
		age:      m.desc("src_telemetrygatewayexporter_oldest_unexported_event", KindGauge),
		stats:    stats,
	})
	return m
}

// Mode says which export mode is in force.
func (m *InstanceMetrics) Mode(mode string) {
	for _, v := range m.rows["telemetry_instance_export_mode"].Labels[0].Values {
		in := 0.0
		if v == mode {
			in = 1
		}
		m.mode.Set(in, v)
	}
}

// queued is a collector: one look at the queue gives all its numbers, so that
// they add up in every scrape.
type queued struct {
	recorded, settled, pending, bytes, age *prometheus.Desc
	stats                                  func(context.Context) (QueueStats, error)
}

// Describe implements prometheus.Collector.
func (q *queued) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{q.recorded, q.settled, q.pending, q.bytes, q.age} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (q *queued) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	s, err := q.stats(ctx)
	if err != nil {
		return
	}
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, time.Since(s.Oldest).Seconds())
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	ch <- prometheus.MustNewConstMetric(q.recorded, counter, float64(s.Recorded))
	ch <- prometheus.MustNewConstMetric(q.settled, counter, float64(s.Exported), "exported")
	ch <- prometheus.MustNewConstMetric(q.settled, counter, float64(s.DeadLettered), "dead_lettered")
	ch <- prometheus.MustNewConstMetric(q.settled, counter, float64(s.Filtered), "filtered")
	ch <- prometheus.MustNewConstMetric(q.settled, counter, float64(s.Expired), "expired")
	ch <- prometheus.MustNewConstMetric(q.pending, gauge, float64(s.Pending))
	ch <- prometheus.MustNewConstMetric(q.bytes, gauge, float64(s.Bytes))
	ch <- prometheus.MustNewConstMetric(q.age, gauge, age)
}
