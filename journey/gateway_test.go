// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait. It is far longer than anything takes, so it only
// ever ends what would hang.
const patience = 30 * time.Second

// telemetry is the command under test, built once by TestMain.
var telemetry string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "journey-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		telemetry = filepath.Join(dir, "telemetry")
		build := exec.Command("go", "build", "-o", telemetry, "../cmd/telemetry")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build telemetry: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// run runs a command of the binary to its end.
func run(t testing.TB, dir string, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	return runBinary(t, telemetry, dir, env, args...)
}

func runBinary(t testing.TB, binary, dir string, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(cleanEnv(), env...)
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("%s %s: %v", filepath.Base(binary), strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// cleanEnv is the environment without what would configure a gateway or an
// instance.
func cleanEnv() []string {
	ours := regexp.MustCompile(`^(TELEMETRY_|SRC_TELEMETRY_|OTEL_|(PORT|GOMEMLIMIT|DIAGNOSTICS_SECRET|DO_NOT_TRACK|EXPORT_USAGE_DATA_ENABLED)=)`)
	return slices.DeleteFunc(os.Environ(), ours.MatchString)
}

// process runs telemetry gateway, telemetry instance or telemetry-pipeline.
type process struct {
	cmd     *exec.Cmd
	began   time.Time // just before the process was started
	address string    // for senders
	admin   string
	ended   chan struct{} // closed when the process is gone

	mu    sync.Mutex
	log   []string
	lines chan struct{} // closed and replaced at each line of log
}

// startGateway starts a gateway in dir, on ports of its own, and returns when
// it says that it is ready.
func startGateway(t testing.TB, dir string, flags ...string) *process {
	t.Helper()
	return startGatewayEnv(t, dir, nil, flags...)
}

func startGatewayEnv(t testing.TB, dir string, env []string, flags ...string) *process {
	t.Helper()
	args := []string{"gateway", "-admin", "127.0.0.1:0"}
	if !strings.Contains(strings.Join(env, " "), "PORT=") {
		args = append(args, "-listen", "127.0.0.1:0")
	}
	cmd := exec.Command(telemetry, append(args, flags...)...)
	cmd.Dir, cmd.Env = dir, append(cleanEnv(), env...)
	g := launch(t, cmd, "gateway")
	g.admin = g.await(t, `msg="admin started".* listen=(\S+)`)
	if status, body := g.get(t, "/readyz"); status != http.StatusOK {
		t.Fatalf("/readyz: %d %s", status, body)
	}
	return g
}

// launch starts a gateway or an instance and waits until it says where it
// listens.
func launch(t testing.TB, cmd *exec.Cmd, what string) *process {
	t.Helper()
	g := spawn(t, cmd, what)
	g.address = g.await(t, `msg="`+what+` started".* listen=(\S+)`)
	return g
}

// spawn starts a process, which ends with the test.
func spawn(t testing.TB, cmd *exec.Cmd, what string) *process {
	t.Helper()
	g := &process{cmd: cmd, ended: make(chan struct{}), lines: make(chan struct{})}
	// It must not outlive a test that is cut short.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() {
		// What the kernel takes for the parent is the thread, which is kept for
		// as long as the process runs.
		runtime.LockOSThread()
		g.began = time.Now()
		err := cmd.Start()
		started <- err
		if err == nil {
			g.read(stderr)
			_ = cmd.Wait()
			close(g.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("the end of the %s's log:\n%s", what, g.tail(20))
		}
	})
	return g
}

func (p *process) read(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		close(p.lines)
		p.lines = make(chan struct{})
		p.mu.Unlock()
	}
}

// await waits for a line of the log and returns what the pattern's group
// matched in it.
func (p *process) await(t testing.TB, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern + "()")
	late := time.After(patience)
	for at := 0; ; {
		p.mu.Lock()
		fresh, changed := p.log[at:], p.lines
		at = len(p.log)
		p.mu.Unlock()
		for _, line := range fresh {
			if m := re.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		}
		select {
		case <-changed:
		case <-p.ended:
			t.Fatalf("the gateway ended (%v) before it logged %q:\n%s", p.cmd.ProcessState, pattern, p.tail(20))
		case <-late:
			t.Fatalf("the gateway did not log %q:\n%s", pattern, p.tail(20))
		}
	}
}

// tail returns the last lines of the log.
func (p *process) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log[max(0, len(p.log)-n):], "\n")
}

// kill ends the process as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// signal sends a signal to the process.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits until the process is gone and returns its state.
func (p *process) wait(t testing.TB) *os.ProcessState {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("the gateway does not end:\n%s", p.tail(20))
	}
	return p.cmd.ProcessState
}

func (p *process) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + p.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// status reads a figure from /proc, such as VmRSS, in bytes.
func (p *process) status(t testing.TB, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			var kib int64
			if _, err := fmt.Sscan(v, &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("/proc has no %s", field)
	return 0
}
