// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package observe makes a running gateway visible: logs, traces, metrics and
// health. Nothing in it sees the content of an event, a licence key or a
// token, and no metric has a label whose values a sender can choose.
package observe

import (
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Metric is one row of the catalog.
type Metric struct {
	Name string
	Kind Kind
	Unit string // of the value: "events", "bytes", "seconds", …
	Help string
	// Labels in the order in which values are given.
	Labels []Label
	// Buckets are the upper bounds of a histogram.
	Buckets []float64
	// Panel is the title of the dashboard panel that shows the metric. Metrics
	// of one title share a panel.
	Panel string
	// Alert is raised because of this metric; its Name is empty if none is.
	Alert Alert
}

// Kind is how the values of a metric behave.
type Kind string

// The kinds of metrics.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Label tells the series of a metric apart. A value that is not listed is
// counted as "other".
type Label struct {
	Name   string
	Values []string
	// Fixed labels have one value for the life of the process, in place of a
	// list.
	Fixed bool
}

// Alert is a Prometheus alerting rule.
type Alert struct {
	Name string
	// Expr is the condition, For how long it must hold, as in "10m".
	Expr, For string
	// Help says what is wrong and what to do.
	Help string
}

// Catalog returns every metric that the gateway has, apart from those that the
// Prometheus library makes about the process and the Go runtime.
func Catalog() []Metric {
	return []Metric{
		// Events. For each source, received is the sum of all outcomes, save for
		// what is under way at the moment.
		{
			Name: "telemetry_gateway_events_received_total", Kind: KindCounter, Unit: "events",
			Help:   "Events in the messages of identified senders.",
			Labels: []Label{source()},
			Panel:  "Events received",
			Alert: Alert{
				Name: "EventsWithoutOutcome", For: "30m",
				Expr: "sum(telemetry_gateway_events_received_total) - sum(telemetry_gateway_events_total) > 0 and sum(rate(telemetry_gateway_events_received_total[30m])) == 0",
				Help: "Events were received, none arrive any more, and some have no outcome: a bug, or a topic that neither takes nor refuses. Senders still have these events. Take a goroutine profile from the admin listener, then restart.",
			},
		},
		{
			Name: "telemetry_gateway_events_total", Kind: KindCounter, Unit: "events",
			Help:   "Events by what became of them: durable in the topic, durable among the dead letters, or failed and left with the sender to send again. The reason of an accepted event is empty.",
			Labels: []Label{source(), {Name: "outcome", Values: []string{"accepted", "dead_lettered", "failed"}}, {Name: "reason", Values: append([]string{""}, eventReasons()...)}},
			Panel:  "Events by outcome",
			Alert: Alert{
				Name: "EventsDeadLettered", For: "0m",
				Expr: `sum by (source, reason) (increase(telemetry_gateway_events_total{outcome="dead_lettered"}[15m])) > 0`,
				Help: "Events arrive that can never be published. They are kept. Look at them with telemetry tail on the dead letter topic: its reasons say which rule they break.",
			},
		},
		{
			Name: "telemetry_gateway_record_events_processed_events_total", Kind: KindCounter, Unit: "events",
			Help:   "Events handled, by the result of the message they came in. Succeeded means that the sender was told not to send the event again.",
			Labels: []Label{boolean("succeeded"), result(), source()},
			Panel:  "Events by result of their message",
			Alert: Alert{
				Name: "EventsFailing", For: "10m",
				Expr: `sum(rate(telemetry_gateway_record_events_processed_events_total{succeeded="false"}[5m])) / sum(rate(telemetry_gateway_record_events_processed_events_total[5m])) > 0.05`,
				Help: "More than one event in twenty could not be made durable. Nothing is lost: senders keep them. Look at /readyz and the log for what the topic says.",
			},
		},
		{
			Name: "telemetry_gateway_record_events_payload_length", Kind: KindHistogram, Unit: "events",
			Help:    "Events in one message.",
			Labels:  []Label{result(), source()},
			Buckets: countBuckets(),
			Panel:   "Events per message",
		},
		{
			Name: "telemetry_gateway_record_events_total_length", Kind: KindHistogram, Unit: "events",
			Help:    "Events in one stream, from its start to its end.",
			Labels:  []Label{boolean("error"), source()},
			Buckets: countBuckets(),
			Panel:   "Events per stream",
		},

		// Calls.
		{
			Name: "telemetry_gateway_calls_total", Kind: KindCounter, Unit: "calls",
			Help:   "Calls that have ended, by status code.",
			Labels: []Label{{Name: "rpc", Values: []string{"RecordEvents", "RecordEvent", "RecordEventBatch"}}, {Name: "code", Values: codes()}},
			Panel:  "Calls by code",
			Alert: Alert{
				Name: "CallsEndInError", For: "10m",
				Expr: `sum(rate(telemetry_gateway_calls_total{code=~"internal|unknown|data_loss"}[5m])) > 0`,
				Help: "Calls end with errors that are the gateway's own fault. The log names each one.",
			},
		},
		{
			Name: "telemetry_gateway_streams", Kind: KindGauge, Unit: "streams",
			Help:   "Streams open now whose sender is identified.",
			Labels: []Label{source()},
			Panel:  "Open streams",
		},
		{
			Name: "telemetry_gateway_identification_failures_total", Kind: KindCounter, Unit: "calls",
			Help:   "Calls refused because the sender could not be identified.",
			Labels: []Label{{Name: "reason", Values: []string{"malformed", "bad_signature", "expired", "revoked", "not_allowed", "rate_limited", "unsupported", "unauthenticated", "unavailable"}}},
			Panel:  "Senders refused",
			Alert: Alert{
				Name: "LicensesRefused", For: "15m",
				Expr: `sum(rate(telemetry_gateway_identification_failures_total{reason=~"bad_signature|expired|revoked"}[10m])) > 0`,
				Help: "Customers present licence keys that are refused. If this began with a change of the key file, an old public key may be missing from it.",
			},
		},
		{
			Name: "telemetry_gateway_received_message_size_bytes", Kind: KindHistogram, Unit: "bytes",
			Help:    "Size of a message of events, decompressed.",
			Labels:  []Label{source()},
			Buckets: byteBuckets(),
			Panel:   "Size of messages received",
		},
		{
			Name: "telemetry_gateway_ack_duration_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time from having received a message of events to its response, events durable.",
			Labels:  []Label{source()},
			Buckets: durationBuckets(),
			Panel:   "Time to acknowledge",
			Alert: Alert{
				Name: "AcknowledgingSlowly", For: "10m",
				Expr: "histogram_quantile(0.99, sum by (le) (rate(telemetry_gateway_ack_duration_seconds_bucket[5m]))) > 5",
				Help: "One message in a hundred waits more than 5 s for its acknowledgement. Compare with the time to publish: if that is short, the gateway is out of CPU or memory budget.",
			},
		},
		{
			Name: "telemetry_gateway_in_flight_bytes", Kind: KindGauge, Unit: "bytes",
			Help:  "Memory charged for messages under way. Senders wait when it reaches the limit.",
			Panel: "Memory of messages under way",
		},

		// Publishing.
		{
			Name: "telemetry_gateway_publish_duration_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time for one batch to become durable, or to fail.",
			Labels:  []Label{topic()},
			Buckets: durationBuckets(),
			Panel:   "Time to publish a batch",
			Alert: Alert{
				Name: "PublishingSlowly", For: "10m",
				Expr: "histogram_quantile(0.99, sum by (le, topic) (rate(telemetry_gateway_publish_duration_seconds_bucket[5m]))) > 2.5",
				Help: "The topic takes more than 2.5 s for one batch in a hundred. Look at the disk it is on, or the status of the service behind it.",
			},
		},
		{
			Name: "telemetry_gateway_publish_batch_messages", Kind: KindHistogram, Unit: "messages",
			Help:    "Messages in one batch.",
			Labels:  []Label{topic()},
			Buckets: []float64{1, 3, 10, 30, 100, 300, 1000},
			Panel:   "Messages per batch",
		},
		{
			Name: "telemetry_gateway_pubsub_published_message_size_bytes", Kind: KindHistogram, Unit: "bytes",
			Help:    "Size of one event's payload as it is published, whatever the topic's technology.",
			Buckets: byteBuckets(),
			Panel:   "Size of published messages",
		},

		// What a topic holds, where it can tell.
		{
			Name: "telemetry_gateway_topic_stored_messages", Kind: KindGauge, Unit: "messages",
			Help:   "Messages stored in the topic.",
			Labels: []Label{topic()},
			Panel:  "Messages stored",
		},
		{
			Name: "telemetry_gateway_topic_stored_bytes", Kind: KindGauge, Unit: "bytes",
			Help:   "Bytes stored in the topic.",
			Labels: []Label{topic()},
			Panel:  "Bytes stored",
		},
		{
			Name: "telemetry_gateway_topic_oldest_message_age_seconds", Kind: KindGauge, Unit: "seconds",
			Help:   "Age of the oldest message stored in the topic, 0 if it is empty.",
			Labels: []Label{topic()},
			Panel:  "Age of the oldest message",
		},
		{
			Name: "telemetry_gateway_topic_expired_messages_total", Kind: KindCounter, Unit: "messages",
			Help:   "Messages that a limit on the topic's age or size removed before every subscription had acknowledged them, since the topic was made.",
			Labels: []Label{topic()},
			Panel:  "Messages expired unread",
			Alert: Alert{
				Name: "MessagesExpireUnread", For: "0m",
				Expr: "increase(telemetry_gateway_topic_expired_messages_total[10m]) > 0",
				Help: "The topic's own limit deletes messages that somebody was yet to read. Find out which subscription has stopped reading; raise the limit in the topic's URL in the meantime.",
			},
		},

		// Licence files.
		{
			Name: "telemetry_gateway_license_file_entries", Kind: KindGauge, Unit: "entries",
			Help:   "Public keys, and revoked licences, in force.",
			Labels: []Label{file()},
			Panel:  "Licence files",
		},
		{
			Name: "telemetry_gateway_license_file_loaded_timestamp_seconds", Kind: KindGauge, Unit: "seconds",
			Help:   "When the file was last read with success, as Unix time; 0 if there is none.",
			Labels: []Label{file()},
			Panel:  "Licence files",
		},
		{
			Name: "telemetry_gateway_license_file_errors_total", Kind: KindCounter, Unit: "errors",
			Help:   "Failures to read the file again. What was read before stays in force.",
			Labels: []Label{file()},
			Panel:  "Licence files",
			Alert: Alert{
				Name: "LicenseFileUnreadable", For: "0m",
				Expr: "increase(telemetry_gateway_license_file_errors_total[10m]) > 0",
				Help: "A licence file was changed into one that cannot be read. The content from before is in force; new keys and revocations are not. The log says what is wrong with it.",
			},
		},

		// Access tokens of managed services.
		{
			Name: "telemetry_gateway_token_checks_total", Kind: KindCounter, Unit: "checks",
			Help:   "Steps of checking access tokens: looking for the answer kept from before, the token's signature, and asking the provider. Refused tokens are genuine and for somebody else; limited ones were not checked because too many unknown ones came.",
			Labels: []Label{tokenMethod(), {Name: "result", Values: []string{"active", "inactive", "refused", "unavailable", "limited"}}},
			Panel:  "Access tokens checked",
			Alert: Alert{
				Name: "TokensCannotBeChecked", For: "5m",
				Expr: `sum(increase(telemetry_gateway_token_checks_total{result="unavailable"}[5m])) > 0 and sum(increase(telemetry_gateway_identification_failures_total{reason="unavailable"}[5m])) > 0`,
				Help: "The OAuth provider cannot be asked, or does not answer as it should: the log says what it did. Managed services keep their events and send again; nobody is let in unproven. Instances are not affected.",
			},
		},
		{
			Name: "telemetry_gateway_token_check_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time that the OAuth provider took to say whether a token is active, or to fail.",
			Buckets: durationBuckets(),
			Panel:   "Time to check an access token",
		},
		{
			Name: "telemetry_gateway_services_file_entries", Kind: KindGauge, Unit: "entries",
			Help:  "Clients that may send as a managed service, as the services file has them.",
			Panel: "Services file",
		},
		{
			Name: "telemetry_gateway_services_file_loaded_timestamp_seconds", Kind: KindGauge, Unit: "seconds",
			Help:  "When the file was last read with success, as Unix time; 0 if there is none.",
			Panel: "Services file",
		},
		{
			Name: "telemetry_gateway_services_file_errors_total", Kind: KindCounter, Unit: "errors",
			Help:  "Failures to read the file again. What was read before stays in force.",
			Panel: "Services file",
			Alert: Alert{
				Name: "ServicesFileUnreadable", For: "0m",
				Expr: "increase(telemetry_gateway_services_file_errors_total[10m]) > 0",
				Help: "The services file was changed into one that cannot be read. The content from before is in force; new services are refused and removed ones are not. The log says what is wrong with it.",
			},
		},

		{
			Name: "telemetry_gateway_build_info", Kind: KindGauge, Unit: "none",
			Help:   "Always 1; the labels say what the binary was built from.",
			Labels: []Label{{Name: "version", Fixed: true}, {Name: "commit", Fixed: true}},
			Panel:  "Build",
		},
	}
}

func source() Label {
	return Label{Name: "source", Values: []string{"licensed_instance", "unlicensed_instance", "managed_service", "invalid"}}
}

func eventReasons() []string {
	var codes []string
	for _, r := range limits.Reasons() {
		codes = append(codes, r.Code)
	}
	return codes
}

func result() Label {
	return Label{Name: "result", Values: []string{"success", "partial_failure", "complete_failure"}}
}

func boolean(name string) Label { return Label{Name: name, Values: []string{"true", "false"}} }

func topic() Label { return Label{Name: "topic", Values: []string{"events", "deadletter"}} }

func file() Label { return Label{Name: "file", Values: []string{"keys", "revoked"}} }

// tokenMethod is what decided whether an access token holds.
func tokenMethod() Label {
	return Label{Name: "method", Values: []string{"cache", "signature", "introspection"}}
}

// codes are the status codes as Connect spells them, and ok.
func codes() []string {
	return []string{
		"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
		"permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
		"internal", "unavailable", "data_loss", "unauthenticated",
	}
}

// countBuckets reach from one event to the most that a message, and roughly a
// stream, may hold.
func countBuckets() []float64 {
	return []float64{0, 1, 10, 30, 100, 300, 1000, 3000, 10_000, 20_000, 100_000, 1_000_000}
}

// byteBuckets reach from an event with nothing in it to the largest message
// that can be received, with a bound at each default limit.
func byteBuckets() []float64 {
	return []float64{256, 512, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 10_000_000, 32 << 20, 96 << 20}
}

// durationBuckets reach from a write to memory to the patience of a client.
func durationBuckets() []float64 {
	return []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
}
