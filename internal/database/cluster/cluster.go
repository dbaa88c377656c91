// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a private PostgreSQL for tests and benchmarks, durable
// like a real one, reachable only through a socket in its own folder. It ends
// with the process that started it, however that ends.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	binaries = "/usr/lib/postgresql/15/bin"
	install  = "install PostgreSQL 15 with “sudo apt-get install -y postgresql-15”"

	// socketBytes is the longest path that a Unix socket can have on Linux.
	socketBytes = 107
	socketName  = ".s.PGSQL.5432"

	// readyWithin is how long a server may take to accept connections, which
	// after a crash includes reading its log.
	readyWithin = time.Minute
)

// Cluster is a running PostgreSQL server. Its methods may be called at once.
type Cluster struct {
	dir    string
	socket string // the folder of the server's socket
	owned  bool   // Stop removes dir
	as     *syscall.Credential

	mu     sync.Mutex
	server *os.Process   // nil when stopped
	ended  chan struct{} // closed when server has ended
}

// Start makes a new cluster in dir and starts it. With dir empty, it makes a
// folder that Stop removes. PostgreSQL refuses to run as root, so root runs it
// as the user postgres, who must be able to reach dir.
//
// What the server writes is durable, but to start faster the cluster itself is
// not until the next sync of the file system: a test that cuts the power syncs
// it first.
func Start(dir string) (_ *Cluster, err error) {
	if _, err := os.Stat(filepath.Join(binaries, "initdb")); err != nil {
		return nil, fmt.Errorf("find PostgreSQL: %w: %s", err, install)
	}
	c := &Cluster{dir: dir}
	if os.Geteuid() == 0 {
		if c.as, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	if dir == "" {
		c.owned = true
		if c.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start PostgreSQL in %s: %w", c.dir, err), c.Stop())
		}
	}()
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, err
	}
	if err := c.makeDirs(); err != nil {
		return nil, err
	}
	initdb := c.command("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync", "--pgdata="+c.data())
	if out, err := initdb.CombinedOutput(); errors.Is(err, fs.ErrPermission) && c.as != nil {
		return nil, fmt.Errorf("%w: the user postgres must be able to reach the folder, so it cannot be one of testing.T.TempDir", err)
	} else if err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return c, c.start()
}

// unprivileged returns the user and group postgres.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find whom to run PostgreSQL as: %w: %s", err, install)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (c *Cluster) makeDirs() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.socket = c.dir
	if len(filepath.Join(c.dir, socketName)) > socketBytes {
		var err error
		if c.socket, err = os.MkdirTemp("/tmp", "postgres-"); err != nil {
			return err
		}
	}
	if c.as == nil {
		return nil
	}
	for _, dir := range []string{c.dir, c.socket} {
		if err := os.Chown(dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }
func (c *Cluster) log() string  { return filepath.Join(c.dir, "log") }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binaries, name), args...)
	cmd.Dir = c.dir
	// SIGQUIT, so that the server takes its own processes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// start runs the server and waits until it accepts connections.
func (c *Cluster) start() error {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.command("postgres", "-D", c.data(), "-k", c.socket, "-c", "listen_addresses=")
	cmd.Stdout, cmd.Stderr = log, log
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The server gets its signal when the thread that started it ends, so
		// the thread is kept for as long as the server runs.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.server, c.ended = cmd.Process, ended
	return c.awaitReady()
}

func (c *Cluster) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.ended:
			c.server = nil
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(c.log())
		return fmt.Errorf("not ready: %w; its log: %s", err, log[max(0, len(log)-2000):])
	}
}

// URL is how to connect to a database as its superuser. A new cluster has the
// database “postgres”.
func (c *Cluster) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: url.Values{"host": {c.socket}}.Encode()}
	return u.String()
}

// Dir is the folder of everything that the cluster has on disk.
func (c *Cluster) Dir() string { return c.dir }

// CreateDatabase makes an empty database.
func (c *Cluster) CreateDatabase(name string) error {
	return c.execute("CREATE DATABASE " + pgx.Identifier{name}.Sanitize())
}

func (c *Cluster) execute(statement string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Restart stops the server, in the mode “fast”, which ends transactions, or
// “immediate”, which is a crash, and starts it again.
func (c *Cluster) Restart(mode string) error {
	signal, ok := map[string]os.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok {
		return fmt.Errorf("restart PostgreSQL: mode is %q, want fast or immediate", mode)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.stop(signal); err != nil {
		return err
	}
	return c.start()
}

// Stop ends the server. It leaves a folder that was given to Start.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.stop(syscall.SIGINT)
	if c.socket != "" && c.socket != c.dir {
		err = errors.Join(err, os.RemoveAll(c.socket))
	}
	if c.owned {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

func (c *Cluster) stop(signal os.Signal) error {
	if c.server == nil {
		return nil
	}
	if err := c.server.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	<-c.ended
	c.server = nil
	return nil
}
