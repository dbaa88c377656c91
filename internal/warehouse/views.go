// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

// view is a question that every warehouse can answer on its first day.
type view struct {
	name string
	doc  string
	// query is in DuckDB's dialect, and kept to what others say alike. It names
	// tables as events and events_rejected, at the end of a FROM.
	query string
}

// Who sent an event, and who acted, or NULL if nobody did: IDs of users are their
// instance's.
const (
	instanceID = `(identity || ' ' || COALESCE(source_id, ''))`
	userID     = `(` + instanceID + ` || ' ' || COALESCE('user ' || CAST(user_id AS VARCHAR), 'anonymous ' || anonymous_user_id, 'sams ' || sams_external_id))`
)

// views counts days and weeks by the sender's clock, in UTC, since events may
// arrive much later than they happened; what is about receiving counts by ours.
var views = []view{
	{
		"daily_active_instances", "Instances with an event on a day (`recorded_at`, UTC), by kind and by licence.",
		`SELECT CAST(recorded_at AS DATE) AS day, source, license_id,
	COUNT(DISTINCT ` + instanceID + `) AS instances, COUNT(*) AS events
FROM events
WHERE source <> 'managed_service'
GROUP BY 1, 2, 3`,
	},
	{
		"daily_active_users", "Users with an event on a day (`recorded_at`, UTC), by kind of sender: those signed in by their ID, others by their anonymous ID.",
		`SELECT CAST(recorded_at AS DATE) AS day, source,
	COUNT(DISTINCT CASE WHEN user_id IS NOT NULL THEN ` + userID + ` END) AS signed_in_users,
	COUNT(DISTINCT ` + userID + `) AS users
FROM events
GROUP BY 1, 2`,
	},
	{
		"weekly_feature_use", "How much each action of each feature was used in a week, which begins on Monday (`recorded_at`, UTC).",
		`SELECT CAST(date_trunc('week', CAST(recorded_at AS DATE)) AS DATE) AS week, feature, action,
	COUNT(*) AS events, COUNT(DISTINCT ` + instanceID + `) AS senders, COUNT(DISTINCT ` + userID + `) AS users
FROM events
GROUP BY 1, 2, 3`,
	},
	{
		"licenses_by_version", "How many licences run which version, by the last event with a version that was received of each instance. Old licences, which have no ID, count by their fingerprint.",
		`SELECT server_version, COUNT(DISTINCT license) AS licenses, COUNT(*) AS instances, MAX(last_received_at) AS last_received_at
FROM (
	SELECT COALESCE(license_id, license_fingerprint) AS license, source_id, MAX(received_at) AS last_received_at,
		MAX_BY(server_version, CASE WHEN server_version IS NOT NULL THEN received_at END) AS server_version
	FROM events
	WHERE source = 'licensed_instance'
	GROUP BY 1, 2
) AS instances
GROUP BY 1`,
	},
	{
		"late_events", "What part of the events received on a day (`received_at`, UTC) had happened more than 24 hours before, by the sender's clock.",
		`SELECT CAST(received_at AS DATE) AS day, COUNT(*) AS events,
	SUM(CASE WHEN recorded_at < received_at - INTERVAL 24 HOUR THEN 1 ELSE 0 END) AS late,
	ROUND(SUM(CASE WHEN recorded_at < received_at - INTERVAL 24 HOUR THEN 100 ELSE 0 END) / COUNT(*), 2) AS percent_late
FROM events
GROUP BY 1`,
	},
	{
		"rejected_by_reason", "Events and messages that cannot land, by the day they were received (`received_at`, UTC; NULL if that could not be read), who rejected them and why.",
		`SELECT CAST(received_at AS DATE) AS day, stage, reason, COUNT(*) AS rejected, MAX(landed_at) AS last_landed_at
FROM events_rejected
GROUP BY 1, 2, 3`,
	},
}
