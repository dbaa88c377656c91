// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxRequestBytes is the largest request to append rows.
const maxRequestBytes = 10 << 20

// maxRowErrors is how many errors of rows one answer has, of however many there are.
const maxRowErrors = 100

// stream is a write stream. The default stream has none of these: it is made for
// each request.
type stream struct {
	table     tableName
	next      int64 // offset of the next row
	finalized bool
	isDefault bool
}

func parseTable(name string) (tableName, bool) {
	p := strings.Split(name, "/")
	if len(p) != 6 || p[0] != "projects" || p[2] != "datasets" || p[4] != "tables" {
		return tableName{}, false
	}
	return tableName{p[1], p[3], p[5]}, true
}

// writable returns the table that rows can be appended to, or the service's error.
func (s *Server) writable(n tableName) (*table, error) {
	if err := s.allowed("bigquery.tables.updateData", n); err != nil {
		return nil, status.Error(codes.PermissionDenied, "Permission 'TABLES_UPDATE_DATA' denied on resource '"+
			fmt.Sprintf("projects/%s/datasets/%s/tables/%s", n.project, n.dataset, n.table)+"' (or it may not exist).")
	}
	t := s.tables[n]
	if t == nil {
		return nil, storageError(codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND, "Requested entity was not found: Table "+n.String()).Err()
	}
	if t.isView() {
		return nil, status.Error(codes.InvalidArgument, "Cannot write to a view: "+n.String())
	}
	return t, nil
}

// find returns a stream by its name.
func (s *Server) find(name string) (*stream, error) {
	parent, id, _ := strings.Cut(name, "/streams/")
	n, ok := parseTable(parent)
	if !ok {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid stream name %q", name)
	}
	if _, err := s.writable(n); err != nil {
		return nil, err
	}
	if id == "_default" {
		return &stream{table: n, isDefault: true}, nil
	}
	if st := s.streams[name]; st != nil {
		return st, nil
	}
	return nil, storageError(codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND, "Requested entity was not found: "+name).Err()
}

// CreateWriteStream makes a committed stream.
func (s *Server) CreateWriteStream(_ context.Context, req *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := parseTable(req.Parent)
	if !ok {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid table name %q", req.Parent)
	}
	if _, err := s.writable(n); err != nil {
		return nil, err
	}
	if req.GetWriteStream().GetType() != storagepb.WriteStream_COMMITTED {
		return nil, status.Error(codes.Unimplemented, "this fake has only committed streams")
	}
	s.serial++
	name := fmt.Sprintf("%s/streams/Cic%08x", req.Parent, s.serial)
	s.streams[name] = &stream{table: n}
	return &storagepb.WriteStream{Name: name, Type: storagepb.WriteStream_COMMITTED, CreateTime: timestamppb.Now(), Location: "us"}, nil
}

// GetWriteStream describes a stream.
func (s *Server) GetWriteStream(_ context.Context, req *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.find(req.Name); err != nil {
		return nil, err
	}
	return &storagepb.WriteStream{Name: req.Name, Type: storagepb.WriteStream_COMMITTED, Location: "us"}, nil
}

// FinalizeWriteStream ends a stream.
func (s *Server) FinalizeWriteStream(_ context.Context, req *storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(req.Name)
	if err != nil {
		return nil, err
	}
	st.finalized = true
	return &storagepb.FinalizeWriteStreamResponse{RowCount: st.next}, nil
}

// AppendRows takes rows.
func (s *Server) AppendRows(conn storagepb.BigQueryWrite_AppendRowsServer) error {
	var name string
	var schema *writerSchema
	for {
		req, err := conn.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		// What the first request of a connection says holds for the others.
		if req.WriteStream != "" {
			name = req.WriteStream
		}
		rows := req.GetProtoRows()
		if rows == nil {
			return status.Error(codes.InvalidArgument, "Rows must be specified.")
		}
		if d := rows.GetWriterSchema().GetProtoDescriptor(); d != nil {
			if schema, err = parseWriterSchema(d); err != nil {
				return status.Errorf(codes.InvalidArgument, "Invalid proto schema: %v", err)
			}
		}
		if name == "" || schema == nil {
			return status.Error(codes.InvalidArgument, "The first request must have write_stream and writer_schema.")
		}
		answer, fault, err := s.append(conn.Context(), name, schema, req)
		switch {
		case err != nil:
			return err
		case fault.reset:
			s.conns.reset()
		case fault.ends:
			return fault.answer.Err()
		case fault.silent:
		default:
			if err := conn.Send(answer); err != nil {
				return err
			}
		}
	}
}

// append returns what to answer, or nothing; and how it goes wrong. An error
// ends the connection.
func (s *Server) append(ctx context.Context, name string, schema *writerSchema, req *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, offset := req.GetProtoRows().GetRows().GetSerializedRows(), int64(-1)
	if req.Offset != nil {
		offset = req.Offset.Value
	}
	fault := None
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	parent, _, _ := strings.Cut(name, "/streams/")
	s.appends = append(s.appends, Append{name, parent[strings.LastIndexByte(parent, '/')+1:], offset, len(rows), proto.Size(req)})
	if size := proto.Size(req); size > maxRequestBytes {
		return nil, fault, status.Errorf(codes.InvalidArgument, "AppendRows request too large: %d limit %d", size, maxRequestBytes)
	}
	st, err := s.find(name)
	if err != nil {
		return nil, fault, err
	}
	if fault.answer != nil {
		return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: fault.answer.Proto()}, WriteStream: name}, fault, nil
	}
	if fault.lost {
		return nil, fault, nil
	}
	answer, err := s.land(ctx, st, offset, schema, rows)
	if err != nil {
		return nil, fault, err
	}
	answer.WriteStream = name
	return answer, fault, nil
}

// land puts rows into the stream's table, all of them or none.
func (s *Server) land(ctx context.Context, st *stream, offset int64, schema *writerSchema, rows [][]byte) (*storagepb.AppendRowsResponse, error) {
	refuse := func(st *status.Status, rows ...*storagepb.RowError) (*storagepb.AppendRowsResponse, error) {
		return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: st.Proto()}, RowErrors: rows}, nil
	}
	if st.isDefault && offset >= 0 {
		return nil, status.Error(codes.InvalidArgument, "Offset is not supported on the default stream")
	}
	switch {
	case st.finalized:
		return refuse(storageError(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, "Stream has been finalized and cannot be appended"))
	case offset >= 0 && offset < st.next:
		return refuse(storageError(codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS,
			fmt.Sprintf("The offset is within stream, expected offset %d, received %d", st.next, offset)))
	case offset > st.next:
		return refuse(storageError(codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE,
			fmt.Sprintf("The offset is beyond stream, expected offset %d, received %d", st.next, offset)))
	}
	t, err := s.writable(st.table)
	if err != nil {
		return nil, err
	}
	fields := t.meta.Schema.Fields
	if t.lag > 0 {
		seen := *t
		seen.lag--
		s.tables[st.table] = &seen
		fields = t.was.Fields
	}
	if err := schema.check(fields); err != nil {
		return nil, err
	}
	values, bad := make([]map[string]any, len(rows)), []*storagepb.RowError(nil)
	for i, wire := range rows {
		row, err := schema.row(wire, fields)
		if err == nil && s.refuse != nil {
			if message := s.refuse(st.table.table, row); message != "" {
				err = errors.New(message)
			}
		}
		if err != nil {
			bad = append(bad, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: err.Error()})
		}
		values[i] = row
	}
	if len(bad) > 0 {
		bad = bad[:min(len(bad), maxRowErrors)]
		return refuse(status.New(codes.InvalidArgument, "Errors found while processing rows. Please refer to the row_errors field for details. The list may not be complete because of the size limitations."), bad...)
	}
	if err := s.insert(ctx, st.table, t.meta.Schema.Fields, values); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	result := &storagepb.AppendRowsResponse_AppendResult{}
	if !st.isDefault {
		result.Offset = wrapperspb.Int64(st.next)
		st.next += int64(len(rows))
	}
	return &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: result}}, nil
}
