// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package emulator runs Google's own Pub/Sub emulator for tests.
package emulator

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const install = "install it with “gcloud components install pubsub-emulator”, or on Debian, with Google's repository (https://cloud.google.com/sdk/docs/install#deb), " +
	"“apt-get install google-cloud-cli google-cloud-cli-pubsub-emulator default-jre-headless”; or set PUBSUB_EMULATOR_JAR to its jar"

// Start returns the host and port of the emulator, and points Pub/Sub clients
// in this process at it for the rest of the test, which cannot be parallel. All
// tests of a process share one emulator, which starts with the first and ends
// with the process, so each test must use names of its own. It fails the test if
// there is no emulator.
func Start(t testing.TB) string {
	t.Helper()
	host := Host(t)
	t.Setenv("PUBSUB_EMULATOR_HOST", host)
	return host
}

// Host is Start for tests whose Pub/Sub clients are all in other processes.
func Host(t testing.TB) string {
	t.Helper()
	host, err := shared()
	if err != nil {
		t.Fatalf("start the Pub/Sub emulator: %v", err)
	}
	return host
}

// One for all tests: it takes a second of two processors and 200 MB.
var shared = sync.OnceValues(func() (string, error) {
	jar, err := findJar()
	if err != nil {
		return "", err
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("no java: %s", install)
	}
	// The emulator does not tell which port it got when asked for any, so it
	// is given one that was free a moment ago.
	for range 5 {
		var host string
		if host, err = run(java, jar); !errors.Is(err, errPortTaken) {
			return host, err
		}
	}
	return "", err
})

func findJar() (string, error) {
	if jar := os.Getenv("PUBSUB_EMULATOR_JAR"); jar != "" {
		_, err := os.Stat(jar)
		return jar, err
	}
	root, err := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	if err != nil {
		return "", fmt.Errorf("ask gcloud where it is installed: %w: %s", err, install)
	}
	pattern := filepath.Join(strings.TrimSpace(string(root)), "platform", "pubsub-emulator", "lib", "*.jar")
	jars, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(jars) == 0 {
		return "", fmt.Errorf("no %s: %s", pattern, install)
	}
	return jars[0], nil
}

var errPortTaken = errors.New("another process took the port")

func run(java, jar string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	host, port := l.Addr().String(), l.Addr().(*net.TCPAddr).Port
	l.Close()

	output, stderr := io.Pipe()
	cmd := exec.Command(java, "-Xmx512m", "-jar", jar, "--host=127.0.0.1", "--port="+strconv.Itoa(port))
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The emulator dies with the thread that started it, so the thread is
		// kept for as long as the emulator runs.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			stderr.CloseWithError(fmt.Errorf("it ended: %w", cmp.Or(cmd.Wait(), errors.New("with status 0"))))
		}
	}()
	if err := <-started; err != nil {
		return "", err
	}

	ready := make(chan error, 1)
	go func() {
		ready <- awaitReady(output)
		io.Copy(io.Discard, output)
	}()
	select {
	case err = <-ready:
	case <-time.After(time.Minute):
		err = errors.New("not ready after a minute")
	}
	if err != nil {
		cmd.Process.Kill()
		return "", err
	}
	return host, nil
}

func awaitReady(output io.Reader) error {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.Contains(line, "Server started, listening on"):
			return nil
		case strings.Contains(line, "BindException"):
			return errPortTaken // it would not end by itself
		}
	}
	return lines.Err()
}
