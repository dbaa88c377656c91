// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PipelineMetrics are a pipeline's: one field for each row of PipelineCatalog
// that is counted as things happen. Values of labels are given in the catalog's
// order; topic is "events" or "deadletter".
type PipelineMetrics struct {
	*registry

	Events         Counter   // {result}
	Rejected       Counter   // {reason}
	LandingDelay   Histogram // {}
	WarehouseUp    Gauge     // {}
	BatchRows      Histogram // {topic}
	InsertDuration Histogram // {topic}
	InsertErrors   Counter   // {}
	Queries        Counter   // {result}

	backlogs *backlogs
}

// NewPipelineMetrics returns the metrics of one process, all at zero, in a
// registry of their own.
func NewPipelineMetrics(version, commit string) *PipelineMetrics {
	m := &PipelineMetrics{registry: newRegistry(PipelineCatalog())}
	m.Events = m.counter("telemetry_pipeline_events_total")
	m.Rejected = m.counter("telemetry_pipeline_rejected_total")
	m.LandingDelay = m.histogram("telemetry_pipeline_landing_delay_seconds")
	m.WarehouseUp = m.gauge("telemetry_pipeline_warehouse_up")
	m.BatchRows = m.histogram("telemetry_pipeline_batch_rows")
	m.InsertDuration = m.histogram("telemetry_pipeline_insert_seconds")
	m.InsertErrors = m.counter("telemetry_pipeline_insert_errors_total")
	m.Queries = m.counter("telemetry_pipeline_queries_total")
	m.gauge("telemetry_pipeline_build_info").Set(1, version, commit)
	m.backlogs = &backlogs{
		messages: m.desc("telemetry_pipeline_backlog_messages", KindGauge),
		bytes:    m.desc("telemetry_pipeline_backlog_bytes", KindGauge),
		age:      m.desc("telemetry_pipeline_backlog_age_seconds", KindGauge),
		of:       map[string]func(context.Context) (Backlog, error){},
	}
	m.prometheus.MustRegister(m.backlogs)
	return m
}

// Backlog is what a topic has for a subscription that has not acknowledged it.
type Backlog struct {
	Messages, Bytes int64
	// Oldest is when the oldest of the messages was published; zero without one.
	Oldest time.Time
}

// Backlog has each scrape ask what the pipeline has yet to read of a topic,
// "events" or "deadletter". When that fails, the scrape goes without. Backlog is
// called before Handler serves.
func (m *PipelineMetrics) Backlog(topic string, ask func(context.Context) (Backlog, error)) {
	m.backlogs.of[topic] = ask
}

// backlogs is a collector.
type backlogs struct {
	messages, bytes, age *prometheus.Desc
	of                   map[string]func(context.Context) (Backlog, error)
}

// Describe implements prometheus.Collector.
func (b *backlogs) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.messages, b.bytes, b.age} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b *backlogs) Collect(ch chan<- prometheus.Metric) {
	for topic, ask := range b.of {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		left, err := ask(ctx)
		cancel()
		if err != nil {
			continue
		}
		age := 0.0
		if !left.Oldest.IsZero() {
			age = max(0, time.Since(left.Oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(b.messages, prometheus.GaugeValue, float64(left.Messages), topic)
		ch <- prometheus.MustNewConstMetric(b.bytes, prometheus.GaugeValue, float64(left.Bytes), topic)
		ch <- prometheus.MustNewConstMetric(b.age, prometheus.GaugeValue, age, topic)
	}
}
