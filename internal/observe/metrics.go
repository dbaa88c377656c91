// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Metrics has one field for each row of the catalog that is counted as things
// happen; the catalog says what each means. Values of labels are given in the
// catalog's order.
type Metrics struct {
	registry *prometheus.Registry
	rows     map[string]Metric
	used     map[string]bool

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

	topics *topics
}

// NewMetrics returns the metrics of one process, all at zero, in a registry of
// their own.
func NewMetrics(version, commit string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), rows: map[string]Metric{}, used: map[string]bool{}}
	for _, row := range Catalog() {
		m.rows[row.Name] = row
	}
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
	m.gauge("telemetry_gateway_build_info").Set(1, version, commit)

	m.topics = &topics{
		messages: m.desc("telemetry_gateway_topic_stored_messages", KindGauge),
		bytes:    m.desc("telemetry_gateway_topic_stored_bytes", KindGauge),
		age:      m.desc("telemetry_gateway_topic_oldest_message_age_seconds", KindGauge),
		expired:  m.desc("telemetry_gateway_topic_expired_messages_total", KindCounter),
		stats:    map[string]func(context.Context) (TopicStats, error){},
	}
	m.registry.MustRegister(m.topics,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

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

// Handler serves the metrics in the formats that Prometheus reads.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Counter only grows.
type Counter struct {
	vec    *prometheus.CounterVec
	labels labels
}

// Add adds n, which is not negative, to the series with these label values.
func (c Counter) Add(n float64, values ...string) {
	c.vec.WithLabelValues(c.labels.bound(values)...).Add(n)
}

// Gauge goes up and down.
type Gauge struct {
	vec    *prometheus.GaugeVec
	labels labels
}

// Add adds n, which may be negative, to the series with these label values.
func (g Gauge) Add(n float64, values ...string) {
	g.vec.WithLabelValues(g.labels.bound(values)...).Add(n)
}

// Set sets the series with these label values to v.
func (g Gauge) Set(v float64, values ...string) {
	g.vec.WithLabelValues(g.labels.bound(values)...).Set(v)
}

// Histogram counts values by size.
type Histogram struct {
	vec    *prometheus.HistogramVec
	labels labels
}

// Observe counts v in the series with these label values.
func (h Histogram) Observe(v float64, values ...string) {
	h.vec.WithLabelValues(h.labels.bound(values)...).Observe(v)
}

// labels keep the number of series bounded, whatever values are given.
type labels []Label

const other = "other"

func (ls labels) bound(values []string) []string {
	for i, l := range ls {
		if i < len(values) && !l.Fixed && !slices.Contains(l.Values, values[i]) {
			values = slices.Clone(values)
			values[i] = other
		}
	}
	return values
}

func (ls labels) names() []string {
	var names []string
	for _, l := range ls {
		names = append(names, l.Name)
	}
	return names
}

// each calls f with every combination of values, unless there are so many that
// it is better to wait for those that occur, or they are not known.
func (ls labels) each(f func(values ...string)) {
	combinations := [][]string{{}}
	for _, l := range ls {
		var longer [][]string
		for _, c := range combinations {
			for _, v := range l.Values {
				longer = append(longer, append(slices.Clone(c), v))
			}
		}
		combinations = longer
	}
	if len(combinations) > 60 {
		return
	}
	for _, c := range combinations {
		f(c...)
	}
}

// take returns the row of a metric. Each is taken once, as what it is.
func (m *Metrics) take(name string, kind Kind) Metric {
	row, ok := m.rows[name]
	if !ok || row.Kind != kind || m.used[name] {
		panic(fmt.Sprintf("metric %s is not in the catalog as a %s, or is used twice", name, kind))
	}
	m.used[name] = true
	return row
}

func (m *Metrics) counter(name string) Counter {
	row := m.take(name, KindCounter)
	c := Counter{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: row.Help}, labels(row.Labels).names()), row.Labels}
	m.registry.MustRegister(c.vec)
	c.labels.each(func(values ...string) { c.Add(0, values...) })
	return c
}

func (m *Metrics) gauge(name string) Gauge {
	row := m.take(name, KindGauge)
	g := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: row.Help}, labels(row.Labels).names()), row.Labels}
	m.registry.MustRegister(g.vec)
	g.labels.each(func(values ...string) { g.Add(0, values...) })
	return g
}

func (m *Metrics) histogram(name string) Histogram {
	row := m.take(name, KindHistogram)
	h := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: row.Help, Buckets: row.Buckets}, labels(row.Labels).names()), row.Labels}
	m.registry.MustRegister(h.vec)
	return h
}

func (m *Metrics) desc(name string, kind Kind) *prometheus.Desc {
	row := m.take(name, kind)
	return prometheus.NewDesc(name, row.Help, labels(row.Labels).names(), nil)
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
