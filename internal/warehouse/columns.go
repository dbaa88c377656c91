// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// columnType is what a column holds, whatever a technology makes of it.
type columnType int

const (
	textType      columnType = iota // string
	integerType                     // int64
	boolType                        // bool
	timeType                        // time.Time
	jsonType                        // []byte, JSON
	bytesType                       // []byte
	keyType                         // [16]byte
	textsType                       // []string
	numberMapType                   // []Metadatum
	textMapType                     // []Flag
)

// column is one column of the tables. A column is never renamed, retyped or
// removed, and a new one is not required, since tables that are there only gain
// columns.
type column struct {
	name     string
	typ      columnType
	required bool // among the events; in events_rejected only rejected_id is
	doc      string
	// field points to what a row has for the column: a field of the type that
	// typ says, or a pointer to one. It is nil for columns that only rejected
	// events have.
	field func(*Row) any
	// rejectedField does so where field is nil.
	rejectedField func(*Rejected) any
}

// rowColumns are the columns of events, and of events_rejected.
var rowColumns = []column{
	{"key_hash", keyType, true, "Tells events apart: the first half of SHA-256 of identity, a zero byte and event_id.", func(r *Row) any { return &r.KeyHash }, nil},
	{"content_hash", integerType, true, "Hash of the event, by which the same event sent again is told from another one with the same ID.", func(r *Row) any { return &r.ContentHash }, nil},
	{"identity", textType, true, "Who sent it, as proven: what event IDs are unique within.", func(r *Row) any { return &r.Identity }, nil},
	{"event_id", textType, true, "ID that the sender gave the event.", func(r *Row) any { return &r.EventID }, nil},
	{"source", textType, true, "Kind of sender: `licensed_instance`, `unlicensed_instance` or `managed_service`.", func(r *Row) any { return &r.Source }, nil},
	{"source_id", textType, false, "ID of the instance or service.", func(r *Row) any { return &r.SourceID }, nil},
	{"environment", textType, false, "Deployment of a managed service, such as `prod`.", func(r *Row) any { return &r.Environment }, nil},
	{"external_url", textType, false, "Where an instance's users reach it.", func(r *Row) any { return &r.ExternalURL }, nil},
	{"license_id", textType, false, "ID of the instance's licence. Old licences have none.", func(r *Row) any { return &r.LicenseID }, nil},
	{"license_status", textType, false, "`valid` or `expired`, when the event was received.", func(r *Row) any { return &r.LicenseStatus }, nil},
	{"license_fingerprint", textType, false, "Identifies the licence key.", func(r *Row) any { return &r.LicenseFingerprint }, nil},
	{"license_tags", textsType, false, "The licence's tags, such as `plan:enterprise`.", func(r *Row) any { return &r.LicenseTags }, nil},
	{"feature", textType, true, "Part of the product, such as `codeSearch`.", func(r *Row) any { return &r.Feature }, nil},
	{"action", textType, true, "What happened to it, such as `executed`.", func(r *Row) any { return &r.Action }, nil},
	{"recorded_at", timeType, true, "When it happened, by the sender's clock, which may be wrong.", func(r *Row) any { return &r.RecordedAt }, nil},
	{"received_at", timeType, true, "When the gateway received it.", func(r *Row) any { return &r.ReceivedAt }, nil},
	{"landed_at", timeType, true, "When the pipeline wrote this row.", func(r *Row) any { return &r.LandedAt }, nil},
	{"server_version", textType, false, "Version of the backend that recorded or forwarded it.", func(r *Row) any { return &r.ServerVersion }, nil},
	{"client_name", textType, false, "Client that recorded it, such as `web` or `vscode`; none if the backend did.", func(r *Row) any { return &r.ClientName }, nil},
	{"client_version", textType, false, "Version of the client.", func(r *Row) any { return &r.ClientVersion }, nil},
	{"user_id", integerType, false, "The instance's own number for the user, so only meaningful together with identity.", func(r *Row) any { return &r.UserID }, nil},
	{"anonymous_user_id", textType, false, "Stands for someone not signed in.", func(r *Row) any { return &r.AnonymousUserID }, nil},
	{"sams_external_id", textType, false, "The user's ID at a central accounts service.", func(r *Row) any { return &r.SAMSExternalID }, nil},
	{"parameters_version", integerType, false, "Version of the parameters' shape, counted from 0 by whoever records the event.", func(r *Row) any { return &r.ParametersVersion }, nil},
	{"metadata", numberMapType, false, "Numbers by name.", func(r *Row) any { return &r.Metadata }, nil},
	{"private_metadata", jsonType, false, "Object of anything; only of features for which that was expressly allowed.", func(r *Row) any { return &r.PrivateMetadata }, nil},
	{"billing_product", textType, false, "Product that is billed.", func(r *Row) any { return &r.BillingProduct }, nil},
	{"billing_category", textType, false, "Category of the usage.", func(r *Row) any { return &r.BillingCategory }, nil},
	{"feature_flags", textMapType, false, "Feature flags evaluated for the user: `true` or `false` by name.", func(r *Row) any { return &r.FeatureFlags }, nil},
	{"marketing_url", textType, false, "URL of the page.", func(r *Row) any { return &r.MarketingURL }, nil},
	{"marketing_first_source_url", textType, false, "First page ever seen.", func(r *Row) any { return &r.MarketingFirstSourceURL }, nil},
	{"marketing_cohort_id", textType, false, "Cohort of the user.", func(r *Row) any { return &r.MarketingCohortID }, nil},
	{"marketing_referrer", textType, false, "Referrer of the page.", func(r *Row) any { return &r.MarketingReferrer }, nil},
	{"marketing_last_source_url", textType, false, "Page seen before.", func(r *Row) any { return &r.MarketingLastSourceURL }, nil},
	{"marketing_device_session_id", textType, false, "Device session ID of the browser.", func(r *Row) any { return &r.MarketingDeviceSessionID }, nil},
	{"marketing_session_referrer", textType, false, "Referrer of the session's first page.", func(r *Row) any { return &r.MarketingSessionReferrer }, nil},
	{"marketing_session_first_url", textType, false, "The session's first page.", func(r *Row) any { return &r.MarketingSessionFirstURL }, nil},
	{"trace_id", textType, false, "OpenTelemetry trace ID, in hexadecimal.", func(r *Row) any { return &r.TraceID }, nil},
	{"interaction_id", textType, false, "Ties events of one interaction together; chosen by the client.", func(r *Row) any { return &r.InteractionID }, nil},
	{"country_code", textType, false, "Country, as in ISO 3166-1 alpha-2.", func(r *Row) any { return &r.CountryCode }, nil},
	{"replay_of", textType, false, "ID of the dead letter that it was replayed from.", func(r *Row) any { return &r.ReplayOf }, nil},
	{"payload", jsonType, true, "All of it, as [payload.md](payload.md) describes it. What newer senders add is here before it has a column.", func(r *Row) any { return &r.Payload }, nil},
	{"incomplete", boolType, false, "True where BigQuery would not take all columns of the event, so that those that are not required may be missing. Never in DuckDB. payload has everything.", func(r *Row) any { return &r.Incomplete }, nil},
}

// rejectedColumns are what events_rejected has besides.
var rejectedColumns = []column{
	{"rejected_id", keyType, true, "ID of the dead letter: what `telemetry deadletter` shows, with hyphens.", nil, func(r *Rejected) any { return &r.RejectedID }},
	{"stage", textType, false, "Who rejected it: `gateway` or `pipeline`.", nil, func(r *Rejected) any { return &r.Stage }},
	{"reason", textType, false, "Reason code; [payload.md](payload.md) lists them.", nil, func(r *Rejected) any { return &r.Reason }},
	{"field", textType, false, "Field that breaks the rule.", nil, func(r *Rejected) any { return &r.Field }},
	{"message", textType, false, "What is wrong with it.", nil, func(r *Rejected) any { return &r.Message }},
	{"bytes", bytesType, false, "The event in protobuf's wire format, or the data of the message that could not land.", nil, func(r *Rejected) any { return &r.Bytes }},
}

// table is a table and its columns.
type table struct {
	name    string
	doc     string
	columns []column
}

// tables returns the tables that every warehouse has, by these names.
func tables() []table {
	rejected := slices.Clone(rowColumns)
	for i := range rejected {
		rejected[i].required = false
	}
	return []table{
		{"events", "Every event that landed, once.", rowColumns},
		{"events_rejected", "Every event and message that can never land among the events, once, with as many columns as could be read.", append(rejected, rejectedColumns...)},
		{"events_duplicates", "Every time that an event was received again, with the same content, after it had landed: once for each key_hash and received_at.", columnsNamed("key_hash", "identity", "event_id", "source", "source_id", "received_at", "landed_at")},
	}
}

func columnsNamed(names ...string) []column {
	var named []column
	for _, c := range rowColumns {
		if slices.Contains(names, c.name) {
			named = append(named, c)
		}
	}
	return named
}

// of points to what a rejected event has for the column.
func (c *column) of(r *Rejected) any {
	if c.field == nil {
		return c.rejectedField(r)
	}
	return c.field(&r.Row)
}

// value returns what is in a field that the column points to: nil, or what typ
// says. Of what is required, only times and slices can be missing, which a
// warehouse then refuses.
func (c *column) value(field any) any {
	switch v := field.(type) {
	case *string:
		if *v == "" && !c.required {
			return nil
		}
		return *v
	case *int64:
		return *v
	case *int32:
		return int64(*v)
	case **int64:
		if *v == nil {
			return nil
		}
		return **v
	case *bool:
		if !*v {
			return nil
		}
		return true
	case *time.Time:
		if v.IsZero() {
			return nil
		}
		return moment(*v)
	case *[16]byte:
		if *v == [16]byte{} && !c.required {
			return nil
		}
		return *v
	case *[]byte:
		return orNil(*v)
	case *[]string:
		return orNil(*v)
	case *[]Metadatum:
		return orNil(*v)
	case *[]Flag:
		return orNil(*v)
	}
	panic(fmt.Sprintf("no value of a %T", field))
}

func orNil[E any](s []E) any {
	if s == nil {
		return nil
	}
	return s
}

// moment is in UTC, and without what is finer than microseconds, which both
// technologies keep.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// sound returns a copy of a rejected event that every warehouse takes, since a
// rejected event must land: its bytes have what is lost.
func (r *Rejected) sound() *Rejected {
	c := *r
	for _, column := range tables()[1].columns {
		switch v := column.of(&c).(type) {
		case *string:
			*v = soundText(*v)
		case *[]byte:
			if column.typ == jsonType && !utf8.Valid(*v) {
				*v = nil
			}
		case *[]string:
			*v = slices.Clone(*v)
			for i, s := range *v {
				(*v)[i] = soundText(s)
			}
		case *[]Metadatum:
			*v = soundMap(*v, func(m *Metadatum) *string { m.Key = soundText(m.Key); return &m.Key })
		case *[]Flag:
			*v = soundMap(*v, func(f *Flag) *string {
				f.Name, f.Value = soundText(f.Name), soundText(f.Value)
				return &f.Name
			})
		}
	}
	return &c
}

func soundText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// soundMap returns entries that name has made sound, and of which it returned the
// name, each name once.
func soundMap[E any](entries []E, name func(*E) *string) []E {
	if entries == nil {
		return nil
	}
	list, seen := make([]E, 0, len(entries)), map[string]bool{}
	for _, e := range entries {
		if n := *name(&e); !seen[n] {
			seen[n] = true
			list = append(list, e)
		}
	}
	return list
}
