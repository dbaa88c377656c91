// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package warehouse is where events land, once each, in tables that an analyst
// can query: a DuckDB file, or BigQuery.
//
// What a row is made of is said once, in the table of columns, from which each
// technology's tables and the documentation are made. One suite of tests holds
// for all technologies.
package warehouse

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Row is one event as it lands. Its strings and bytes may point into a message:
// a warehouse keeps none of them beyond Insert. A column is NULL where a string
// or slice is empty, or a time zero, and the column may be NULL; an empty map
// that is not nil lands as an empty one. Times land with microseconds.
type Row struct {
	// KeyHash tells events apart: the first half of
	// SHA-256(Identity, 0x00, EventID).
	KeyHash [16]byte
	// ContentHash is of the event as the payload shows it, and of nothing that
	// differs when it is sent again.
	ContentHash int64
	Identity    string // what event IDs are unique within: the message's key up to its last slash
	EventID     string

	Source             string // kind of sender: licensed_instance, unlicensed_instance or managed_service
	SourceID           string // ID of the instance or service
	Environment        string // of a service
	ExternalURL        string
	LicenseID          string
	LicenseStatus      string
	LicenseFingerprint string
	LicenseTags        []string

	Feature, Action string

	RecordedAt time.Time // where it happened, by the sender's clock
	ReceivedAt time.Time // by the gateway
	LandedAt   time.Time // by the pipeline

	ServerVersion, ClientName, ClientVersion string

	UserID          *int64
	AnonymousUserID string
	SAMSExternalID  string

	ParametersVersion int32
	Metadata          []Metadatum
	PrivateMetadata   []byte // a JSON object
	BillingProduct    string
	BillingCategory   string

	FeatureFlags []Flag

	MarketingURL, MarketingFirstSourceURL, MarketingCohortID, MarketingReferrer                          string
	MarketingLastSourceURL, MarketingDeviceSessionID, MarketingSessionReferrer, MarketingSessionFirstURL string

	TraceID, InteractionID, CountryCode string

	ReplayOf string // ID of the dead letter that it was replayed from
	Payload  []byte // the whole payload, JSON

	// Incomplete is set by a warehouse on rows that were too large for all of
	// their columns; whoever inserts leaves it false. Payload has everything.
	Incomplete bool
}

// Metadatum is an entry of an event's metadata. No key comes twice.
type Metadatum struct {
	Key   string
	Value float64
}

// Flag is a feature flag. No name comes twice.
type Flag struct{ Name, Value string }

// Rejected is an event, or a message, that can never land among the events, with
// as much of its row as could be read.
type Rejected struct {
	Row
	RejectedID [16]byte // of the dead letter
	Stage      string   // gateway or pipeline: who rejected it
	Reason     string   // one of the codes of internal/limits
	Field      string
	Message    string
	Bytes      []byte // the event in protobuf's wire format, or the message's data
}

// Batch is what lands together.
type Batch struct {
	Events   []Row
	Rejected []Rejected
}

// Result is what became of a batch. Each event is in exactly one of the counts
// and lists.
type Result struct {
	// Landed counts rows that are new.
	Landed int
	// Duplicates counts events that are known, with the same content and
	// another ReceivedAt: a sender sent them again. They are noted in
	// events_duplicates, once for each time they were received.
	Duplicates int
	// Redelivered counts events that are known, with the same content and the
	// same ReceivedAt: the topic delivered a message again. They leave no trace.
	Redelivered int
	// Conflicts are indexes in Events, of events that are known with other
	// content. They have not landed.
	Conflicts []int
	// Refused are rows that the warehouse will never take. They have not landed.
	Refused []Refusal
	// Rejected counts rows of Rejected that are new, told apart by RejectedID.
	Rejected int
}

// Refusal says why the warehouse will never take the event of an index in
// Batch.Events. The message has nothing of the event in it.
type Refusal struct {
	Index   int
	Message string
}

// Warehouse takes events. Its methods may be called from several goroutines at
// once; calls to Insert may wait for each other.
type Warehouse interface {
	Reader

	// Insert lands a batch: all of it, durably, or after an error nothing or an
	// unknown part. Inserting the same rows again is always safe, in whatever
	// batches and by whatever process: that is how to go on after an error. The
	// batch belongs to the warehouse until Insert returns, which sets no field of
	// it.
	//
	// Two processes must not insert the same rows at the same time, save where
	// the technology's documentation says what comes of it.
	Insert(ctx context.Context, b *Batch) (Result, error)

	// Ping returns an error that says what is wrong if nothing can be inserted at
	// the moment. It is cheap, and so may go on saying what made Insert fail until
	// Insert has succeeded again: do not wait for Ping before you try.
	Ping(ctx context.Context) error
}

// Reader answers queries. Its methods may be called from several goroutines at
// once.
type Reader interface {
	// Query runs one SQL statement, in the technology's own dialect, that reads
	// and changes nothing; any other is refused. It does not hold up Insert and
	// sees what had landed when it began. When ctx ends the query ends too, also
	// while its rows are read. There are at most two at once; others wait.
	Query(ctx context.Context, sql string) (Rows, error)

	// Close ends queries, waits for a call to Insert under way and frees what the
	// warehouse holds. What is called after it returns ErrClosed.
	Close() error
}

// Exporter is a Reader that can write its tables to files.
type Exporter interface {
	Reader

	// Export writes the tables events and events_rejected to Parquet files, in a
	// folder for each day of received_at, as in
	// DIR/events/received_on=2026-11-22/data_0.parquet. Rows that have no
	// received_at are in received_on=__HIVE_DEFAULT_PARTITION__. dir is made if
	// there is none, and must be empty. Files appear in it whole or not at all.
	Export(ctx context.Context, dir string) error
}

// Rows is the answer to a query. It must be closed.
type Rows interface {
	Columns() []string
	// Next returns the next row, or io.EOF after the last one. A value is nil, a
	// bool, int64, float64, string, []byte, time.Time in UTC, json.RawMessage,
	// []any or map[string]any. Numbers that fit into neither int64 nor float64
	// without loss are strings.
	Next() ([]any, error)
	Close() error
}

// Options are what a warehouse needs from its user.
type Options struct {
	Log *slog.Logger
	// Same says whether two payloads show the same event. It is asked about
	// events of the same key whose content hashes differ, which is rare; nil
	// means that they never do.
	Same func(stored, incoming []byte) bool
	Now  func() time.Time // nil means time.Now
}

var (
	// ErrLocked marks that another process, or another warehouse in this one,
	// has the file. It is free once that one has ended.
	ErrLocked = errors.New("the file is in use")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the warehouse is closed")
)
