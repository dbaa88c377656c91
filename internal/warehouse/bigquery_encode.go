// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"
	"math"
	"slices"
	"time"

	"cloud.google.com/go/bigquery/storage/managedwriter"
	"cloud.google.com/go/bigquery/storage/managedwriter/adapt"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// newStream returns what appends to a table of these columns.
func (w *bigQuery) newStream(table string, columns []column) *bigQueryStream {
	s := &bigQueryStream{
		client:   w.write,
		table:    managedwriter.TableParentFromParts(w.project, w.dataset, table),
		columns:  columns,
		patience: bigQueryAnswerTimeout,
		wait:     sleep,
	}
	// The message type follows from the schema. That it does is seen by the
	// first test that opens a warehouse.
	schema, err := adapt.BQSchemaToStorageTableSchema(bigQuerySchema(columns))
	if err != nil {
		panic(fmt.Sprintf("schema of %s: %v", table, err))
	}
	d, err := adapt.StorageSchemaToProto2Descriptor(schema, "row")
	if err != nil {
		panic(fmt.Sprintf("schema of %s: %v", table, err))
	}
	message := d.(protoreflect.MessageDescriptor)
	if s.descriptor, err = adapt.NormalizeDescriptor(message); err != nil {
		panic(fmt.Sprintf("schema of %s: %v", table, err))
	}
	for _, c := range columns {
		s.numbers = append(s.numbers, int32(message.Fields().ByName(protoreflect.Name(c.name)).Number()))
	}
	return s
}

// eventForms returns the forms of an event: all of it, or what is required.
func (s *bigQueryStream) eventForms(r *Row) []func([]byte) []byte {
	value := func(c *column) any { return c.value(c.field(r)) }
	return []func([]byte) []byte{
		func(dst []byte) []byte { return s.appendRow(dst, value) },
		func(dst []byte) []byte {
			return s.appendSlim(dst, func(c *column) bool { return c.required }, value)
		},
	}
}

// rejectedForms returns the forms of a rejected event: all of it; with its bytes
// alone; and that there was one.
func (s *bigQueryStream) rejectedForms(r *Rejected) []func([]byte) []byte {
	r = r.sound()
	value := func(c *column) any { return c.value(c.of(r)) }
	return []func([]byte) []byte{
		func(dst []byte) []byte { return s.appendRow(dst, value) },
		func(dst []byte) []byte {
			return s.appendSlim(dst, func(c *column) bool {
				return c.field == nil || slices.Contains([]string{"identity", "event_id", "source", "feature", "action", "recorded_at", "received_at", "landed_at"}, c.name)
			}, value)
		},
		func(dst []byte) []byte {
			return s.appendSlim(dst, func(c *column) bool {
				return slices.Contains([]string{"rejected_id", "stage", "reason", "landed_at"}, c.name)
			}, value)
		},
	}
}

func (s *bigQueryStream) appendRow(dst []byte, value func(*column) any) []byte {
	for i := range s.columns {
		dst = appendValue(dst, protowire.Number(s.numbers[i]), value(&s.columns[i]))
	}
	return dst
}

// appendSlim appends only some columns, and that others are missing.
func (s *bigQueryStream) appendSlim(dst []byte, keep func(*column) bool, value func(*column) any) []byte {
	return s.appendRow(dst, func(c *column) any {
		switch {
		case c.name == "incomplete":
			return true
		case keep(c):
			return value(c)
		}
		return nil
	})
}

// appendValue appends a column's value as protobuf's wire format.
func appendValue(dst []byte, n protowire.Number, v any) []byte {
	switch v := v.(type) {
	case nil:
	case string:
		dst = appendText(dst, n, v)
	case int64:
		dst = protowire.AppendTag(dst, n, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(v))
	case bool:
		dst = protowire.AppendTag(dst, n, protowire.VarintType)
		dst = protowire.AppendVarint(dst, protowire.EncodeBool(v))
	case time.Time:
		dst = protowire.AppendTag(dst, n, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(v.UnixMicro()))
	case []byte:
		dst = protowire.AppendTag(dst, n, protowire.BytesType)
		dst = protowire.AppendBytes(dst, v)
	case [16]byte:
		dst = appendText(dst, n, uuid.UUID(v).String())
	case []string:
		for _, text := range v {
			dst = appendText(dst, n, text)
		}
	case []Metadatum:
		for _, m := range v {
			dst = protowire.AppendTag(dst, n, protowire.BytesType)
			dst = protowire.AppendVarint(dst, uint64(protowire.SizeTag(1)+protowire.SizeBytes(len(m.Key))+protowire.SizeTag(2)+protowire.SizeFixed64()))
			dst = appendText(dst, 1, m.Key)
			dst = protowire.AppendTag(dst, 2, protowire.Fixed64Type)
			dst = protowire.AppendFixed64(dst, math.Float64bits(m.Value))
		}
	case []Flag:
		for _, f := range v {
			dst = protowire.AppendTag(dst, n, protowire.BytesType)
			dst = protowire.AppendVarint(dst, uint64(protowire.SizeTag(1)+protowire.SizeBytes(len(f.Name))+protowire.SizeTag(2)+protowire.SizeBytes(len(f.Value))))
			dst = appendText(dst, 1, f.Name)
			dst = appendText(dst, 2, f.Value)
		}
	default:
		panic(fmt.Sprintf("no form for a %T in BigQuery", v))
	}
	return dst
}

func appendText(dst []byte, n protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	return protowire.AppendString(dst, s)
}
