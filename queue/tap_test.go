// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/telemetrygateway/telemetry/internal/database"
)

// tap is called before and after each statement and each commit that reaches a
// database. After a statement that changes rows, n is how many.
type tap interface {
	before(statement string, args []driver.NamedValue)
	after(statement string, n int64)
}

// tappedBed returns a bed on the implementation of a name, whose traffic goes
// through a tap.
func tappedBed(t testing.TB, name string, to tap) *bed {
	t.Helper()
	b := &bed{TB: t, dialect: database.SQLite, clock: &clock{t: start}}
	connector := tapConnector{&sqlite.Driver{}, sqliteDSN(filepath.Join(t.TempDir(), "queue.db")), to}
	if name != "SQLite" {
		b.dialect = database.Postgres
		connector = tapConnector{stdlib.GetDefaultDriver(), newDatabase(t), to}
	}
	if name == "original table" {
		if _, err := open(t, "pgx", connector.dsn).Exec(originalUUID); err != nil {
			t.Fatal(err)
		}
	}
	b.db = sql.OpenDB(connector)
	t.Cleanup(func() { b.db.Close() })
	return b
}

type tapConnector struct {
	driver driver.Driver
	dsn    string
	tap    tap
}

func (c tapConnector) Driver() driver.Driver { return c.driver }

func (c tapConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &tapConn{conn, c.tap}, nil
}

type tapConn struct {
	driver.Conn
	tap tap
}

func (c *tapConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *tapConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	return tapTx{tx, c.tap}, nil
}

func (c *tapConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.tap.before(query, args)
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil {
		n, _ := result.RowsAffected()
		c.tap.after(query, n)
	}
	return result, err
}

func (c *tapConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.tap.before(query, args)
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	if err == nil {
		c.tap.after(query, 0)
	}
	return rows, err
}

func (c *tapConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &tapStmt{stmt, query, c}, nil
}

type tapStmt struct {
	driver.Stmt
	query string
	conn  *tapConn
}

func (s *tapStmt) CheckNamedValue(v *driver.NamedValue) error { return s.conn.CheckNamedValue(v) }

func (s *tapStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.conn.tap.before(s.query, args)
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	if err == nil {
		n, _ := result.RowsAffected()
		s.conn.tap.after(s.query, n)
	}
	return result, err
}

type tapTx struct {
	driver.Tx
	tap tap
}

func (t tapTx) Commit() error {
	t.tap.before("COMMIT", nil)
	err := t.Tx.Commit()
	if err == nil {
		t.tap.after("COMMIT", 0)
	}
	return err
}
