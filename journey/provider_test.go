// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/oauth/glewlwyd"
)

const (
	writeScope = "telemetry_gateway::events::write"
	// ourAudience is whom tokens for the gateways under test are for.
	ourAudience = "https://telemetry.example.com"
	recordOne   = "/telemetrygateway.v1.TelemeteryGatewayService/RecordEvent"
)

// An authority is a real OAuth provider. It remembers all secrets and tokens
// that it hands out, none of which may be seen again.
type authority struct {
	*glewlwyd.Provider
	secrets *canaries
	gateway glewlwyd.Client
}

func startAuthority(t *testing.T) *authority {
	t.Helper()
	p, err := glewlwyd.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	a := &authority{Provider: p, secrets: newCanaries()}
	a.gateway = a.client(t, "gateway", "")
	return a
}

// client makes a new client known.
func (a *authority) client(t *testing.T, id, audience string, scopes ...string) glewlwyd.Client {
	t.Helper()
	c := glewlwyd.Client{ID: id, Secret: a.secrets.put("the secret of " + id), Scopes: scopes, Audience: audience}
	if err := a.AddClient(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// service makes a client known that may send to the gateways under test.
func (a *authority) service(t *testing.T, id string) glewlwyd.Client {
	t.Helper()
	return a.client(t, id, ourAudience, writeScope)
}

// token gets a new token.
func (a *authority) token(t *testing.T, c glewlwyd.Client) string {
	t.Helper()
	token, err := a.Token(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	// The payload and the signature; the header has nothing secret.
	for _, part := range strings.Split(token, ".")[1:] {
		a.secrets.all = append(a.secrets.all, part)
		a.secrets.where[part] = "a token of " + c.ID
	}
	return token
}

func secretFile(t *testing.T, c glewlwyd.Client) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), c.ID+".secret")
	if err := os.WriteFile(file, []byte(c.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// introspection are the flags of a gateway that asks the provider about tokens
// at a URL, and signatures those of one that checks their signatures.
func (a *authority) introspection(t *testing.T, url string) []string {
	t.Helper()
	return []string{
		"-oauth-audience", ourAudience, "-oauth-introspection-url", url,
		"-oauth-client-id", a.gateway.ID, "-oauth-client-secret-file", secretFile(t, a.gateway),
	}
}

func (a *authority) signatures() []string {
	return []string{"-oauth-audience", ourAudience, "-oauth-issuer", a.Issuer()}
}

// keptSecret checks that a gateway that runs in dir has let none of the secrets
// and tokens out.
func (a *authority) keptSecret(t *testing.T, g *process, dir string) {
	t.Helper()
	a.secrets.none(t, "the gateway's log", g.tail(1<<20))
	a.secrets.none(t, "the gateway's metrics", fetch(t, g.admin, "/metrics"))
	a.secrets.none(t, "a file of the gateway", files(t, filepath.Join(dir, "data")))
}

// A service is a managed service that calls a gateway.
type service struct {
	id, environment string
	token           string // none is sent if it is empty
	address         string // of the gateway
}

func (s *service) identify() *pb.RecordEventsRequestMetadata {
	id := &pb.Identifier_ManagedServiceIdentifier{ServiceId: s.id}
	if s.environment != "" {
		id.ServiceEnvironment = &s.environment
	}
	return &pb.RecordEventsRequestMetadata{RequestId: "journey", Identifier: &pb.Identifier{
		Identifier: &pb.Identifier_ManagedService{ManagedService: id},
	}}
}

func (s *service) authorize(ctx context.Context) context.Context {
	if s.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
}

func anEvent(id string) *pb.Event {
	return &pb.Event{Id: id, Timestamp: timestamppb.Now(), Feature: "codeSearch", Action: "executed"}
}

// unary sends one event in a call of its own, and returns nil if it was accepted.
func (s *service) unary(t *testing.T, eventID string) error {
	t.Helper()
	conn, err := dial(s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.authorize(t.Context()), patience)
	defer cancel()
	var response []byte
	return conn.Invoke(ctx, recordOne, marshal(&pb.RecordEventRequest{Metadata: s.identify(), Event: anEvent(eventID)}), &response)
}

// A serviceStream sends one event at a time.
type serviceStream struct {
	grpc.ClientStream
}

// open opens a stream, which the end of the test or of the stream closes.
func (s *service) open(t *testing.T) *serviceStream {
	t.Helper()
	conn, err := dial(s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := openStream(s.authorize(t.Context()), conn)
	if err != nil {
		t.Fatal(err)
	}
	// If the gateway has ended the stream, what is received says why.
	_ = stream.SendMsg(marshal(&pb.RecordEventsRequest{Payload: &pb.RecordEventsRequest_Metadata{Metadata: s.identify()}}))
	return &serviceStream{stream}
}

// send sends an event and returns nil if it was accepted. It fails the test if
// there is neither an answer nor an end of the stream.
func (s *serviceStream) send(t *testing.T, eventID string) error {
	t.Helper()
	answered := make(chan error, 1)
	go func() {
		_ = s.SendMsg(frame([]*record{{wire: marshal(anEvent(eventID))}}))
		var response pb.RecordEventsResponse
		err := receive(s, &response)
		if err == nil && (len(response.Verdicts) != 1 || response.Verdicts[0].Outcome != pb.EventVerdict_OUTCOME_ACCEPTED) {
			err = fmt.Errorf("the gateway's verdicts are %v", response.Verdicts)
		}
		answered <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		t.Fatalf("a stream hangs: no answer within %v", patience)
		return nil
	}
}

// try sends one event over a stream and one in a call of its own, and returns
// the code of both.
func (s *service) try(t *testing.T, eventID string) codes.Code {
	t.Helper()
	stream, unary := s.open(t).send(t, eventID+"/stream"), s.unary(t, eventID+"/unary")
	if status.Code(stream) != status.Code(unary) {
		t.Errorf("%s: a stream ends with %v, but a unary call with %v", eventID, stream, unary)
	}
	return status.Code(stream)
}

func (s service) with(token string) *service {
	s.token = token
	return &s
}

// TestServices has services with every kind of token call gateways that prove
// tokens in each of the ways there are.
func TestServices(t *testing.T) {
	t.Parallel()
	a, other := startAuthority(t), startAuthority(t)
	pings, pongs := a.service(t, "pings"), a.service(t, "pongs")
	reader := a.client(t, "reader", ourAudience, "telemetry_gateway::events::read", "telemetry_gateway::event::write")
	elsewhere := a.client(t, "elsewhere", "https://elsewhere.example.com", writeScope)
	// Each client may send as pings, so that it is the token that keeps it out.
	mapping := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(mapping, []byte(`services:
  - {client: pings, service: pings, environments: [prod, dev]}
  - {client: reader, service: pings, environments: ["*"]}
  - {client: elsewhere, service: pings, environments: ["*"]}
  - {client: pongs, service: pongs, environments: ["*"]}
`), 0o600); err != nil {
		t.Fatal(err)
	}

	good := a.token(t, pings)
	revoked := a.token(t, pings)
	if err := a.Revoke(t.Context(), pings, revoked); err != nil {
		t.Fatal(err)
	}
	forged := good[:len(good)-20] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, good[len(good)-20:])
	rows := []struct {
		name, environment, token string
		want                     codes.Code
	}{
		{"good", "prod", good, codes.OK},
		{"good without an environment", "", good, codes.OK},
		{"of an environment that is not its own", "staging", good, codes.PermissionDenied},
		{"of another service", "prod", a.token(t, pongs), codes.PermissionDenied},
		{"without the scope", "prod", a.token(t, reader), codes.PermissionDenied},
		{"for another audience", "prod", a.token(t, elsewhere), codes.PermissionDenied},
		{"revoked", "prod", revoked, codes.Unauthenticated},
		{"forged", "prod", forged, codes.Unauthenticated},
		{"of another provider", "prod", other.token(t, other.service(t, "pings")), codes.Unauthenticated},
		{"no token", "prod", "nonsense", codes.Unauthenticated},
		{"missing", "prod", "", codes.Unauthenticated},
	}
	for mode, flags := range map[string][]string{
		"introspection": a.introspection(t, a.IntrospectionURL()),
		"signatures":    a.signatures(),
		"both":          append(a.introspection(t, a.IntrospectionURL()), a.signatures()...),
	} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			g := startGateway(t, dir, append(flags, "-services", mapping)...)
			want := map[string]bool{}
			for _, row := range rows {
				if mode == "signatures" && row.name == "revoked" {
					row.want = codes.OK // only who asks the provider learns of it
				}
				s := &service{id: "pings", environment: row.environment, token: row.token, address: g.address}
				if got := s.try(t, row.name); got != row.want {
					t.Errorf("a token that is %s: %v, want %v", row.name, got, row.want)
				}
				if row.want == codes.OK {
					want[row.name+"/stream"], want[row.name+"/unary"] = true, true
				}
			}
			for line := range readTopic(t, "sqlite://"+filepath.Join(dir, "data/topic.db")) {
				id := line.Data.Event.ID
				if !want[id] || line.Attributes["publisher.id"] != "pings" {
					t.Errorf("event %s of %q is published", id, line.Attributes["publisher.id"])
				}
				delete(want, id)
			}
			if len(want) > 0 {
				t.Errorf("not published: %v", slices.Collect(maps.Keys(want)))
			}
			a.keptSecret(t, g, dir)
			other.keptSecret(t, g, dir)
		})
	}
}

// TestSendAsService sends with the command, which gets its tokens itself.
func TestSendAsService(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	pings := a.service(t, "pings")
	dir := t.TempDir()
	g := startGateway(t, dir, append(a.introspection(t, a.IntrospectionURL()), a.signatures()...)...)
	send := func(c glewlwyd.Client, service string) (stdout, stderr string, exit int) {
		return run(t, dir, nil, "send", "-count", "30", "-batch", "10", "-gateway", "http://"+g.address, "-service", service, "-environment", "prod",
			"-token-url", a.TokenURL(), "-client-id", c.ID, "-client-secret-file", secretFile(t, c), "-audience", ourAudience)
	}
	stdout, stderr, exit := send(pings, "pings")
	var summary struct{ Sent, Accepted int }
	if err := json.Unmarshal([]byte(stdout), &summary); err != nil || exit != 0 || summary.Sent != 30 || summary.Accepted != 30 {
		t.Errorf("telemetry send: exit %d: %s%s", exit, stdout, stderr)
	}
	for name, c := range map[string]glewlwyd.Client{
		"a wrong secret":   {ID: pings.ID, Secret: a.secrets.put("a wrong secret")},
		"another's client": a.service(t, "pongs"),
		"another scope":    a.client(t, "reader", ourAudience, "telemetry_gateway::events::read"),
	} {
		stdout, stderr, exit := send(c, "pings")
		if exit != 1 {
			t.Errorf("telemetry send with %s: exit %d: %s%s", name, exit, stdout, stderr)
		}
		a.secrets.none(t, "what telemetry send prints", stdout+stderr)
	}
	n := 0
	for line := range readTopic(t, "sqlite://"+filepath.Join(dir, "data/topic.db")) {
		if n++; line.Attributes["publisher.id"] != "pings" {
			t.Errorf("an event of %q is published", line.Attributes["publisher.id"])
		}
	}
	if n != 30 {
		t.Errorf("%d events are published, want 30", n)
	}
	a.keptSecret(t, g, dir)
}
