// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	// bigQueryRequestBytes is what the rows of one request may take. The service
	// takes 10 MiB for all of a request, of which the schema is some kilobytes.
	bigQueryRequestBytes = 10<<20 - 64<<10
	// bigQueryAttempts is how often a request is sent until it is the caller's
	// turn to wait.
	bigQueryAttempts = 5
	// bigQueryAnswerTimeout bounds one attempt, for a connection that is dead
	// without knowing it. It lets 10 MB through at 1.4 Mbit/s.
	bigQueryAnswerTimeout = time.Minute
)

// bigQueryStream appends rows to one table, through a write stream that it makes
// when there is none. It is not safe for use from several goroutines.
type bigQueryStream struct {
	client     *managedwriter.Client
	table      string // projects/P/datasets/D/tables/T
	columns    []column
	numbers    []int32 // of the columns, as protobuf fields
	descriptor *descriptorpb.DescriptorProto
	patience   time.Duration                              // for one answer
	wait       func(context.Context, time.Duration) error // until the next attempt

	name   string // of the write stream; empty if there is none
	offset int64  // of the next row in it
	conn   *managedwriter.ManagedStream
	hangUp context.CancelFunc
}

// bigQueryRow is a row on its way. It has several forms, each with fewer columns
// than the one before, for when it is too large, or has private metadata that is
// not what BigQuery takes for JSON; or, if it must land, for whatever is wrong.
type bigQueryRow struct {
	mustLand bool
	index    int
	forms    []func([]byte) []byte // that are left; each appends the row's wire format
	wire     []byte                // in the form it now has
}

// next encodes the first form that fits into a request, and forgets it and those
// before it. It reports whether there is one.
func (r *bigQueryRow) next() bool {
	for len(r.forms) > 0 {
		// Not into the same memory: a connection given up may still be reading it.
		r.wire = r.forms[0](nil)
		r.forms = r.forms[1:]
		if len(r.wire)+rowOverhead <= bigQueryRequestBytes {
			return true
		}
	}
	return false
}

// rowOverhead is what a row takes in a request besides its bytes, at most.
const rowOverhead = 6

// insert appends rows and returns those that BigQuery takes in no form.
func (s *bigQueryStream) insert(ctx context.Context, rows []bigQueryRow) (refused []Refusal, err error) {
	left := rows[:0]
	for _, r := range rows {
		if r.next() {
			left = append(left, r)
		} else {
			refused = append(refused, Refusal{r.index, "the event is too large for a request of BigQuery's"})
		}
	}
	for len(left) > 0 {
		n, bytes := 0, 0
		var wires [][]byte
		for n < len(left) && bytes+len(left[n].wire)+rowOverhead <= bigQueryRequestBytes {
			bytes += len(left[n].wire) + rowOverhead
			wires = append(wires, left[n].wire)
			n++
		}
		bad, err := s.append(ctx, wires)
		if err != nil {
			return nil, err
		}
		if len(bad) == 0 {
			left = left[n:]
			continue
		}
		// Nothing of the request has landed.
		kept := left[:0]
		for i, r := range left {
			e, isBad := bad[i]
			if isBad && !(r.mustLand || e.column == "private_metadata") || isBad && !r.next() {
				refused = append(refused, Refusal{r.index, e.message})
				continue
			}
			kept = append(kept, r)
		}
		left = kept
	}
	slices.SortFunc(refused, func(a, b Refusal) int { return a.Index - b.Index })
	return refused, nil
}

// append appends rows in one request, once, or returns what is wrong with each
// of those that BigQuery refuses, by index; then nothing has landed. After an
// error something may have.
func (s *bigQueryStream) append(ctx context.Context, rows [][]byte) (bad map[int]rowError, err error) {
	unknown := false // whether the rows may be at this offset of this stream
	for attempt := 0; ; attempt++ {
		var sent bool
		bad, sent, err = s.attempt(ctx, rows)
		v := outcomeOf(err)
		if v == outcomeThere && !unknown {
			v = outcomeStream // not by us: we are out of step
		}
		switch v {
		case outcomeLanded, outcomeThere:
			s.offset += int64(len(rows))
			return nil, nil
		case outcomeRows:
			if len(bad) > 0 {
				return bad, nil
			}
		case outcomeAgain:
			unknown = unknown || sent
			s.disconnect()
		case outcomeQuota:
			s.disconnect()
		case outcomeStream:
			// If the rows are in the old stream, they are now there twice, and
			// the view shows them once.
			unknown = false
			s.drop()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if ctx.Err() != nil || !v.passing() || attempt+1 == bigQueryAttempts {
			// The next call may have other rows, of which this stream's offsets
			// say nothing.
			s.drop()
			return nil, err
		}
		if err := s.wait(ctx, rand.N(v.pause()<<attempt)); err != nil {
			s.drop()
			return nil, err
		}
	}
}

// attempt sends one request and waits for its answer. It reports whether anything
// may have been sent.
func (s *bigQueryStream) attempt(ctx context.Context, rows [][]byte) (bad map[int]rowError, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return nil, false, err
	}
	result, err := s.conn.AppendRows(ctx, rows, managedwriter.WithOffset(s.offset))
	if err != nil {
		return nil, true, err
	}
	answer, err := result.FullResponse(ctx)
	for _, e := range answer.GetRowErrors() {
		if e.Index >= 0 && e.Index < int64(len(rows)) {
			if bad == nil {
				bad = map[int]rowError{}
			}
			bad[int(e.Index)] = s.refusal(e)
		}
	}
	if err != nil && len(answer.GetRowErrors()) > 0 {
		err = errRows
	}
	return bad, true, err
}

// errRows stands for an answer that has errors of rows, whose texts may quote
// what is in them.
var errRows = errors.New("BigQuery refuses rows")

var quotedField = regexp.MustCompile(`[A-Za-z][a-z_0-9]*`)

// rowError is what may be told of the error of a row: its kind, and the first of
// our columns that it names.
type rowError struct{ column, message string }

func (s *bigQueryStream) refusal(e *storagepb.RowError) rowError {
	for _, word := range quotedField.FindAllString(e.Message, -1) {
		for i := range s.columns {
			if s.columns[i].name == word {
				return rowError{word, fmt.Sprintf("BigQuery refuses the event (%s, column %s)", e.Code, word)}
			}
		}
	}
	return rowError{"", fmt.Sprintf("BigQuery refuses the event (%s)", e.Code)}
}

// once turns off the client's own retries, which last as long as the context.
var once = gax.WithRetry(func() gax.Retryer { return nil })

// connect makes a write stream and connects to it, as far as that is needed.
func (s *bigQueryStream) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	if s.name == "" {
		stream, err := s.client.CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{
			Parent: s.table, WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
		}, once)
		if err != nil {
			return fmt.Errorf("make a write stream: %w", err)
		}
		s.name, s.offset = stream.Name, 0
	} else if _, err := s.client.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: s.name}, once); err != nil {
		return fmt.Errorf("look for the write stream: %w", err)
	}
	// The connection's context is not that of this attempt, which only bounds
	// how long connecting takes.
	life, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, hangUp)
	conn, err := s.client.NewManagedStream(life, managedwriter.WithStreamName(s.name), managedwriter.WithSchemaDescriptor(s.descriptor))
	if err != nil {
		hangUp()
		return fmt.Errorf("connect to the write stream: %w", err)
	}
	if stop(); life.Err() != nil {
		conn.Close()
		return fmt.Errorf("connect to the write stream: %w", context.Cause(ctx))
	}
	s.conn, s.hangUp = conn, hangUp
	return nil
}

// disconnect closes the connection: of one on which an answer is missing, the
// next answer cannot be told to which request it belongs.
func (s *bigQueryStream) disconnect() {
	if s.conn != nil {
		s.conn.Close() // always io.EOF
		s.hangUp()
		s.conn = nil
	}
}

// drop gives up the write stream. The next rows go into a new one.
func (s *bigQueryStream) drop() {
	s.disconnect()
	s.name, s.offset = "", 0
}

// ping asks for the stream that every table has.
func (s *bigQueryStream) ping(ctx context.Context) error {
	_, err := s.client.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: s.table + "/streams/_default"}, once)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
