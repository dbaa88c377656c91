// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// patience is how long a test waits for what takes milliseconds.
const patience = time.Minute

// opened is a DuckDB warehouse with a door.
type opened struct {
	path     string     // of the door's file
	answered chan error // how each query and export ended
	shut     func()     // closes the door, and waits
	warehouse.Exporter
}

func open(t *testing.T) *opened {
	t.Helper()
	dir := t.TempDir()
	w, err := warehouse.Open(t.Context(), "duckdb://"+filepath.Join(dir, "w.duckdb"), warehouse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	day := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	row := warehouse.Row{
		KeyHash: [16]byte{1}, ContentHash: 1, Identity: "unlicensed/a", EventID: "e", Source: "unlicensed_instance", SourceID: "a",
		Feature: "f", Action: "a", RecordedAt: day, ReceivedAt: day, LandedAt: day, Payload: []byte(`{"event":{}}`),
	}
	if _, err := w.Insert(t.Context(), &warehouse.Batch{Events: []warehouse.Row{row}}); err != nil {
		t.Fatal(err)
	}
	return serve(t, filepath.Join(dir, "w.duckdb.door"), w.(warehouse.Exporter))
}

// serve opens a door to r and waits until it is open.
func serve(t *testing.T, path string, r warehouse.Exporter) *opened {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &opened{path: path, answered: make(chan error, 100), Exporter: r}
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, path, r, Options{Log: slog.New(slog.DiscardHandler), Answered: func(err error) { o.answered <- err }})
	}()
	o.shut = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the door: %v", err)
		}
	})
	t.Cleanup(o.shut)
	for begun := time.Now(); ; {
		if _, err := readKey(path); err == nil {
			return o
		} else if time.Since(begun) > patience {
			t.Fatalf("the door does not open: %v", err)
		}
	}
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnAnswerIsAsIfOneHadAskedTheWarehouse(t *testing.T) {
	o := open(t)
	const sql = `SELECT *, 1::BIGINT AS i, 0.5 AS d, 'x' AS s, NULL AS n, [1, NULL] AS l, MAP {'a': 1.5} AS m, '\x00'::BLOB AS b, true AS t, r.range AS r
		FROM events, range(1000) AS r ORDER BY r.range`
	ask := func(r warehouse.Reader) (columns []string, list [][]any) {
		rows, err := r.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		columns = rows.Columns()
		if list, err = all(rows); err != io.EOF {
			t.Fatal(err)
		}
		if _, err := rows.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		return columns, list
	}
	wantColumns, want := ask(o)
	columns, got := ask(dial(t, o.path))
	if diff := cmp.Diff(wantColumns, columns); diff != "" {
		t.Error(diff)
	}
	if len(want) != 1000 || cmp.Diff(want, got) != "" {
		t.Errorf("%d rows became %d, and differ", len(want), len(got))
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	o := open(t)
	c := dial(t, o.path)
	for sql, want := range map[string]string{
		"SELECT nothing FROM events":                                             "nothing",
		"SELECT error('on row ' || range) FROM range(3)":                         "on row 0",
		"SELECT 1 -- " + strings.Repeat("x", 2<<20):                              "too large",
		"SELECT CASE WHEN range = 9999 THEN error('late') END FROM range(10000)": "late",
	} {
		rows, err := c.Query(t.Context(), sql)
		if err == nil {
			_, err = all(rows)
			rows.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %q", sql, err, want)
		}
		if err := <-o.answered; err == nil {
			t.Errorf("%.80s: counts as answered", sql)
		}
	}
}

// What may be done is the warehouse's business. This is to see that the door is
// no way around it.
func TestNothingIsWritten(t *testing.T) {
	o := open(t)
	c := dial(t, o.path)
	outside := filepath.Join(t.TempDir(), "outside")
	for _, sql := range []string{
		"DELETE FROM events",
		"DROP TABLE events",
		"INSERT INTO events SELECT * FROM events",
		"UPDATE events SET feature = 'x'",
		"CREATE TABLE mine (a INT)",
		"CREATE OR REPLACE VIEW daily_active_users AS SELECT 1",
		"SELECT 1; DELETE FROM events",
		"COMMIT; DELETE FROM events",
		"ROLLBACK",
		"WITH d AS (SELECT 1) DELETE FROM events",
		"EXPLAIN ANALYZE DELETE FROM events",
		"PREPARE p AS DELETE FROM events",
		"COPY events TO '" + outside + "'",
		"COPY (SELECT 1) TO '" + outside + "' (FORMAT parquet)",
		"EXPORT DATABASE '" + outside + "'",
		"ATTACH '" + outside + "' AS o",
		"SELECT * FROM read_text('/etc/passwd')",
		"SELECT * FROM '/etc/passwd'",
		"SET enable_external_access = true",
		"SET memory_limit = '100GB'",
		"PRAGMA threads = 64",
		"INSTALL httpfs",
		"LOAD httpfs",
		"CHECKPOINT",
		"VACUUM",
		"USE memory",
		"DETACH w",
		"CALL pragma_version()",
	} {
		rows, err := c.Query(t.Context(), sql)
		if err == nil {
			_, err = all(rows)
			rows.Close()
		}
		if (err == nil || err == io.EOF) && sql != "CALL pragma_version()" {
			t.Errorf("%s: was done", sql)
		}
	}
	rows, err := c.Query(t.Context(), "SELECT count(*), min(feature) FROM events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if got, _ := all(rows); cmp.Diff([][]any{{int64(1), "f"}}, got) != "" {
		t.Errorf("events became %v", got)
	}
	if _, err := os.Stat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was written outside of the warehouse")
	}
}

func TestWhoIsRefused(t *testing.T) {
	o := open(t)
	k, err := readKey(o.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"nobody":         {func(*http.Request) {}, http.StatusOK},
		"without token":  {func(r *http.Request) { r.Header.Del("Authorization") }, http.StatusUnauthorized},
		"wrong token":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+k.Token[1:]+"A") }, http.StatusUnauthorized},
		"empty token":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, http.StatusUnauthorized},
		"begun token":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+k.Token[:5]) }, http.StatusUnauthorized},
		"the answer":     {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+k.Answer) }, http.StatusUnauthorized},
		"basic":          {func(r *http.Request) { r.SetBasicAuth("", k.Token) }, http.StatusUnauthorized},
		"foreign host":   {func(r *http.Request) { r.Host = "rebound.example.com" }, http.StatusMisdirectedRequest},
		"another port":   {func(r *http.Request) { r.Host = "127.0.0.1:1" }, http.StatusMisdirectedRequest},
		"by name":        {func(r *http.Request) { r.Host = "localhost" + k.Address[strings.LastIndex(k.Address, ":"):] }, http.StatusMisdirectedRequest},
		"foreign origin": {func(r *http.Request) { r.Header.Set("Origin", "https://example.com") }, http.StatusForbidden},
		"own origin":     {func(r *http.Request) { r.Header.Set("Origin", "http://"+k.Address) }, http.StatusForbidden},
		"null origin":    {func(r *http.Request) { r.Header.Set("Origin", "null") }, http.StatusForbidden},
		"a page":         {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, http.StatusForbidden},
		"preflight":      {func(r *http.Request) { r.Method = http.MethodOptions; r.Header.Set("Origin", "null") }, http.StatusForbidden},
		"GET":            {func(r *http.Request) { r.Method = http.MethodGet; r.URL.RawQuery = "sql=SELECT+1" }, http.StatusMethodNotAllowed},
		"PUT":            {func(r *http.Request) { r.Method = http.MethodPut }, http.StatusMethodNotAllowed},
		"another path":   {func(r *http.Request) { r.URL.Path = "/" }, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+k.Address+"/query", strings.NewReader("SELECT 1"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+k.Token)
			c.change(request)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != c.want {
				t.Errorf("got %d %q, %v; want %d", response.StatusCode, body, err, c.want)
			}
			if c.want == http.StatusOK {
				if err := <-o.answered; err != nil {
					t.Error(err)
				}
				return
			}
			if len(o.answered) > 0 {
				t.Error("the statement was run")
			}
			for _, secret := range []string{k.Token, k.Answer} {
				if bytes.Contains(body, []byte(secret)) {
					t.Error("the body tells a secret")
				}
			}
			if c.want != http.StatusMethodNotAllowed && c.want != http.StatusNotFound && response.Header.Get(answerHeader) != "" {
				t.Error("who has no token is told the answer")
			}
			for name := range response.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("there is %s", name)
				}
			}
		})
	}
}

func TestTheFile(t *testing.T) {
	o := open(t)
	info, err := os.Stat(o.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	o.shut()
	if _, err := os.Stat(o.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(o.path), ".door-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Whoever has the door now keeps it, however late another one closes.
func TestAnothersFileIsLeftAlone(t *testing.T) {
	o := open(t)
	other := newKey("127.0.0.1:1")
	if err := other.write(o.path); err != nil {
		t.Fatal(err)
	}
	o.shut()
	if k, err := readKey(o.path); err != nil || k != other {
		t.Errorf("got %v, %v", k, err)
	}
}

func TestNobodyBehindTheDoor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "door")
	if _, err := Dial(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	// Somebody who answers everything, and does not know the answer.
	asked := make(chan string, 10)
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + string(body)
		w.Header().Set(answerHeader, "open sesame")
	}))
	if err := newKey(stranger.Listener.Addr().String()).write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrStale) {
		t.Errorf("with a stranger there: %v", err)
	}
	if got := <-asked; got != "/ping" || len(asked) > 0 {
		t.Errorf("the stranger was asked %s", got)
	}
	stranger.Close()
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrStale) {
		t.Errorf("with nobody there: %v", err)
	}
	for _, content := range []string{
		"", "{}", "door", `{"address":"192.0.2.1:80","token":"t","answer":"a"}`, `{"address":"example.com:80","token":"t","answer":"a"}`,
		`{"address":"127.0.0.1","token":"t","answer":"a"}`, `{"address":"127.0.0.1:80","token":"","answer":"a"}`, strings.Repeat(" ", 1<<20) + "{}",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no door's file") {
			t.Errorf("%.60s: %v", content, err)
		}
	}
}

// failing is a warehouse whose answers fail after some rows.
type failing struct{ warehouse.Exporter }

func (w failing) Query(ctx context.Context, sql string) (warehouse.Rows, error) {
	rows, err := w.Exporter.Query(ctx, sql)
	return &failingRows{rows, 3}, err
}

type failingRows struct {
	warehouse.Rows
	left int
}

func (r *failingRows) Next() ([]any, error) {
	if r.left--; r.left < 0 {
		return nil, errors.New("the disk has gone")
	}
	return r.Rows.Next()
}

func TestWhatGoesWrongLateIsSaidToo(t *testing.T) {
	o := serve(t, filepath.Join(t.TempDir(), "door"), failing{open(t).Exporter})
	rows, err := dial(t, o.path).Query(t.Context(), "SELECT range FROM range(10)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if got, err := all(rows); len(got) != 3 || err == nil || err.Error() != "the disk has gone" {
		t.Errorf("got %d rows, then %v", len(got), err)
	}
	if err := <-o.answered; err == nil {
		t.Error("it counts as answered")
	}
}

// long is a statement whose answer fits into no buffer on its way.
const long = "SELECT range, repeat('x', 1000) FROM range(20000)"

func TestWhoLeavesEndsTheQuery(t *testing.T) {
	o := open(t)
	c := dial(t, o.path)
	for name, leave := range map[string]func(warehouse.Rows, context.CancelFunc){
		"close":  func(r warehouse.Rows, _ context.CancelFunc) { r.Close() },
		"cancel": func(_ warehouse.Rows, cancel context.CancelFunc) { cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		rows, err := c.Query(ctx, long)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rows.Next(); err != nil {
			t.Fatal(err)
		}
		leave(rows, cancel)
		if err := <-o.answered; err == nil {
			t.Errorf("%s: the statement ended well", name)
		}
		if name == "cancel" {
			if _, err := all(rows); !errors.Is(err, context.Canceled) {
				t.Errorf("the rows ended with %v", err)
			}
		}
		rows.Close()
		cancel()
	}
}

// told is a warehouse that tells when it is asked.
type told struct {
	warehouse.Exporter
	asked chan struct{}
}

func (w told) Query(ctx context.Context, sql string) (warehouse.Rows, error) {
	w.asked <- struct{}{}
	return w.Exporter.Query(ctx, sql)
}

// A statement without a first row yet ends as well, when who asked leaves and
// when the door closes.
func TestAStatementThatIsBusyEnds(t *testing.T) {
	busy := "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
	w := told{open(t).Exporter, make(chan struct{}, 1)}
	o := serve(t, filepath.Join(t.TempDir(), "door"), w)
	c := dial(t, o.path)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-w.asked; cancel() }()
	if _, err := c.Query(ctx, busy); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-o.answered; err == nil {
		t.Error("the statement ended well")
	}

	go func() { <-w.asked; o.shut() }()
	if _, err := c.Query(t.Context(), busy); err == nil || !strings.Contains(err.Error(), "is stopping") {
		t.Errorf("got %v", err)
	}
}

func TestWhoDoesNotReadEndsWithTheDoor(t *testing.T) {
	o := open(t)
	rows, err := dial(t, o.path).Query(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	o.shut() // returns although nobody reads
	if _, err := all(rows); err == nil || err == io.EOF {
		t.Errorf("the rows ended with %v", err)
	}
}
