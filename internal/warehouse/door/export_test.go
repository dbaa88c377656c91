// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	o := open(t)
	c := dial(t, o.path)
	dir := filepath.Join(t.TempDir(), "new", "out")
	if err := c.Export(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "events", "received_on=2026-01-02", "*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil || !bytes.HasPrefix(content, []byte("PAR1")) || !bytes.HasSuffix(content, []byte("PAR1")) {
		t.Errorf("not a whole Parquet file: %d bytes, %v", len(content), err)
	}
	if left, err := os.ReadDir(filepath.Dir(o.path)); err != nil || len(left) > 4 {
		t.Errorf("left behind at the warehouse: %v, %v", left, err)
	}
	if _, err := os.Stat(o.path + ".export"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was put together is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".partial")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a partial folder is left: %v", err)
	}
	if err := c.Export(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a folder with something in it: %v", err)
	}
}

// archive returns a tar archive of entries.
func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Typeflag == tar.TypeReg {
			e.Size = 4
		}
		if err := w.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if e.Size > 0 {
			if _, err := io.WriteString(w, "evil"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever an archive says, nothing outside of the folder is written.
func TestAnArchiveDoesNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	for name, entries := range map[string][]tar.Header{
		"up":           {file("../evil")},
		"up and down":  {file("events/../../evil")},
		"absolute":     {file(outside + "/evil")},
		"folder up":    {{Typeflag: tar.TypeDir, Name: "../evil"}},
		"symlink":      {{Typeflag: tar.TypeSymlink, Name: "a", Linkname: outside}, file("a/evil")},
		"hard link":    {{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}},
		"device":       {{Typeflag: tar.TypeBlock, Name: "a"}},
		"same twice":   {file("a"), file("a")},
		"file as dir":  {file("a"), file("a/b")},
		"the folder":   {file(".")},
		"without name": {file("")},
	} {
		dir := filepath.Join(t.TempDir(), "base", "in")
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := extract(bytes.NewReader(archive(t, entries...)), dir); err == nil {
			t.Errorf("%s: was extracted", name)
		}
		if names, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(names) != 1 {
			t.Errorf("%s: beside the folder: %v, %v", name, names, err)
		}
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) > 0 {
		t.Errorf("outside: %v, %v", names, err)
	}
}

// An archive that ends in the middle, even between two files, leaves nothing.
func TestAnExportThatIsCutLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "door")
	var k key
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(answerHeader, k.Answer)
		if r.URL.Path == "/export" {
			file := tar.Header{Typeflag: tar.TypeReg, Name: "events/a"}
			_, _ = w.Write(archive(t, file, file)[:1024])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer half.Close()
	k = newKey(half.Listener.Addr().String())
	if err := k.write(path); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := dial(t, path).Export(t.Context(), dir); err == nil {
		t.Error("half of an archive was taken for all of it")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
