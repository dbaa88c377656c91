// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Metrics are the gateway's. It has one field for each row of the catalog that
// is counted as things happen; the catalog says what each means. Values of
// labels are given in the catalog's order.
type Metrics struct {
	*registry

	EventsReceived         Counter   // {source}
	Events                 Counter   // {source, outcome, reason}
	ProcessedEvents        Counter   // {succeeded, result, source}
	PayloadLength          Histogram // {result, source}
	TotalLength            Histogram // {error, source}
	Calls                  Counter   // {rpc, code}
	Streams                Gauge     // {source}
	IdentificationFailures Counter   // {reason}
	ReceivedMessageSize    Histogram // {source}
	AckDuration            Histogram // {source}
	InFlightBytes          Gauge     // {}
	PublishDuration        Histogram // {topic}
	PublishBatch           Histogram // {topic}
	PublishedMessageSize   Histogram // {}
	LicenseFileEntries     Gauge     // {file}
	LicenseFileLoaded      Gauge     // {file}
	LicenseFileErrors      Counter   // {file}
	TokenChecks            Counter   // {method, result}
	TokenCheckDuration     Histogram // {}
	ServicesFileEntries    Gauge     // {}
	ServicesFileLoaded     Gauge     // {}
	ServicesFileErrors     Counter   // {}

	topics *topics
}

// NewMetrics returns the metrics of one process, all at zero, in a registry of
// their own.
func NewMetrics(version, commit string) *Metrics {
	m := &Metrics{registry: newRegistry(Catalog())}
	m.EventsReceived = m.counter("telemetry_gateway_events_received_total")
	m.Events = m.counter("telemetry_gateway_events_total")
	m.ProcessedEvents = m.counter("telemetry_gateway_record_events_processed_events_total")
	m.PayloadLength = m.histogram("telemetry_gateway_record_events_payload_length")
	m.TotalLength = m.histogram("telemetry_gateway_record_events_total_length")
	m.Calls = m.counter("telemetry_gateway_calls_total")
	m.Streams = m.gauge("telemetry_gateway_streams")
	m.IdentificationFailures = m.counter("telemetry_gateway_identification_failures_total")
	m.ReceivedMessageSize = m.histogram("telemetry_gateway_received_message_size_bytes")
	m.AckDuration = m.histogram("telemetry_gateway_ack_duration_seconds")
	m.InFlightBytes = m.gauge("telemetry_gateway_in_flight_bytes")
	m.PublishDuration = m.histogram("telemetry_gateway_publish_duration_seconds")
	m.PublishBatch = m.histogram("telemetry_gateway_publish_batch_messages")
	m.PublishedMessageSize = m.histogram("telemetry_gateway_pubsub_published_message_size_bytes")
	m.LicenseFileEntries = m.gauge("telemetry_gateway_license_file_entries")
	m.LicenseFileLoaded = m.gauge("telemetry_gateway_license_file_loaded_timestamp_seconds")
	m.LicenseFileErrors = m.counter("telemetry_gateway_license_file_errors_total")
	m.TokenChecks = m.counter("telemetry_gateway_token_checks_total")
	m.TokenCheckDuration = m.histogram("telemetry_gateway_token_check_seconds")
	m.ServicesFileEntries = m.gauge("telemetry_gateway_services_file_entries")
	m.ServicesFileLoaded = m.gauge("telemetry_gateway_services_file_loaded_timestamp_seconds")
	m.ServicesFileErrors = m.counter("telemetry_gateway_services_file_errors_total")
	m.gauge("telemetry_gateway_build_info").Set(1, version, commit)

	m.topics = &topics{
		messages: m.desc("telemetry_gateway_topic_stored_messages", KindGauge),
		bytes:    m.desc("telemetry_gateway_topic_stored_bytes", KindGauge),
		age:      m.desc("telemetry_gateway_topic_oldest_message_age_seconds", KindGauge),
		expired:  m.desc("telemetry_gateway_topic_expired_messages_total", KindCounter),
		stats:    map[string]func(context.Context) (TopicStats, error){},
	}
	m.prometheus.MustRegister(m.topics)

	// A series that is first seen at 1 looks as if it had never changed, so the
	// ones that alerts are about begin at zero.
	for _, source := range source().Values {
		m.Events.Add(0, source, "accepted", "")
		for _, r := range limits.Reasons() {
			outcome := "failed"
			if r.Permanent {
				outcome = "dead_lettered"
			}
			m.Events.Add(0, source, outcome, r.Code)
		}
	}
	return m
}

// TopicStats is what a topic holds.
type TopicStats struct {
	Messages, Bytes int64
	// Oldest is when the oldest message was published; zero without one.
	Oldest time.Time
	// ExpiredUnread counts messages that an operator's limit removed before
	// every subscription had acknowledged them.
	ExpiredUnread int64
}

// Topic has each scrape ask stats for what a topic, "events" or "deadletter",
// holds. When stats fails, the scrape goes without that topic. Topic is called
// before Handler serves.
func (m *Metrics) Topic(name string, stats func(context.Context) (TopicStats, error)) {
	m.topics.stats[name] = stats
}

// statsTimeout is how long a scrape waits for a topic.
const statsTimeout = 2 * time.Second

// topics is a collector: what topics hold is read when it is asked for.
type topics struct {
	messages, bytes, age, expired *prometheus.Desc
	stats                         map[string]func(context.Context) (TopicStats, error)
}

// Describe implements prometheus.Collector.
func (t *topics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.messages, t.bytes, t.age, t.expired} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (t *topics) Collect(ch chan<- prometheus.Metric) {
	for name, stats := range t.stats {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		s, err := stats(ctx)
		cancel()
		if err != nil {
			continue
		}
		age := 0.0
		if !s.Oldest.IsZero() {
			age = time.Since(s.Oldest).Seconds()
		}
		ch <- prometheus.MustNewConstMetric(t.messages, prometheus.GaugeValue, float64(s.Messages), name)
		ch <- prometheus.MustNewConstMetric(t.bytes, prometheus.GaugeValue, float64(s.Bytes), name)
		ch <- prometheus.MustNewConstMetric(t.age, prometheus.GaugeValue, age, name)
		ch <- prometheus.MustNewConstMetric(t.expired, prometheus.CounterValue, float64(s.ExpiredUnread), name)
	}
}
