// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/duckdb/duckdb-go/v2"
	bigquery "google.golang.org/api/bigquery/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// writerSchema is the message type that a writer says its rows have.
type writerSchema struct {
	message protoreflect.MessageDescriptor
}

func parseWriterSchema(d *descriptorpb.DescriptorProto) (*writerSchema, error) {
	// A descriptor is self-contained: nested types are referred to by names
	// within it.
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("writer.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{d},
	}, nil)
	if err != nil {
		return nil, err
	}
	return &writerSchema{file.Messages().Get(0)}, nil
}

// kinds are the kinds of protobuf that a column takes.
var kinds = map[string][]protoreflect.Kind{
	"STRING":    {protoreflect.StringKind},
	"JSON":      {protoreflect.StringKind},
	"BYTES":     {protoreflect.BytesKind},
	"INTEGER":   {protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Int32Kind},
	"FLOAT":     {protoreflect.DoubleKind, protoreflect.FloatKind},
	"BOOLEAN":   {protoreflect.BoolKind},
	"TIMESTAMP": {protoreflect.Int64Kind},
	"DATE":      {protoreflect.Int32Kind},
	"RECORD":    {protoreflect.MessageKind},
}

// check returns the service's error if the writer's schema does not fit the
// table's.
func (w *writerSchema) check(fields []*bigquery.TableFieldSchema) error {
	return checkMessage(w.message, fields)
}

func checkMessage(m protoreflect.MessageDescriptor, fields []*bigquery.TableFieldSchema) error {
	known := map[string]bool{}
	for _, f := range fields {
		known[strings.ToLower(f.Name)] = true
		p := m.Fields().ByName(protoreflect.Name(f.Name))
		if p == nil {
			if mode(f) == "REQUIRED" {
				return status.Errorf(codes.InvalidArgument, "The required field %s is missing in the proto message", f.Name)
			}
			continue
		}
		fits := false
		for _, k := range kinds[fieldType(f)] {
			fits = fits || k == p.Kind()
		}
		if !fits || p.IsList() != (mode(f) == "REPEATED") {
			return status.Errorf(codes.InvalidArgument, "Proto field %s (%s %s) does not fit the column's type %s %s", f.Name, p.Cardinality(), p.Kind(), mode(f), f.Type)
		}
		if p.Kind() == protoreflect.MessageKind {
			if err := checkMessage(p.Message(), f.Fields); err != nil {
				return err
			}
		}
	}
	for i := range m.Fields().Len() {
		if name := string(m.Fields().Get(i).Name()); !known[strings.ToLower(name)] {
			return storageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS,
				"Input schema has more fields than BigQuery schema, extra fields: '"+name+"'").Err()
		}
	}
	return nil
}

// row decodes and checks one row. Its error is the row's.
func (w *writerSchema) row(wire []byte, fields []*bigquery.TableFieldSchema) (map[string]any, error) {
	m := dynamicpb.NewMessage(w.message)
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(wire, m); err != nil {
		return nil, fmt.Errorf("failed to parse the row: %w", err)
	}
	return messageValues(m, fields)
}

func messageValues(m protoreflect.Message, fields []*bigquery.TableFieldSchema) (map[string]any, error) {
	row := map[string]any{}
	for _, f := range fields {
		p := m.Descriptor().Fields().ByName(protoreflect.Name(f.Name))
		switch {
		case p == nil:
		case p.IsList():
			list := []any{}
			for i := range m.Get(p).List().Len() {
				v, err := fieldValue(f, m.Get(p).List().Get(i))
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			row[f.Name] = list
		case m.Has(p):
			v, err := fieldValue(f, m.Get(p))
			if err != nil {
				return nil, err
			}
			row[f.Name] = v
		case mode(f) == "REQUIRED":
			return nil, fmt.Errorf("field %s: required field has no value", f.Name)
		}
	}
	return row, nil
}

// The range of TIMESTAMP: the years 1 to 9999, in microseconds.
const (
	minMicros = -62135596800_000_000
	maxMicros = 253402300799_999_999
)

func fieldValue(f *bigquery.TableFieldSchema, v protoreflect.Value) (any, error) {
	switch fieldType(f) {
	case "STRING", "JSON":
		text := v.String()
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("field %s: invalid UTF-8", f.Name)
		}
		if fieldType(f) == "STRING" {
			return text, nil
		}
		if err := validJSON(text); err != nil {
			return nil, fmt.Errorf("field %s: Invalid JSON: %w", f.Name, err)
		}
		return json.RawMessage(text), nil
	case "BYTES":
		return append([]byte{}, v.Bytes()...), nil
	case "INTEGER":
		return v.Int(), nil
	case "FLOAT":
		return v.Float(), nil
	case "BOOLEAN":
		return v.Bool(), nil
	case "TIMESTAMP":
		if micros := v.Int(); micros < minMicros || micros > maxMicros {
			return nil, fmt.Errorf("field %s: timestamp is out of range", f.Name)
		}
		return time.UnixMicro(v.Int()).UTC(), nil
	case "DATE":
		return time.Unix(v.Int()*86400, 0).UTC(), nil
	case "RECORD":
		return messageValues(v.Message(), f.Fields)
	}
	return nil, fmt.Errorf("field %s: this fake has no type %s", f.Name, f.Type)
}

// maxJSONDepth is how deep a JSON value may nest.
const maxJSONDepth = 500

func validJSON(text string) error {
	if !json.Valid([]byte(text)) {
		return fmt.Errorf("syntax error")
	}
	depth, inText := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return fmt.Errorf("nesting is deeper than %d", maxJSONDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// insert writes rows in one transaction.
func (s *Server) insert(ctx context.Context, n tableName, fields []*bigquery.TableFieldSchema, rows []map[string]any) error {
	conn, err := s.db.Conn(context.WithoutCancel(ctx)) // what has arrived lands, whoever still listens
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		a, err := duckdb.NewAppenderFromConn(c.(driver.Conn), n.project+"."+n.dataset, n.table)
		if err != nil {
			return err
		}
		values := make([]driver.Value, len(fields))
		for _, row := range rows {
			for i, f := range fields {
				values[i] = row[f.Name]
			}
			if err := a.AppendRow(values...); err != nil {
				return errors.Join(err, a.Clear(), a.Close())
			}
		}
		return a.Close()
	})
}
