// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package bigqueryfake is a fake BigQuery for tests: the REST API, as far as
// datasets, tables, views and queries go, and the Storage Write API. Google's own
// client libraries speak to it. Rows are in a DuckDB database in memory, where
// views and queries run after a translation of what differs in spelling.
//
// What it does as BigQuery does: offsets, OFFSET_ALREADY_EXISTS and
// OFFSET_OUT_OF_RANGE; requests that land whole or not at all; row errors for
// invalid UTF-8, missing required fields, times out of range and invalid JSON;
// the writer's schema checked against the table's; the 10 MiB limit; streams that
// keep the schema they began with; schema changes that only add; etags; errors
// with the codes, reasons and details of the service. What goes wrong on the way
// is for the test to say: see [Server.Fail], [Server.Deny], [Server.CutAfter] and
// [Server.ForgetStreams].
//
// What it does not show: the SQL dialect beyond what our views and tests use, and
// what a statement costs; how long a change of schema takes to reach writers
// (instead, as many requests as [Server.LagSchema] says); eventual consistency of
// any other kind; pending, buffered and multiplexed streams; expiry of streams;
// the Storage Read API; credentials, of which it takes any or none; the texts of
// errors beyond their codes; limits on the number and age of partitions, and on
// connections and jobs; finer rules for JSON than its syntax and depth; JSON columns as BigQuery prints
// them (here they stay as they were sent). Tests against BigQuery itself are the
// answer to those.
package bigqueryfake

import (
	"database/sql"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/duckdb/duckdb-go/v2"
	"google.golang.org/grpc"
)

// Server is a fake BigQuery. Its methods may be called at any time.
type Server struct {
	storagepb.UnimplementedBigQueryWriteServer

	// RESTAddr and WriteAddr are the host:port of the REST API and of the
	// Storage Write API. Neither uses TLS.
	RESTAddr, WriteAddr string

	db    *sql.DB
	conns *cutter

	mu       sync.Mutex
	tables   map[tableName]*table // what has no table name is a dataset
	streams  map[string]*stream
	jobs     map[string]*job
	serial   int
	faults   []Fault
	appends  []Append
	denied   []string
	refuse   func(table string, row map[string]any) string
	lag      int
	requests []string
}

// Start serves on loopback until the test ends, and points the warehouse in this
// process, and in those started by it, at the server.
func Start(t testing.TB) *Server {
	t.Helper()
	connector, err := duckdb.NewConnector("", nil)
	if err != nil {
		t.Fatalf("start a fake BigQuery: %v", err)
	}
	s := &Server{
		db:      sql.OpenDB(connector),
		tables:  map[tableName]*table{},
		streams: map[string]*stream{},
		jobs:    map[string]*job{},
	}
	t.Cleanup(func() { s.db.Close(); connector.Close() })
	for _, macro := range macros {
		if _, err := s.db.Exec(macro); err != nil {
			t.Fatalf("start a fake BigQuery: %s: %v", macro, err)
		}
	}

	rest, write := listen(t), listen(t)
	s.RESTAddr, s.WriteAddr = rest.Addr().String(), write.Addr().String()
	web := &http.Server{Handler: s.rest()}
	go web.Serve(rest)
	t.Cleanup(func() { web.Close() })
	s.conns = &cutter{Listener: write, open: map[net.Conn]bool{}}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(2 * maxRequestBytes))
	storagepb.RegisterBigQueryWriteServer(g, s)
	go g.Serve(s.conns)
	t.Cleanup(g.Stop)

	t.Setenv("BIGQUERY_EMULATOR_HOST", s.RESTAddr)
	t.Setenv("BIGQUERY_STORAGE_EMULATOR_HOST", s.WriteAddr)
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start a fake BigQuery: %v", err)
	}
	return l
}

// Append is one request to append rows, as it arrived.
type Append struct {
	Stream string
	Table  string // its last part
	Offset int64  // -1 without one
	Rows   int
	Bytes  int
}

// Appends returns all requests to append rows so far, also those that failed.
func (s *Server) Appends() []Append {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.appends)
}

// Requests returns the method and path of every request to the REST API so far.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Deny takes permissions, such as bigquery.tables.create, from everyone, in
// place of those taken before.
func (s *Server) Deny(permissions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = permissions
}

// Refuse makes f judge every row that is appended: what it returns, unless it is
// empty, is the message of the row's error. Nil takes all.
func (s *Server) Refuse(f func(table string, row map[string]any) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// LagSchema makes as many requests to append rows, counted from the next change
// of a schema, still see the old one.
func (s *Server) LagSchema(requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = requests
}

// ForgetStreams loses all write streams. Their rows stay.
func (s *Server) ForgetStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.streams)
}

// RewindStreams makes all write streams forget their last n rows, which stay in
// their tables.
func (s *Server) RewindStreams(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		st.next = max(0, st.next-n)
	}
}

// CreateDataset makes a dataset.
func (s *Server) CreateDataset(t testing.TB, project, dataset string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.db.Exec("CREATE SCHEMA " + quote(project+"."+dataset)); err != nil {
		t.Fatalf("make the dataset %s.%s: %v", project, dataset, err)
	}
	s.tables[tableName{project, dataset, ""}] = &table{}
}

// Drop removes a table or view behind everyone's back.
func (s *Server) Drop(t testing.TB, project, dataset, name string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := tableName{project, dataset, name}
	kind := "TABLE"
	if s.tables[n] != nil && s.tables[n].isView() {
		kind = "VIEW"
	}
	if _, err := s.db.Exec("DROP " + kind + " " + n.sql()); err != nil {
		t.Fatalf("drop %s: %v", n, err)
	}
	delete(s.tables, n)
	for name, st := range s.streams {
		if st.table == n {
			delete(s.streams, name)
		}
	}
}
