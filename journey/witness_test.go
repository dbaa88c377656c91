// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// A witness stands between an instance and its gateway and keeps all that is
// said, in the clear: first lines, headers, bodies and trailers of both sides.
type witness struct {
	url    string
	server *httptest.Server
	mu     sync.Mutex
	seen   bytes.Buffer
	// What was compressed, and what came with which protocol.
	compressed int
	protocols  map[string]int
}

func newWitness(t *testing.T, gatewayAddress string) *witness {
	w := &witness{protocols: map[string]int{}}
	h2c, both := new(http.Protocols), new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	both.SetUnencryptedHTTP2(true)
	both.SetHTTP1(true)
	transport := &http.Transport{Protocols: h2c}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: gatewayAddress}) },
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		request, response := new(bytes.Buffer), new(bytes.Buffer)
		body, header := r.Body, r.Header.Clone()
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(body, request), body}
		pass.ServeHTTP(&teeWriter{rw, response}, r)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.protocols[r.Proto]++
		fmt.Fprintln(&w.seen, r.Method, r.RequestURI, r.Host)
		for _, h := range []http.Header{header, r.Trailer, rw.Header()} {
			_ = h.Write(&w.seen)
		}
		w.keep(t, header, request.Bytes())
		w.keep(t, rw.Header(), response.Bytes())
	}))
	server.Config.Protocols, server.Config.ErrorLog = both, pass.ErrorLog
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	w.url, w.server = server.URL, server
	return w
}

// heard returns all that was said, once nobody has a call any more.
func (w *witness) heard() string {
	w.server.CloseClientConnections()
	w.server.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.String()
}

// keep keeps a body, as it is and without compression.
func (w *witness) keep(t *testing.T, header http.Header, body []byte) {
	w.seen.Write(body)
	plain := func(compressed []byte) {
		w.compressed++
		z, err := gzip.NewReader(bytes.NewReader(compressed))
		if err == nil {
			_, err = w.seen.ReadFrom(z)
		}
		if err != nil {
			t.Errorf("what is compressed on the wire cannot be read: %v", err)
		}
	}
	if header.Get("Content-Encoding") == "gzip" {
		plain(body)
	}
	if strings.HasPrefix(header.Get("Content-Type"), "application/grpc") {
		for len(body) >= 5 {
			n := int(binary.BigEndian.Uint32(body[1:]))
			if len(body) < 5+n {
				return // the call was broken off
			}
			if body[0]&1 != 0 {
				plain(body[5 : 5+n])
			}
			body = body[5+n:]
		}
	}
}

type teeWriter struct {
	http.ResponseWriter
	copy *bytes.Buffer
}

func (w *teeWriter) Write(b []byte) (int, error) {
	w.copy.Write(b)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets the proxy flush.
func (w *teeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Canaries are texts that are nowhere else. A search finds them also within what
// is encoded in base64.
type canaries struct {
	prefix string
	all    []string
	where  map[string]string // what each stands for
}

func newCanaries() *canaries {
	return &canaries{prefix: "canary-" + letters(uuid.NewString()[:8]) + "-", where: map[string]string{}}
}

// letters writes digits as letters that are no digits of any base, because there
// are none in the names of features.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return r - '0' + 'g'
		}
		return r
	}, s)
}

// put returns the canary for a place.
func (c *canaries) put(where string) string {
	text := c.prefix + letters(fmt.Sprintf("%03d", len(c.all)))
	c.all = append(c.all, text)
	c.where[text] = where
	return text
}

// find returns the places whose canaries are in a text. In most texts not even
// their beginning is, which is all that has to be searched for then.
func (c *canaries) find(text []byte) map[string]bool {
	var begins [4]bool
	for i, form := range forms(c.prefix) {
		begins[i] = bytes.Contains(text, []byte(form))
	}
	found := map[string]bool{}
	for _, canary := range c.all {
		own := !strings.HasPrefix(canary, c.prefix)
		for i, form := range forms(canary) {
			if (own || begins[i]) && bytes.Contains(text, []byte(form)) {
				found[c.where[canary]] = true
			}
		}
	}
	return found
}

// forms returns a text as it may stand in another, with what comes before and
// after it encoded as well. Those of a text begin with those of its beginning.
func forms(s string) (forms [4]string) {
	forms[3] = s
	for offset := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + s))
		first, last := (offset*8+5)/6, (offset+len(s))*8/6
		forms[offset] = encoded[first:last]
	}
	return forms
}

// none fails for each canary in a text.
func (c *canaries) none(t *testing.T, what, text string) {
	t.Helper()
	for where := range c.find([]byte(text)) {
		t.Errorf("%s has what was in %s", what, where)
	}
}

// each fails for each canary that is not in a text.
func (c *canaries) each(t *testing.T, what, text string) {
	t.Helper()
	found := c.find([]byte(text))
	for _, where := range c.where {
		if !found[where] {
			t.Errorf("%s does not have what was in %s", what, where)
		}
	}
}

// files returns the content of all files whose paths begin with a prefix.
func files(t *testing.T, prefix string) string {
	t.Helper()
	var all strings.Builder
	n := 0
	dir := prefix
	if info, err := os.Stat(prefix); err != nil || !info.IsDir() {
		dir = filepath.Dir(prefix)
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if entry != nil && entry.Type().IsRegular() && strings.HasPrefix(path, prefix) {
			content, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			n++
			all.Write(content)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files %s: %v", n, prefix, err)
	}
	return all.String()
}

// onlyOurs checks that only its user may read the instance's files.
func onlyOurs(t *testing.T, dir string, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the permissions %v", path, info.Mode())
			}
		}
	}
}

func fetch(t *testing.T, address, path string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
