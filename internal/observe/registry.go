// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// registry makes the metrics of one process from the rows of its catalog.
type registry struct {
	prometheus *prometheus.Registry
	rows       map[string]Metric
	used       map[string]bool
}

func newRegistry(catalog []Metric) *registry {
	r := &registry{prometheus: prometheus.NewRegistry(), rows: map[string]Metric{}, used: map[string]bool{}}
	for _, row := range catalog {
		r.rows[row.Name] = row
	}
	r.prometheus.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves the metrics in the formats that Prometheus reads.
func (r *registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.prometheus, promhttp.HandlerOpts{})
}

// Counter only grows.
type Counter struct {
	vec    *prometheus.CounterVec
	labels labels
}

// Add adds n, which is not negative, to the series with these label values.
func (c Counter) Add(n float64, values ...string) {
	c.With(values...)(n)
}

// With returns what adds to the series with these label values. To look a series
// up takes several times as long as to add to it.
func (c Counter) With(values ...string) (add func(n float64)) {
	return c.vec.WithLabelValues(c.labels.bound(values)...).Add
}

// Gauge goes up and down.
type Gauge struct {
	vec    *prometheus.GaugeVec
	labels labels
}

// Add adds n, which may be negative, to the series with these label values.
func (g Gauge) Add(n float64, values ...string) {
	g.With(values...)(n)
}

// With returns what adds to the series with these label values.
func (g Gauge) With(values ...string) (add func(n float64)) {
	return g.vec.WithLabelValues(g.labels.bound(values)...).Add
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
	h.With(values...)(v)
}

// With returns what counts values in the series with these label values.
func (h Histogram) With(values ...string) (observe func(v float64)) {
	return h.vec.WithLabelValues(h.labels.bound(values)...).Observe
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
func (r *registry) take(name string, kind Kind) Metric {
	row, ok := r.rows[name]
	if !ok || row.Kind != kind || r.used[name] {
		panic(fmt.Sprintf("metric %s is not in the catalog as a %s, or is used twice", name, kind))
	}
	r.used[name] = true
	return row
}

func (r *registry) counter(name string) Counter {
	row := r.take(name, KindCounter)
	c := Counter{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: row.Help}, labels(row.Labels).names()), row.Labels}
	r.prometheus.MustRegister(c.vec)
	c.labels.each(func(values ...string) { c.Add(0, values...) })
	return c
}

func (r *registry) gauge(name string) Gauge {
	row := r.take(name, KindGauge)
	g := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: row.Help}, labels(row.Labels).names()), row.Labels}
	r.prometheus.MustRegister(g.vec)
	g.labels.each(func(values ...string) { g.Add(0, values...) })
	return g
}

func (r *registry) histogram(name string) Histogram {
	row := r.take(name, KindHistogram)
	h := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: row.Help, Buckets: row.Buckets}, labels(row.Labels).names()), row.Labels}
	r.prometheus.MustRegister(h.vec)
	return h
}

func (r *registry) desc(name string, kind Kind) *prometheus.Desc {
	row := r.take(name, kind)
	return prometheus.NewDesc(name, row.Help, labels(row.Labels).names(), nil)
}
