// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// conn runs statements, in a transaction or, with a *sql.DB, each on its own.
// Placeholders are "?" in every dialect.
type conn struct {
	ctx     context.Context
	dialect database.Dialect
	runner
	// own says that a statement is a transaction of its own.
	own bool
}

type runner interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}

// on returns a conn for r. Drivers of SQLite start a goroutine for every
// statement whose context can end. Statements are short there, as Write has the
// lock before the first one; so they get a context that does not, and it is the
// transaction that ends.
func (q *Queue) on(ctx context.Context, r runner) conn {
	if q.dialect == database.SQLite {
		ctx = context.WithoutCancel(ctx)
	}
	return conn{ctx: ctx, dialect: q.dialect, runner: r}
}

// write runs f in a transaction that may write, and commits it.
func (q *Queue) write(ctx context.Context, f func(conn) error) error {
	return database.Write(ctx, q.db, q.dialect, func(tx *sql.Tx) error { return q.on(ctx, tx).run(f) })
}

// read runs f in a transaction that does not write.
func (q *Queue) read(ctx context.Context, f func(conn) error) error {
	tx, err := q.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	err = q.on(ctx, tx).run(f)
	return errors.Join(err, tx.Rollback())
}

// alongIndexes keeps PostgreSQL's planner from anything else than to walk along
// an index, which is what every statement here is made for. Its statistics are
// old whenever a queue has grown or drained, and then it would rather sort a
// million events than read the first thousand of an index.
const alongIndexes = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"

func (c conn) run(f func(conn) error) error {
	if c.dialect == database.Postgres {
		if _, err := c.ExecContext(c.ctx, alongIndexes); err != nil {
			return err
		}
	}
	return f(c)
}

// exec returns how many rows the statement changed.
func (c conn) exec(query string, args ...any) (int64, error) {
	result, err := c.ExecContext(c.ctx, c.dialect.Bind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// scan reads the only row of a result.
func (c conn) scan(query string, args []any, into ...any) error {
	return c.QueryRowContext(c.ctx, c.dialect.Bind(query), args...).Scan(into...)
}

// errEnough ends each without an error.
var errEnough = errors.New("enough")

// each calls f for each row of a result, until f returns an error.
func (c conn) each(query string, args []any, f func(scan func(...any) error) error) error {
	rows, err := c.QueryContext(c.ctx, c.dialect.Bind(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err == errEnough {
			return rows.Close()
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// fit returns how many of a query's rows may be read so that their payloads have
// so many bytes together, and at least one. Whoever asks PostgreSQL for more and
// stops reading gets them all the same, which for 10,000 large events is
// gigabytes; SQLite reads on only when it is asked to.
func (c conn) fit(bytes int, query func(columns string) (string, []any)) (n int, err error) {
	if c.dialect != database.Postgres {
		return math.MaxInt - 1, nil
	}
	text, args := query("octet_length(payload_pb)")
	most := math.MaxInt - 1
	err = c.each(text, args, func(scan func(...any) error) error {
		var size int
		if err := scan(&size); err != nil {
			return err
		}
		if bytes -= size; bytes < 0 && n > 0 {
			most = n
			return errEnough
		}
		n++
		return nil
	})
	return most, err
}

// sum runs a statement that returns the size of each payload that it changed. It
// returns how many there were, and how large together.
func (c conn) sum(query string, args ...any) (n, bytes int64, err error) {
	err = c.each(query, args, func(scan func(...any) error) error {
		var size int64
		if err := scan(&size); err != nil {
			return err
		}
		n++
		bytes += size
		return nil
	})
	return n, bytes, err
}
