// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"archive/tar"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

const (
	// maxConnections and maxStatementBytes bound what strangers on this machine
	// can make us hold; statements at once are the warehouse's to bound.
	maxConnections    = 16
	maxStatementBytes = 1 << 20
	headerTimeout     = 5 * time.Second
	// stallTimeout is how long somebody may read nothing of an answer. Until
	// then the statement keeps its snapshot, and with it old data, alive.
	stallTimeout = time.Minute
	// blockBytes is how much of an answer is gathered before it is written.
	blockBytes = 32 << 10
	// stopTimeout is how long the end of statements may take to reach those who
	// asked, once the door closes.
	stopTimeout = 2 * time.Second
)

// Options are what Serve needs besides.
type Options struct {
	Log *slog.Logger
	// Answered, if set, is called after each query and export, with the error
	// with which it ended, if any.
	Answered func(error)
}

// Serve lets other processes read from r until ctx ends. How to get in is in
// the file path, which is made at the start and removed at the end; path with
// ".export" added is where exports are put together. When Serve returns, no
// statement runs any more and r may be closed. It does not close r.
func Serve(ctx context.Context, path string, r warehouse.Reader, o Options) (err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("open the door: %w", err)
	}
	defer l.Close()
	s := &server{key: newKey(l.Addr().String()), reader: r, scratch: path + ".export", o: o}
	if err := os.RemoveAll(s.scratch); err != nil { // of a process that was killed
		return fmt.Errorf("open the door: %w", err)
	}
	if err := s.key.write(path); err != nil {
		return fmt.Errorf("open the door: %w", err)
	}
	defer func() {
		if removeErr := s.key.remove(path); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove the door's file: %w", removeErr))
		}
	}()
	h := &http.Server{
		Handler: s.handler(), BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout, IdleTimeout: stallTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(netutil.LimitListener(l, maxConnections)) }()
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if h.Shutdown(bound) != nil {
		h.Close()
	}
	s.calls.Lock() // for ever: calls under way have ended, and no other begins
	return err
}

type server struct {
	key       key
	reader    warehouse.Reader
	scratch   string // where exports are put together
	o         Options
	calls     sync.RWMutex // read-locked by each call
	exporting sync.Mutex
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ping", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /query", s.answer(s.query))
	mux.HandleFunc("POST /export", s.answer(s.export))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.calls.TryRLock() {
			return // Serve is about to return
		}
		defer s.calls.RUnlock()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if code, text := s.admit(r); code != 0 {
			refuse(w, code, text)
			return
		}
		w.Header().Set(answerHeader, s.key.Answer)
		mux.ServeHTTP(w, r)
	})
}

// admit says why a request is refused, before anything of it is done.
func (s *server) admit(r *http.Request) (code int, text string) {
	switch {
	case r.Host != s.key.Address:
		// A page whose own name was made to resolve to our address.
		return http.StatusMisdirectedRequest, "the door is not at this host"
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return http.StatusForbidden, "the door is not for web pages"
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.key.Token)) != 1 {
		return http.StatusUnauthorized, "the door asks for the token in its file"
	}
	return 0, ""
}

// refuse answers with one line.
func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.Join(strings.Fields(text), " ")+"\n")
}

// answer makes a handler of f, whose error is the answer unless something else
// has been written.
func (s *server) answer(f func(out *stallWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out := &stallWriter{w: w, c: http.NewResponseController(w)}
		err := f(out, r)
		if s.o.Answered != nil {
			s.o.Answered(err)
		}
		switch {
		case err == nil, out.told:
		case out.begun:
			panic(http.ErrAbortHandler) // nobody may take it for a whole answer
		default:
			refuse(w, http.StatusUnprocessableEntity, explain(r.Context(), err))
		}
	}
}

// explain says why a call failed whose context is ctx. If the context has ended
// and there is still somebody to tell, the door is closing.
func explain(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "the process that has the warehouse open is stopping; ask again once it has"
	}
	return err.Error()
}

func (s *server) query(out *stallWriter, r *http.Request) error {
	statement, err := io.ReadAll(http.MaxBytesReader(out.w, r.Body, maxStatementBytes))
	if err != nil {
		return fmt.Errorf("read the statement: %w", err)
	}
	rows, err := s.reader.Query(r.Context(), string(statement))
	if err != nil {
		return err
	}
	defer rows.Close()
	columns := rows.Columns()
	block := appendColumns(nil, columns)
	for {
		row, err := rows.Next()
		if err == nil && len(row) != len(columns) {
			err = fmt.Errorf("a row has %d values and not %d", len(row), len(columns))
		}
		if err == nil {
			// An error leaves what is in the block already as it was.
			var longer []byte
			if longer, err = appendRow(block, row); err == nil {
				block = longer
			}
		}
		switch {
		case err == nil && len(block) < blockBytes:
			continue
		case errors.Is(err, io.EOF):
			_, err := out.Write(append(block, frameEnd))
			return err
		case err != nil:
			_, writeErr := out.Write(appendString(append(block, frameError), explain(r.Context(), err)))
			out.told = writeErr == nil
			return err
		}
		if _, err := out.Write(block); err != nil {
			return err
		}
		block = block[:0]
	}
}

// export answers with a tar archive.
func (s *server) export(out *stallWriter, r *http.Request) (err error) {
	e, ok := s.reader.(warehouse.Exporter)
	if !ok {
		return errors.New("this warehouse cannot be exported from here")
	}
	if !s.exporting.TryLock() {
		return errors.New("another export is under way; try again when it has ended")
	}
	defer s.exporting.Unlock()
	defer func() {
		if err := os.RemoveAll(s.scratch); err != nil {
			s.o.Log.Warn("what was put together for an export is left over", "error", err)
		}
	}()
	if err := e.Export(r.Context(), s.scratch); err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	if err := archive.AddFS(os.DirFS(s.scratch)); err != nil {
		return err
	}
	return archive.Close()
}

// stallWriter gives each write a time of its own, and sends what is written.
type stallWriter struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	begun bool // something was written
	told  bool // the error was written
}

func (s *stallWriter) Write(p []byte) (int, error) {
	s.begun = true
	if err := s.c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, s.c.Flush()
}
