// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/json"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// curl runs the real curl, and returns the body and the status.
func curl(t *testing.T, args ...string) (status, body string) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("no curl: install it with “apt-get install curl”")
	}
	out, err := exec.Command(path, append([]string{"-sS", "--max-time", "20", "-w", "\n%{http_code}"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, out)
	}
	text := string(out)
	at := strings.LastIndex(text, "\n")
	return text[at+1:], text[:at]
}

// TestCurl does with nothing but curl what senders behind HTTP/1.1-only proxies,
// probes and operators do.
func TestCurl(t *testing.T) {
	dir := t.TempDir()
	g := startGatewayEnv(t, dir, []string{"DIAGNOSTICS_SECRET=open sesame"})
	senders, admin := "http://"+g.address, "http://"+g.admin

	code, body := curl(t, "-H", "Content-Type: application/json", "-d", `{
		"metadata": {"requestId": "curl", "identifier": {"unlicensedInstance": {"instanceId": "site"}}},
		"events": [
			{"id": "1", "timestamp": "2026-01-02T03:04:05Z", "feature": "codeSearch", "action": "executed"},
			{"id": "2", "timestamp": "2026-01-02T03:04:05Z", "feature": "Not A Feature", "action": "executed"}]}`,
		senders+"/telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch")
	var answer struct {
		SucceededEvents []string
		Verdicts        []struct{ Outcome, Reason string }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != "200" {
		t.Fatalf("batch: %s %s", code, body)
	}
	if !slices.Equal(answer.SucceededEvents, []string{"1", "2"}) || len(answer.Verdicts) != 2 ||
		answer.Verdicts[0].Outcome != "OUTCOME_ACCEPTED" || answer.Verdicts[1].Reason != "feature_invalid" {
		t.Errorf("batch: %s", body)
	}
	for url, want := range map[string]string{"sqlite://" + dir + "/data/topic.db": "1", "sqlite://" + dir + "/data/deadletter.db": "2"} {
		var ids []string
		for line := range readTopic(t, url) {
			ids = append(ids, line.Attributes["event.id"])
		}
		if !slices.Equal(ids, []string{want}) {
			t.Errorf("%s has events %q, want %q", url, ids, want)
		}
	}

	for _, row := range []struct {
		args   []string
		status string
		body   string // part of it
	}{
		{[]string{senders + "/livez"}, "200", "ok"},
		{[]string{senders + "/readyz"}, "200", "ok"},
		{[]string{senders + "/version"}, "200", `"version"`},
		{[]string{senders + "/-/version"}, "200", ""},
		{[]string{senders + "/-/healthz"}, "401", "Authorization: Bearer"},
		{[]string{"-H", "Authorization: Bearer wrong", senders + "/-/healthz"}, "401", ""},
		{[]string{"-H", "Authorization: sesame", senders + "/-/healthz"}, "400", "Authorization: Bearer"},
		{[]string{"-H", "Authorization: Bearer open sesame", senders + "/-/healthz"}, "200", "healthz: ok"},
		{[]string{admin + "/readyz"}, "200", "ok"},
		{[]string{admin + "/metrics"}, "200", "# TYPE"},
		{[]string{admin + "/debug/pprof/goroutine?debug=1"}, "200", "goroutine profile"},
		// What only operators may see is not on the port for senders.
		{[]string{senders + "/metrics"}, "404", ""},
		{[]string{senders + "/debug/pprof/"}, "404", ""},
		{[]string{senders + "/telemetrygateway.v1.TelemetryGatewayService/RecordEventBatch"}, "405", ""},
	} {
		if code, body := curl(t, row.args...); code != row.status || !strings.Contains(body, row.body) {
			t.Errorf("curl %s: %s %q, want %s and %q", strings.Join(row.args, " "), code, body, row.status, row.body)
		}
	}
}

// TestPort lets the environment choose the port, as container platforms do.
func TestPort(t *testing.T) {
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	g := startGatewayEnv(t, t.TempDir(), []string{"PORT=" + port})
	if code, body := curl(t, "http://127.0.0.1:"+port+"/readyz"); code != "200" || !strings.HasSuffix(g.address, ":"+port) {
		t.Errorf("/readyz on port %s: %s %s", port, code, body)
	}
}

// TestPrintConfig shows where each value is from, and no secret.
func TestPrintConfig(t *testing.T) {
	const secret = "open sesame"
	dir := t.TempDir()
	stdout, stderr, exit := run(t, dir, []string{"DIAGNOSTICS_SECRET=" + secret, "PORT=8080", "TELEMETRY_TOPIC=memory:"},
		"gateway", "-unlicensed", "deny", "-print-config")
	if exit != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	if strings.Contains(stdout, secret) {
		t.Errorf("the secret is shown:\n%s", stdout)
	}
	for _, want := range []string{":8080", "PORT", "memory:", "TELEMETRY_TOPIC", "deny", "flag"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
	if left := listing(t, dir); len(left) != 1 {
		t.Errorf("it made files: %q", left)
	}
}

// TestHealthAndReflection asks as grpc-go clients do.
func TestHealthAndReflection(t *testing.T) {
	for _, reflection := range []bool{false, true} {
		var flags []string
		if reflection {
			flags = []string{"-reflection"}
		}
		g := startGateway(t, t.TempDir(), flags...)
		conn, err := grpc.NewClient(g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for service, want := range map[string]codes.Code{
			"": codes.OK, "telemetrygateway.v1.TelemeteryGatewayService": codes.OK,
			"telemetrygateway.v1.TelemetryGatewayService": codes.OK, "unknown": codes.NotFound,
		} {
			r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if status.Code(err) != want || err == nil && r.Status != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("health of %q: %v, %v", service, r, err)
			}
		}

		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		r, err := stream.Recv()
		if !reflection {
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("reflection answers without -reflection: %v, %v", r, err)
			}
			continue
		}
		var names []string
		for _, s := range r.GetListServicesResponse().GetService() {
			names = append(names, s.Name)
		}
		if err != nil || !slices.Contains(names, "telemetrygateway.v1.TelemetryGatewayService") {
			t.Errorf("reflection lists %q, %v", names, err)
		}
	}
}
