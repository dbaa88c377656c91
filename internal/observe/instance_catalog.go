// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package observe

import "slices"

// InstanceCatalog returns every metric that an instance has, apart from those
// that the Prometheus library makes about the process and the Go runtime.
// Metrics that the original service had as well keep its names.
func InstanceCatalog() []Metric {
	return []Metric{
		// What became of events since the queue was made, over all processes that
		// use it: recorded is the sum of the outcomes and of what is pending.
		{
			Name: "telemetry_instance_recorded_events_total", Kind: KindCounter, Unit: "events",
			Help:  "Events recorded since the queue was made, filtered ones included.",
			Panel: "Events recorded",
		},
		{
			Name: "telemetry_instance_settled_events_total", Kind: KindCounter, Unit: "events",
			Help:   "Events whose way has ended since the queue was made: at the gateway, among the instance's dead letters, filtered because the policy does not let them leave, or expired by the operator's limits.",
			Labels: []Label{{Name: "outcome", Values: []string{"exported", "dead_lettered", "filtered", "expired"}}},
			Panel:  "Events by outcome",
			Alert: Alert{
				Name: "InstanceEventsExpire", For: "0m",
				Expr: `increase(telemetry_instance_settled_events_total{outcome="expired"}[15m]) > 0`,
				Help: "Events were deleted before they were exported, because the queue reached -max-age or -max-bytes. Find out why they are not exported, and raise the limit in the meantime.",
			},
		},
		{
			Name: "src_telemetrygatewayexporter_queue_size", Kind: KindGauge, Unit: "events",
			Help:  "Events pending: recorded, allowed to leave, and not exported yet.",
			Panel: "Events pending",
			Alert: Alert{
				Name: "InstanceEventsDoNotAddUp", For: "15m",
				Expr: "telemetry_instance_recorded_events_total - on (instance, job) sum by (instance, job) (telemetry_instance_settled_events_total) - on (instance, job) src_telemetrygatewayexporter_queue_size != 0",
				Help: "Events are missing from the queue's books: a bug, or somebody else changed the queue's tables. Compare with telemetry queue stats.",
			},
		},
		{
			Name: "telemetry_instance_queue_bytes", Kind: KindGauge, Unit: "bytes",
			Help:  "Size of the events pending.",
			Panel: "Bytes pending",
		},
		{
			Name: "src_telemetrygatewayexporter_oldest_unexported_event", Kind: KindGauge, Unit: "seconds",
			Help:  "Age of the oldest event pending, 0 if there is none.",
			Panel: "Age of the oldest event",
			Alert: Alert{
				Name: "InstanceNotExporting", For: "15m",
				Expr: "src_telemetrygatewayexporter_oldest_unexported_event > 3 * 3600",
				Help: "An event has waited for three hours. Nothing is lost, and the queue grows. The instance's log and telemetry_instance_export_passes_total say why: the gateway is out of reach or refuses, or -gateway is not set.",
			},
		},
		{
			Name: "src_telemetry_export_store_queued_events", Kind: KindCounter, Unit: "events",
			Help:   "Events that this process wrote to the queue, or failed to.",
			Labels: []Label{boolean("failed")},
			Panel:  "Events written to the queue",
			Alert: Alert{
				Name: "InstanceCannotRecord", For: "5m",
				Expr: `rate(src_telemetry_export_store_queued_events{failed="true"}[5m]) > 0`,
				Help: "Events cannot be written to the queue; whoever recorded them was told so. Look at /readyz, the log, the disk and the database.",
			},
		},

		// Export.
		{
			Name: "src_telemetrygatewayexporter_batch_size", Kind: KindHistogram, Unit: "events",
			Help:    "Events sent in one pass of the exporter, 0 if there were none.",
			Buckets: countBuckets(),
			Panel:   "Events per pass",
		},
		{
			Name: "src_telemetrygatewayexporter_exported_events", Kind: KindCounter, Unit: "events",
			Help:  "Events of this process that the gateway has accepted.",
			Panel: "Events exported",
		},
		{
			Name: "telemetry_instance_verdicts_total", Kind: KindCounter, Unit: "events",
			Help:   "Events that the gateway did not accept, by the reason it gave: dead-lettered for good, or failed and kept to be sent again.",
			Labels: []Label{{Name: "reason", Values: verdictReasons()}},
			Panel:  "Events not accepted",
			Alert: Alert{
				Name: "InstanceEventsRejected", For: "0m",
				Expr: `sum by (reason) (increase(telemetry_instance_verdicts_total{reason!~"topic_unavailable|deadletter_unavailable|rate_limited|canceled|not_sent|unanswered|unacknowledged"}[15m])) > 0`,
				Help: "The gateway can never publish some events. They are kept: telemetry queue dead lists them with the rule that each breaks.",
			},
		},
		{
			Name: "telemetry_instance_export_passes_total", Kind: KindCounter, Unit: "passes",
			Help:   "Passes of the exporter, by whom it sent as, empty if there was nothing to send, and by what was wrong, empty if nothing was. In not_taken, the gateway did not take all events.",
			Labels: []Label{{Name: "identity", Values: []string{"", "licensed", "unlicensed"}}, {Name: "error", Values: passErrors()}},
			Panel:  "Passes by result",
		},
		{
			Name: "src_telemetrygatewayexporter_exporter_total", Kind: KindCounter, Unit: "passes",
			Help:  "Passes of the exporter that drained the queue.",
			Panel: "Passes",
		},
		{
			Name: "src_telemetrygatewayexporter_exporter_errors_total", Kind: KindCounter, Unit: "passes",
			Help:  "Passes of the exporter that failed.",
			Panel: "Passes",
			Alert: Alert{
				Name: "InstanceExportFails", For: "30m",
				Expr: "increase(src_telemetrygatewayexporter_exporter_errors_total[30m]) > 0 and increase(src_telemetrygatewayexporter_exporter_total[30m]) == 0",
				Help: "No pass has succeeded for half an hour. Nothing is lost. telemetry_instance_export_passes_total has the kind of error, the log its text.",
			},
		},
		{
			Name: "src_telemetrygatewayexporter_exporter_duration_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time for one pass of the exporter.",
			Buckets: passBuckets(),
			Panel:   "Time for a pass",
		},
		{
			Name: "telemetry_instance_exported_timestamp_seconds", Kind: KindGauge, Unit: "seconds",
			Help:  "When a pass last drained the queue, as Unix time; 0 if none has since this process started.",
			Panel: "Last export",
		},
		{
			Name: "telemetry_instance_license_refused", Kind: KindGauge, Unit: "none",
			Help:  "1 while the gateway refuses the licence key and events are sent as an unlicensed instance's.",
			Panel: "Licence",
			Alert: Alert{
				Name: "InstanceLicenseRefused", For: "0m",
				Expr: "telemetry_instance_license_refused == 1",
				Help: "The gateway refuses the licence key. Events go on as an unlicensed instance's. The log says why; give -license a valid key, no restart is needed if it is a file.",
			},
		},

		// Policy and files.
		{
			Name: "telemetry_instance_export_mode", Kind: KindGauge, Unit: "none",
			Help:   "1 for the export mode in force, 0 for the others.",
			Labels: []Label{{Name: "mode", Values: []string{"all", "limited", "local", "off"}}},
			Panel:  "Export mode",
		},
		{
			Name: "telemetry_instance_file_errors_total", Kind: KindCounter, Unit: "errors",
			Help:   "Failures to read a file again that the command line names. What was read before stays in force.",
			Labels: []Label{{Name: "file", Values: []string{"license", "allow_private", "admin_token"}}},
			Panel:  "Files",
			Alert: Alert{
				Name: "InstanceFileUnreadable", For: "0m",
				Expr: "increase(telemetry_instance_file_errors_total[10m]) > 0",
				Help: "A file was changed into one that cannot be read. Its content from before is in force. The log says what is wrong with it.",
			},
		},

		// Intake.
		{
			Name: "telemetry_instance_intake_requests_total", Kind: KindCounter, Unit: "requests",
			Help:   "Requests to the GraphQL endpoint, by what they came to: partial means that some of their events were invalid.",
			Labels: []Label{{Name: "result", Values: []string{"ok", "partial", "invalid", "refused", "failed"}}},
			Panel:  "Intake requests",
		},
		{
			Name: "telemetry_instance_invalid_events_total", Kind: KindCounter, Unit: "events",
			Help:   "Events that were refused when they were recorded, by the rule that they break.",
			Labels: []Label{{Name: "reason", Values: eventReasons()}},
			Panel:  "Events refused",
		},

		// Cleanup.
		{
			Name: "src_telemetrygatewayexporter_events_pruned", Kind: KindCounter, Unit: "events",
			Help:  "Exported events deleted from the queue's table, once older than -retention.",
			Panel: "Cleanup",
		},
		{
			Name: "src_telemetrygatewayexporter_queue_cleanup_total", Kind: KindCounter, Unit: "passes",
			Help:  "Cleanups of the queue that succeeded.",
			Panel: "Cleanup",
		},
		{
			Name: "src_telemetrygatewayexporter_queue_cleanup_errors_total", Kind: KindCounter, Unit: "passes",
			Help:  "Cleanups of the queue that failed.",
			Panel: "Cleanup",
			Alert: Alert{
				Name: "InstanceCleanupFails", For: "1h",
				Expr: "increase(src_telemetrygatewayexporter_queue_cleanup_errors_total[1h]) > 0 and increase(src_telemetrygatewayexporter_queue_cleanup_total[1h]) == 0",
				Help: "The queue cannot be cleaned up, so it grows, and limits on its age and size are not kept. The log says why.",
			},
		},
		{
			Name: "src_telemetrygatewayexporter_queue_cleanup_duration_seconds", Kind: KindHistogram, Unit: "seconds",
			Help:    "Time for one cleanup of the queue.",
			Buckets: passBuckets(),
			Panel:   "Time for a cleanup",
		},
		{
			Name: "telemetry_instance_event_log_pruned_events_total", Kind: KindCounter, Unit: "events",
			Help:  "Events deleted from the instance's own log by its limits.",
			Panel: "Cleanup",
		},

		{
			Name: "telemetry_instance_build_info", Kind: KindGauge, Unit: "none",
			Help:   "Always 1; the labels say what the binary was built from.",
			Labels: []Label{{Name: "version", Fixed: true}, {Name: "commit", Fixed: true}},
			Panel:  "Build",
		},
	}
}

// verdictReasons are the gateway's, and those that a client gives itself.
func verdictReasons() []string {
	reasons := eventReasons()
	for _, r := range []string{"not_sent", "unanswered", "unacknowledged", "unencodable", "too_large"} {
		if !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	return reasons
}

// passErrors are the kinds of error that a client has, the exporter's own, and
// that some events failed.
func passErrors() []string {
	return []string{"", "canceled", "unreachable", "insecure", "not_gateway", "unsupported", "refused", "busy", "broken", "queue", "fenced", "config", "not_taken"}
}

// passBuckets reach from a look at an empty queue to a day's worth of events.
func passBuckets() []float64 {
	return []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
}
