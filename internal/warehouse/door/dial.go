// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// ErrStale means that the door's file was left behind by a process that has
// ended. No statement was sent to anybody.
var ErrStale = errors.New("nobody is behind the door: the process that opened it has ended")

// dialTimeout is how long a process on this machine may take to say that it is
// there.
const dialTimeout = 5 * time.Second

// Client reads from a warehouse that another process has open.
type Client struct {
	key  key
	http http.Client
}

var _ warehouse.Exporter = (*Client)(nil)

// Dial returns a reader from the process whose door's file is at path. The
// error is fs.ErrNotExist without such a file, and ErrStale if it is left over;
// in both cases the warehouse is not open in a process that has a door.
func Dial(ctx context.Context, path string) (*Client, error) {
	k, err := readKey(path)
	if err != nil {
		return nil, err
	}
	c := &Client{key: k, http: http.Client{
		// No proxy, whatever the environment says, and no redirects.
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	bound, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	response, err := c.post(bound, "/ping", "")
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return c, response.Body.Close()
}

// post asks. The response it returns is from the process that wrote the file,
// and has status 2xx.
func (c *Client) post(ctx context.Context, action, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.key.Address+action, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.key.Token)
	response, err := c.http.Do(request)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrStale
	case err != nil:
		return nil, fmt.Errorf("ask the process that has the warehouse open: %w", err)
	}
	if response.Header.Get(answerHeader) != c.key.Answer {
		response.Body.Close()
		return nil, ErrStale // somebody else has its port by now
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxStatementBytes))
	if err != nil {
		return nil, err
	}
	return nil, errors.New(strings.TrimSpace(string(text)))
}

// Close does nothing: between calls a client holds nothing.
func (c *Client) Close() error { return nil }

// Query runs a statement in the other process. It ends there when ctx does, or
// when the rows are closed.
func (c *Client) Query(ctx context.Context, sql string) (warehouse.Rows, error) {
	response, err := c.post(ctx, "/query", sql)
	if err != nil {
		return nil, err
	}
	r := &rows{ctx: ctx, body: response.Body, r: reader{bufio.NewReader(response.Body)}}
	if err := r.begin(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// rows are the rows of a statement that runs in another process.
type rows struct {
	ctx     context.Context
	body    io.Closer
	r       reader
	columns []string
	err     error // what Next returns from now on
}

// begin reads what comes before the first row.
func (r *rows) begin() error {
	tag, err := r.r.ReadByte()
	if err == nil && tag != frameColumns {
		err = errors.New("there are no columns")
	}
	if err == nil {
		r.columns, err = r.r.columns()
	}
	if err != nil {
		return r.cut(err)
	}
	return nil
}

func (r *rows) Columns() []string { return r.columns }

func (r *rows) Close() error { return r.body.Close() }

func (r *rows) Next() ([]any, error) {
	if r.err != nil {
		return nil, r.err
	}
	row, err := r.next()
	r.err = err
	return row, err
}

func (r *rows) next() ([]any, error) {
	tag, err := r.r.ReadByte()
	if err != nil {
		return nil, r.cut(err)
	}
	switch tag {
	case frameRow:
		row, err := r.r.row(len(r.columns))
		if err != nil {
			return nil, r.cut(err)
		}
		return row, nil
	case frameEnd:
		return nil, io.EOF
	case frameError:
		text, err := r.r.text()
		if err != nil {
			return nil, r.cut(err)
		}
		return nil, errors.New(string(text))
	}
	return nil, r.cut(fmt.Errorf("a frame begins with %q, which no frame does", tag))
}

// cut returns the error for an answer that cannot be read to its end.
func (r *rows) cut(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the rows end early: %w", err)
}

// Export writes the warehouse as Parquet files into dir, which must be empty or
// not be there. The other process writes nothing outside of the warehouse's own
// folder: the files come as an archive and are written here.
func (c *Client) Export(ctx context.Context, dir string) error {
	if entries, err := os.ReadDir(dir); len(entries) > 0 {
		return fmt.Errorf("export: %s is not empty; name a folder that is", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("export: %w", err)
	}
	response, err := c.post(ctx, "/export", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := unpack(response.Body, dir); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// unpack writes an archive into dir: what is in it appears whole or not at all.
func unpack(archive io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	partial := filepath.Join(dir, ".partial")
	if err := extract(archive, partial); err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	entries, err := os.ReadDir(partial)
	for _, e := range entries {
		err = errors.Join(err, os.Rename(filepath.Join(partial, e.Name()), filepath.Join(dir, e.Name())))
	}
	return errors.Join(err, os.Remove(partial))
}

// extract writes an archive of plain files and folders into a new folder. No
// entry can lead out of it: os.Root sees to that whatever its name is.
func extract(archive io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(archive); ; {
		entry, err := t.Next()
		if errors.Is(err, io.EOF) {
			// What follows the archive's end is read for the connection's own.
			_, err = io.Copy(io.Discard, archive)
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean(entry.Name)
		switch entry.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case tar.TypeReg:
			if err = root.MkdirAll(path.Dir(name), 0o700); err == nil {
				err = write(root, name, t)
			}
		default:
			err = fmt.Errorf("%s is neither a file nor a folder", name)
		}
		if err != nil {
			return err
		}
	}
}

func write(root *os.Root, name string, content io.Reader) error {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}
