// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

// storyGateway is the command "gateway [flags]" of stories: it starts telemetry
// gateway as a process of its own, at a free port, waits until it takes events
// and puts its URL into $GATEWAY. The process is stopped when the story ends.
func storyGateway(ts *testscript.TestScript, neg bool, args []string) {
	startProcess(ts, neg, "gateway", args)
}

// storyInstance is the command "instance [flags]" of stories: the same for
// telemetry instance and $INSTANCE.
func storyInstance(ts *testscript.TestScript, neg bool, args []string) {
	startProcess(ts, neg, "instance", args)
}

// storyProvider is the command "provider" of stories: it starts an OAuth
// provider and puts the URLs of its parts into $ISSUER, $INTROSPECTION_URL and
// $TOKEN_URL. It has three clients: gateway, which may introspect; pings, which
// may send events; and reader, which may not. The secret of each is in a file,
// such as pings.secret.
func storyProvider(ts *testscript.TestScript, _ bool, _ []string) {
	p, err := glewlwyd.Start(ts.MkAbs("provider"))
	ts.Check(err)
	ts.Defer(p.Stop)
	for client, scope := range map[string]string{"gateway": "", "pings": identity.DefaultScope, "reader": "telemetry_gateway::events::read"} {
		c := glewlwyd.Client{ID: client, Secret: rand.Text()}
		if scope != "" {
			c.Scopes = []string{scope}
		}
		ts.Check(p.AddClient(c))
		ts.Check(os.WriteFile(ts.MkAbs(client+".secret"), []byte(c.Secret+"\n"), 0o600))
	}
	ts.Setenv("ISSUER", p.Issuer())
	ts.Setenv("INTROSPECTION_URL", p.IntrospectionURL())
	ts.Setenv("TOKEN_URL", p.TokenURL())
	ts.Value(processesKey{}).(processes).stop["provider"] = p.Stop
}

// processes are those that a story has started.
type processes struct {
	t    testscript.T
	stop map[string]func() // by command
}

// processPatience is how long a server may take to start, to answer or to stop.
// It takes a fraction of a second.
const processPatience = time.Minute

// processesKey is what a story keeps its processes under.
type processesKey struct{}

// startProcess starts a server. Its log is in gateway.log or instance.log.
func startProcess(ts *testscript.TestScript, neg bool, command string, args []string) {
	if neg {
		ts.Fatalf("%[1]s cannot be negated: use ! exec telemetry %[1]s", command)
	}
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	cmd := exec.Command(filepath.Join(bin, "telemetry"),
		append([]string{command, "-listen", "127.0.0.1:0", "-admin", ""}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "DO_NOT_TRACK"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	file, err := os.Create(ts.MkAbs(command + ".log"))
	ts.Check(err)
	r, w := io.Pipe()
	cmd.Stderr = io.MultiWriter(file, w)
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		w.Close() // one that ends by itself never says where it listens
		file.Close()
	}()
	// One that is late is ended, and its log says what it was waiting for.
	abort := func() { _ = cmd.Process.Signal(syscall.SIGABRT) }
	running := ts.Value(processesKey{}).(processes)
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(processPatience, abort)
		<-ended
		if !late.Stop() {
			log, _ := os.ReadFile(file.Name())
			running.t.Fatal(fmt.Sprintf("the %s did not stop:\n%s", command, log)) // ts.Fatalf is for the story's own lines
		}
	}
	ts.Defer(stop)
	late := time.AfterFunc(processPatience, abort)
	address, log := listeningAt(r)
	if !late.Stop() || address == "" {
		ts.Fatalf("the %s did not start:\n%s", command, log)
	}
	ts.Setenv(strings.ToUpper(command), "http://"+address)
	running.stop[command] = stop
}

// storyEnd is the command "end gateway|instance|provider" of stories. It returns when
// the process has ended.
func storyEnd(ts *testscript.TestScript, _ bool, args []string) {
	for _, command := range args {
		ts.Value(processesKey{}).(processes).stop[command]()
	}
}

// storyPost is the command "post URL FILE [HEADER]..." of stories: it posts a
// file as JSON, and prints the response with status and headers.
func storyPost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: post URL FILE [HEADER]...")
	}
	r, err := http.NewRequest(http.MethodPost, args[0], strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	for _, h := range args[2:] {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	response, err := (&http.Client{Timeout: processPatience}).Do(r)
	ts.Check(err)
	defer response.Body.Close()
	fmt.Fprintln(ts.Stdout(), response.Status)
	ts.Check(response.Header.Write(ts.Stdout()))
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout())
}

// listeningAt reads a server's log until it says where it listens. The rest is
// read and thrown away in the background.
func listeningAt(r io.Reader) (address, log string) {
	var b strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&b, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return address, b.String()
}
