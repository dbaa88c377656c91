// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"
	"regexp"
	"strings"
)

// firstLanded orders the rows of a key. All that differ in what it names are
// different rows, and those that do not are copies: so whoever asks, and
// whenever, the same row is the first once all have landed.
const firstLanded = "PARTITION BY identity, event_id ORDER BY landed_at, received_at, content_hash"

// bigQueryViews returns the views, those first that others read. They are where
// each event is there once: what the raw tables have twice is told apart in them.
func bigQueryViews(project, dataset string) []view {
	name := func(table string) string { return fmt.Sprintf("`%s.%s.%s`", project, dataset, table) }
	columns := columnList(rowColumns, nil)
	// What is known of a row's first landing stands beside it.
	compared := fmt.Sprintf(`(
	SELECT *, FIRST_VALUE(content_hash) OVER (%[1]s) AS first_content_hash, FIRST_VALUE(received_at) OVER (%[1]s) AS first_received_at
	FROM %[2]s
)`, firstLanded, name("events_raw"))
	all := []view{
		{
			"events", "Every event that landed, once.",
			fmt.Sprintf("SELECT %s\nFROM %s\nWHERE TRUE\nQUALIFY ROW_NUMBER() OVER (%s) = 1", columns, name("events_raw"), firstLanded),
		},
		{
			"events_rejected", "Every event and message that can never land among the events, once, with as many columns as could be read; and events whose ID had landed before with other content.",
			fmt.Sprintf(`SELECT %s
FROM %s
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY rejected_id ORDER BY landed_at) = 1
UNION ALL
SELECT %s
FROM %s AS compared
WHERE content_hash <> first_content_hash
QUALIFY ROW_NUMBER() OVER (PARTITION BY identity, event_id, content_hash ORDER BY landed_at, received_at) = 1`,
				columnList(rejectedTable().columns, nil), name("events_rejected_raw"),
				columnList(rejectedTable().columns, map[string]string{
					// No dead letter has this ID, since none was made.
					"rejected_id": "TO_HEX(MD5(key_hash || ' ' || CAST(content_hash AS STRING)))",
					"stage":       "'pipeline'",
					"reason":      "'id_conflict'",
					"field":       "'id'",
					"message":     "'an event of this sender with this ID has landed, and its content is another'",
					"bytes":       "CAST(NULL AS BYTES)",
				}), compared),
		},
		{
			"events_duplicates", "Every time that an event was received again, with the same content, after it had landed.",
			fmt.Sprintf(`SELECT %s
FROM %s AS compared
WHERE content_hash = first_content_hash AND received_at <> first_received_at
QUALIFY ROW_NUMBER() OVER (PARTITION BY identity, event_id, received_at ORDER BY landed_at) = 1`,
				columnList(tables()[2].columns, nil), compared),
		},
	}
	for _, v := range views {
		v.query = bigQueryDialect(v.query, name)
		all = append(all, v)
	}
	return all
}

// columnList returns the names of columns, with expressions in place of some.
func columnList(columns []column, instead map[string]string) string {
	var list []string
	for _, c := range columns {
		if expression, ok := instead[c.name]; ok {
			list = append(list, expression+" AS "+c.name)
			continue
		}
		list = append(list, c.name)
	}
	return strings.Join(list, ", ")
}

var (
	fromTable = regexp.MustCompile(`\bFROM (events\w*)\b`)
	weekOf    = regexp.MustCompile(`\bdate_trunc\('week', (CAST\(\w+ AS DATE\))\)`)
)

// bigQueryDialect says in BigQuery's words what a view says in DuckDB's.
func bigQueryDialect(query string, name func(string) string) string {
	query = fromTable.ReplaceAllStringFunc(query, func(from string) string { return "FROM " + name(strings.TrimPrefix(from, "FROM ")) })
	query = weekOf.ReplaceAllString(query, "DATE_TRUNC($1, ISOWEEK)")
	return strings.ReplaceAll(query, " AS VARCHAR)", " AS STRING)")
}
