// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// processPatience is how long a process may take to start, to land what it has,
// or to stop. It takes a fraction of a second.
const processPatience = time.Minute

// processes are those that a story has started.
type processes struct {
	t    testscript.T
	stop map[string]func() // by name
}

// processesKey is what a story keeps its processes under.
type processesKey struct{}

var listening = regexp.MustCompile(`msg="admin started" listen=(\S+)`)

// storyPipeline is the command "pipeline NAME [flags]" of stories: it starts
// telemetry-pipeline run as a process of its own, its admin address at a free
// port whose URL is put into $NAME, and its log in NAME.log. The process is
// stopped when the story ends.
func storyPipeline(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: pipeline NAME [flags]")
	}
	name := args[0]
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	cmd := exec.Command(filepath.Join(bin, "telemetry-pipeline"), append([]string{"run", "-admin", "127.0.0.1:0"}, args[1:]...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	file, err := os.Create(ts.MkAbs(name + ".log"))
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
			running.t.Fatal(fmt.Sprintf("%s did not stop:\n%s", name, log)) // ts.Fatalf is for the story's own lines
		}
	}
	ts.Defer(stop)
	late := time.AfterFunc(processPatience, abort)
	address, log := listeningAt(r)
	if !late.Stop() || address == "" {
		ts.Fatalf("%s did not start:\n%s", name, log)
	}
	ts.Setenv(name, "http://"+address)
	running.stop[name] = stop
}

// listeningAt reads a log until it says where the process listens. The rest is
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

// storyEnd is the command "end NAME" of stories. It returns when the process has
// ended.
func storyEnd(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Value(processesKey{}).(processes).stop[name]()
	}
}

// storyUntil is the command "until REGEXP COMMAND [ARG]..." of stories: it runs
// telemetry-pipeline, or gets a URL with "get URL", again and again until the
// output matches.
func storyUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until REGEXP telemetry-pipeline ARG... | until REGEXP get URL")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(filepath.ListSeparator))
	for begun := time.Now(); ; {
		var out []byte
		if args[1] == "get" {
			out = get(args[2])
		} else {
			cmd := exec.Command(filepath.Join(bin, args[1]), args[2:]...)
			cmd.Dir = ts.MkAbs(".")
			cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "GOCOVERDIR=" + ts.Getenv("GOCOVERDIR")}
			out, _ = cmd.CombinedOutput()
		}
		if want.Match(out) {
			return
		}
		if time.Since(begun) > processPatience {
			ts.Fatalf("%s does not print %s, but\n%s", strings.Join(args[1:], " "), args[0], out)
		}
	}
}

// get returns a response's status and body, or the error.
func get(url string) []byte {
	response, err := (&http.Client{Timeout: processPatience}).Get(url)
	if err != nil {
		return []byte(err.Error())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return []byte(err.Error())
	}
	return append([]byte(response.Status+"\n"), body...)
}

// receivedAt is when a gateway has received what stories publish.
var receivedAt = time.Date(2026, 1, 2, 15, 4, 6, 0, time.UTC)

// storyPublish is the command "publish URL SITE FILE" of stories: it publishes
// the events in FILE, one line of JSON each, as a gateway does that has received
// them from the unlicensed instance SITE. A line that is no event is published
// as it is.
func storyPublish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: publish URL SITE FILE")
	}
	sender := payload.Sender{Source: "unlicensed_instance", ID: args[1], Identity: "unlicensed/" + args[1], Trust: "unlicensed"}
	e, err := payload.NewEncoder(&telemetrygatewayv1.RecordEventsRequestMetadata{
		Identifier: &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{InstanceId: args[1]},
		}},
	}, sender, payload.KeyFingerprint)
	ts.Check(err)
	var messages []topic.Message
	for _, line := range bytes.Split(bytes.TrimSpace([]byte(ts.ReadFile(args[2]))), []byte("\n")) {
		var event telemetrygatewayv1.Event
		if protojson.Unmarshal(line, &event) != nil {
			messages = append(messages, topic.Message{Key: "unlicensed/" + args[1] + "/?", Data: line})
			continue
		}
		wire, err := proto.Marshal(&event)
		ts.Check(err)
		data, labels, v := e.Append(nil, wire, receivedAt)
		if v != nil {
			ts.Fatalf("%s: %v", line, v)
		}
		messages = append(messages, topic.Message{Key: labels.Key, Data: data, Attributes: labels.Attributes})
	}
	url := strings.Replace(args[0], "://", "://"+ts.MkAbs(".")+"/", 1)
	t, err := topic.Open(context.Background(), url, slog.New(slog.DiscardHandler))
	ts.Check(err)
	defer t.Close()
	for _, err := range t.Publish(context.Background(), messages) {
		ts.Check(err)
	}
}
