// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

const (
	// insertRows is how many rows one statement inserts: to begin and end one
	// takes longer than to insert a row.
	insertRows = 16

	// A transaction in which something failed is never committed, so that it does
	// not matter which rows of a statement are in it. By default SQLite keeps a
	// journal of each statement to be able to undo it.
	insertHead = "INSERT OR FAIL INTO messages (published_at, key, attributes, data) VALUES "
	insertRow  = "(?, ?, ?, ?)"
	insertArgs = 4
)

// An inserter inserts messages.
type inserter struct {
	one, many *sql.Stmt
	// Those that are not inserted yet.
	args       []any
	attributes [insertRows][]byte
}

func newInserter(ctx context.Context, f *sqliteFile) (i *inserter, err error) {
	i = &inserter{args: make([]any, 0, insertRows*insertArgs)}
	if i.one, err = f.PrepareContext(ctx, insertHead+insertRow); err == nil {
		i.many, err = f.PrepareContext(ctx, insertHead+strings.Repeat(insertRow+", ", insertRows-1)+insertRow)
	}
	if err != nil {
		return nil, errors.Join(err, i.close())
	}
	return i, nil
}

// add inserts a message, at the latest when flush is called, until when it must
// not change. It returns how many bytes of it are kept. After an error nothing
// more may be inserted.
func (i *inserter) add(now int64, m *Message) (bytes int, err error) {
	attributes := &i.attributes[len(i.args)/insertArgs]
	*attributes = appendAttributes((*attributes)[:0], m.Attributes)
	i.args = append(i.args, now, text(m.Key), blob(*attributes), blob(m.Data))
	if len(i.args) == cap(i.args) {
		_, err = i.many.ExecContext(context.Background(), i.args...)
		i.forget()
	}
	return len(m.Key) + len(*attributes) + len(m.Data), err
}

// flush inserts what is left.
func (i *inserter) flush() error {
	defer i.forget()
	for args := i.args; len(args) > 0; args = args[insertArgs:] {
		if _, err := i.one.ExecContext(context.Background(), args[:insertArgs]...); err != nil {
			return err
		}
	}
	return nil
}

func (i *inserter) forget() {
	clear(i.args)
	i.args = i.args[:0]
}

// close lets go of the statements: as long as one is open, the connection lives
// on. It may be called on nil.
func (i *inserter) close() error {
	if i == nil {
		return nil
	}
	var errs []error
	for _, s := range []*sql.Stmt{i.one, i.many} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
