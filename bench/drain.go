// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/telemetrygateway/telemetry/exporter"
	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1/telemetrygatewayv1connect"
	"github.com/telemetrygateway/telemetry/internal/database"
)

// obviousShare is the part, as 1/n, of the events that the obvious way drains:
// it does not get faster with more.
const obviousShare = 5

// draining measures how fast a full queue is exported to a gateway that
// discards, and how much memory the exporting process takes.
type draining struct {
	arena     *arena
	instances *instances
	queued    int
}

func (d *draining) cells() []cell {
	var cells []cell
	for _, kind := range databases {
		for _, who := range []string{"exporter", "obvious"} {
			name := "drain-" + kind + "/" + who
			cells = append(cells, cell{name, func(time.Duration) (sample, error) { return d.drain(name, kind, who) }})
		}
	}
	return cells
}

func (d *draining) drain(name, kind, who string) (s sample, err error) {
	n, role := d.queued, "export"
	if who == "obvious" {
		n, role = n/obviousShare, "export-obvious"
	}
	db, err := d.instances.make(kind)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, d.instances.drop(db)) }()
	if err := fill(db, n); err != nil {
		return s, err
	}
	gateway, err := d.arena.start(name+"/gateway", childConfig{Role: "gateway", Topic: "discard:"})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	child, err := d.arena.start(name, childConfig{Role: role, Target: gateway.Address, Database: db, License: d.arena.key})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	u, err := child.usage() // waits for the end
	if err != nil {
		return s, err
	}
	if u.Exported != int64(n) {
		return s, fmt.Errorf("%d of %d events were exported", u.Exported, n)
	}
	s = newSample(n, u.Took, u, nil)
	s.PeakMB = float64(u.Peak) / 1e6
	return s, nothingPending(db)
}

// nothingPending looks at the table itself.
func nothingPending(name string) error {
	db, err := openDatabase(name)
	if err != nil {
		return err
	}
	defer db.Close()
	var pending int
	if err := db.QueryRow("SELECT count(*) FROM telemetry_events_export_queue WHERE exported_at IS NULL").Scan(&pending); err != nil {
		return err
	}
	if pending > 0 {
		return fmt.Errorf("%d events are still queued", pending)
	}
	return nil
}

// exports is a role that exports as soon as it is started. It is asked for its
// usage when it is to have finished.
func exports(run func(childConfig) (int64, error)) func(childConfig) (*served, error) {
	return func(c childConfig) (*served, error) {
		var (
			exported int64
			took     time.Duration
			failed   error
			done     = make(chan struct{})
		)
		go func() {
			defer close(done)
			begun := time.Now()
			exported, failed = run(c)
			took = time.Since(begun)
		}()
		return &served{
			count: func(u *usage) error {
				<-done
				u.Exported, u.Took = exported, took
				return failed
			},
			stop: func() error { <-done; return nil },
		}, nil
	}
}

// exportRole is the exporter with its defaults.
func exportRole(c childConfig) (int64, error) {
	ctx := context.Background()
	q, db, err := openQueue(c.Database)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	e, err := exporter.New(q, "http://"+c.Target, exporter.Options{
		Identity: func() exporter.Identity { return exporter.Identity{LicenseKey: c.License, InstanceID: "bench-site"} },
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return 0, err
	}
	pass, err := e.Export(ctx)
	if err == nil && pass.Identity != exporter.Licensed {
		err = fmt.Errorf("sent as %s: %w", pass.Identity, pass.LicenseRefused)
	}
	return int64(pass.Accepted), err
}

// What the obvious way exports in one go, and in one message.
const (
	obviousBatch        = 10_000
	obviousMessageBytes = 1 << 20
)

// obviousExportRole is the way that comes to mind first, and that is in the
// field, only without its pause of minutes after every batch: connect, read a
// batch, decode it, send all of it in messages of a megabyte, read all the
// answers, mark what was acknowledged.
func obviousExportRole(c childConfig) (exported int64, err error) {
	ctx := context.Background()
	db, err := openDatabase(c.Database)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	dialect, err := database.Detect(ctx, db)
	if err != nil {
		return 0, err
	}
	for {
		events, err := obviousList(ctx, db, dialect)
		if err != nil || len(events) == 0 {
			return exported, err
		}
		ids, err := obviousSend(ctx, c, events)
		if err != nil {
			return exported, err
		}
		if len(ids) != len(events) {
			return exported, fmt.Errorf("%d of %d events were acknowledged", len(ids), len(events))
		}
		if err := obviousMark(ctx, db, dialect, ids); err != nil {
			return exported, err
		}
		exported += int64(len(ids))
	}
}

func obviousList(ctx context.Context, db *sql.DB, d database.Dialect) ([]*pb.Event, error) {
	rows, err := db.QueryContext(ctx, d.Bind("SELECT id, payload_pb FROM telemetry_events_export_queue WHERE exported_at IS NULL ORDER BY timestamp ASC LIMIT ?"), obviousBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []*pb.Event
	for rows.Next() {
		var id string
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return nil, err
		}
		e := new(pb.Event)
		if err := proto.Unmarshal(payload, e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// obviousSend returns the IDs of the events that were acknowledged.
func obviousSend(ctx context.Context, c childConfig, events []*pb.Event) ([]string, error) {
	conn, err := dial(c.Target, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		telemetrygatewayv1connect.TelemetryGatewayServiceRecordEventsProcedure)
	if err != nil {
		return nil, err
	}
	send := func(r *pb.RecordEventsRequest) error {
		if err := stream.SendMsg(r); err != nil && !errors.Is(err, io.EOF) {
			return err // of io.EOF, RecvMsg knows why
		}
		return nil
	}
	if err := send(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{Metadata: licensedMetadata(c.License)}}); err != nil {
		return nil, err
	}
	for len(events) > 0 {
		size, n := 0, 0
		for n < len(events) && (n == 0 || size+proto.Size(events[n]) < obviousMessageBytes) {
			size += proto.Size(events[n])
			n++
		}
		if err := send(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Events{
			Events: &pb.RecordEventsRequest_EventsPayload{Events: events[:n]},
		}}); err != nil {
			return nil, err
		}
		events = events[n:]
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var ids []string
	for {
		answer := new(pb.RecordEventsResponse)
		if err := stream.RecvMsg(answer); errors.Is(err, io.EOF) {
			return ids, nil
		} else if err != nil {
			return ids, err
		}
		ids = append(ids, answer.GetSucceededEvents()...)
	}
}

func obviousMark(ctx context.Context, db *sql.DB, d database.Dialect, ids []string) error {
	among, arg := "id = ANY(?)", any(ids)
	if d == database.SQLite {
		list, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		among, arg = "id IN (SELECT value FROM json_each(?))", string(list)
	}
	_, err := db.ExecContext(ctx, d.Bind("UPDATE telemetry_events_export_queue SET exported_at = ? WHERE "+among), d.Time(time.Now()), arg)
	return err
}
