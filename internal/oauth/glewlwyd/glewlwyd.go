// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package glewlwyd runs a private OAuth provider for tests and for trying
// things out: Debian's Glewlwyd, which knows nothing of us and so shows whether
// we keep to the standards. It listens on loopback only, keeps everything in one
// folder, and ends with the process that started it, however that ends.
package glewlwyd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	install = "install it with “sudo apt-get install -y glewlwyd”"

	// readyWithin is how long the program may take until it answers. It takes
	// about a tenth of a second on an idle machine.
	readyWithin = time.Minute

	defaultLifetime = time.Hour
)

// Provider is an OAuth provider in a process of its own. Its methods may be
// called at once, except where they say otherwise.
type Provider struct {
	dir     string
	address netip.AddrPort
	apiKey  string
	http    *http.Client

	settings sync.Mutex // held while keys or lifetime change
	keys     []jose.JSONWebKey
	lifetime time.Duration

	mu      sync.Mutex
	program *os.Process   // nil when stopped
	ended   chan struct{} // closed when program has ended
}

// Start starts a provider that has no clients yet, on a free port. What a
// provider before left in dir, which may be missing, is replaced.
func Start(dir string) (*Provider, error) {
	return StartAt(dir, netip.AddrPortFrom(loopback, 0))
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// StartAt is Start on an IPv4 address. Port 0 stands for any free one.
func StartAt(dir string, address netip.AddrPort) (*Provider, error) {
	p, err := start(dir, address)
	if err != nil {
		return nil, fmt.Errorf("start Glewlwyd in %s: %w", dir, err)
	}
	return p, nil
}

func start(dir string, address netip.AddrPort) (*Provider, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if address.Port() == 0 {
		if address, err = freePort(address.Addr()); err != nil {
			return nil, err
		}
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	p := &Provider{
		dir: dir, address: address, apiKey: newAPIKey(), keys: []jose.JSONWebKey{key}, lifetime: defaultLifetime,
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}},
	}
	if err := p.makeDatabase(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.file("glewlwyd.conf"), p.config(), 0o600); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// freePort finds a port below those that the kernel gives to whoever asks for
// any, so that it is still free when the program takes it, and when it is
// started again.
func freePort(a netip.Addr) (netip.AddrPort, error) {
	const low, high = 10_000, 30_000
	var last error
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(high-low))
		if err != nil {
			return netip.AddrPort{}, err
		}
		address := netip.AddrPortFrom(a, uint16(low+n.Int64()))
		l, err := net.Listen("tcp", address.String())
		if err == nil {
			return address, l.Close()
		}
		last = err
	}
	return netip.AddrPort{}, fmt.Errorf("find a free port: %w", last)
}

func (p *Provider) file(name string) string { return filepath.Join(p.dir, name) }

// Start starts a provider that was stopped, with the same address, clients,
// keys and tokens.
func (p *Provider) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program != nil {
		return errors.New("the provider is running already")
	}
	path, err := exec.LookPath("glewlwyd")
	if err != nil {
		return fmt.Errorf("%w: %s", err, install)
	}
	log, err := os.OpenFile(p.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, "--config-file", p.file("glewlwyd.conf"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.Env = []string{} // some variables would override the configuration
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The program gets its signal when the thread that started it ends, so
		// the thread is kept for as long as the program runs.
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
	p.program, p.ended = cmd.Process, ended
	if err := p.awaitReady(); err != nil {
		p.stop()
		written, _ := os.ReadFile(p.file("log"))
		return fmt.Errorf("not ready: %w; its log: %s", err, written[max(0, len(written)-2000):])
	}
	return nil
}

// awaitReady waits until the program answers as only this one does: nobody else
// has the key.
func (p *Provider) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	for {
		err := p.admin(ctx, http.MethodGet, pluginPath, nil)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Stop ends the program as a crash would; calls to it are refused then.
func (p *Provider) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
}

func (p *Provider) stop() {
	if p.program == nil {
		return
	}
	_ = p.program.Kill()
	<-p.ended
	p.program = nil
	p.http.CloseIdleConnections()
}

// Ended is closed when the program has ended, by Stop or by itself.
func (p *Provider) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// Pause makes the program as slow as can be: from when Pause returns it accepts
// connections and answers nothing, until Resume.
func (p *Provider) Pause() error {
	pid, err := p.signal(syscall.SIGSTOP)
	if err != nil {
		return err
	}
	for !stopped(pid) {
		select {
		case <-p.Ended():
			return os.ErrProcessDone
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// stopped reports whether no thread of a process can do anything any more.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		// The state follows the name, which is in brackets.
		b, err := os.ReadFile(t)
		if _, state, _ := bytes.Cut(b, []byte(") ")); err == nil && !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(threads) > 0
}

// Resume lets a paused program go on.
func (p *Provider) Resume() error {
	_, err := p.signal(syscall.SIGCONT)
	return err
}

func (p *Provider) signal(s syscall.Signal) (pid int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program == nil {
		return 0, os.ErrProcessDone
	}
	return p.program.Pid, p.program.Signal(s)
}

// Issuer is what tokens say they are from, and below which the provider
// describes itself.
func (p *Provider) Issuer() string { return p.url(pluginName) }

// TokenURL is where clients get tokens (RFC 6749).
func (p *Provider) TokenURL() string { return p.url(pluginName + "/token") }

// IntrospectionURL is where any client asks about any token (RFC 7662).
func (p *Provider) IntrospectionURL() string { return p.url(pluginName + "/introspect") }

// RevocationURL is where any client revokes any token (RFC 7009).
func (p *Provider) RevocationURL() string { return p.url(pluginName + "/revoke") }

func (p *Provider) url(path string) string {
	return fmt.Sprintf("http://%s/%s/%s", p.address, apiPrefix, path)
}
