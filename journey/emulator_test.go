// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
)

// TestPubSub sends events to a gateway that publishes to Google's emulator, and
// pulls them with Google's client: a subscriber gets protojson of what was sent,
// with the attributes that docs/payload.md promises.
func TestPubSub(t *testing.T) {
	host := emulator.Start(t)
	const topic, dead = "projects/journey/topics/events", "projects/journey/topics/events-dead"
	p := newPuller(t, host, topic, dead)
	licence, public := issueLicence(t)
	g := startGateway(t, t.TempDir(), "-license-keys", public, "-topic", "gcppubsub://"+topic, "-deadletter", "gcppubsub://"+dead)

	events := eventMix(t)
	poison := &pb.Event{Id: "poison", Timestamp: timestamppb.Now(), Feature: "codeSearch", Action: "Not An Action"}
	batch := []*record{{sender: "site", id: poison.Id, wire: marshal(poison), poison: true}}
	for _, e := range events {
		batch = append(batch, &record{sender: "site", id: e.Id, wire: marshal(e)})
	}
	s := newSender("site", licence, newLedger(), 1)
	s.ledger.round(1)
	s.kept = batch
	if err := s.send(t.Context(), g.address, false); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range s.ledger.wrong {
		t.Error(wrong)
	}

	got := p.pull(t, topic, len(events))
	for _, e := range events {
		m := got[e.Id]
		if m == nil {
			t.Errorf("event %s was not published", e.Id)
			continue
		}
		var data struct {
			Event  json.RawMessage
			Labels map[string]string
		}
		if err := json.Unmarshal(m.Data, &data); err != nil {
			t.Errorf("event %s: %v", e.Id, err)
			continue
		}
		// Legacy metadata is merged, and the new map wins.
		want := proto.CloneOf(e)
		for key, n := range want.GetParameters().GetLegacyMetadata() {
			if want.Parameters.Metadata == nil {
				want.Parameters.Metadata = map[string]float64{}
			}
			if _, ok := want.Parameters.Metadata[key]; !ok {
				want.Parameters.Metadata[key] = float64(n)
			}
		}
		if want.Parameters != nil {
			want.Parameters.LegacyMetadata = nil
		}
		wantJSON, err := protojson.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parse(t, wantJSON), parse(t, data.Event)); diff != "" {
			t.Errorf("event %s (-sent +pulled):\n%s", e.Id, diff)
		}

		attributes := map[string]string{
			"publisher.source": "licensed_instance", "publisher.id": "site",
			"event.id": e.Id, "event.feature": e.Feature, "event.action": e.Action,
			"event.hasPrivateMetadata": "false", "license.id": m.Attributes["license.id"],
		}
		if e.GetParameters().GetPrivateMetadata() != nil {
			attributes["event.hasPrivateMetadata"] = "true"
		}
		if e.GetParameters().GetMetadata()["recordsPrivateMetadataTranscript"] > 0 {
			attributes["event.recordsPrivateMetadataTranscript"] = "true"
		}
		key := m.Attributes["message.key"]
		delete(m.Attributes, "message.key")
		if diff := cmp.Diff(attributes, m.Attributes); diff != "" || m.Attributes["license.id"] == "" || key == "" {
			t.Errorf("attributes of %s, with key %q (-want +pulled):\n%s", e.Id, key, diff)
		}
		if !maps.Equal(m.Attributes, intersect(data.Labels, m.Attributes)) {
			t.Errorf("event %s has labels %v, but attributes %v", e.Id, data.Labels, m.Attributes)
		}
	}

	letter := p.pull(t, dead, 1)["poison"]
	var data struct{ Event, Reason string }
	if err := json.Unmarshal(letter.GetData(), &data); err != nil {
		t.Fatal(err)
	}
	if data.Event != base64.StdEncoding.EncodeToString(batch[0].wire) || data.Reason != "action_invalid" ||
		letter.Attributes["deadletter.reason"] != "action_invalid" {
		t.Errorf("the dead letter is %v", letter)
	}
}

// eventMix is one event of each shape that is sent.
func eventMix(t testing.TB) []*pb.Event {
	private, err := structpb.NewStruct(map[string]any{
		"query": "a \"quoted\" \\ path\n\x01 <b>&amp;\u2028 🙂", "took": 1.5, "cached": false, "none": nil,
		"nested": map[string]any{"list": []any{1.0, "two", []any{}, map[string]any{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC))
	return []*pb.Event{
		{Id: "minimal", Timestamp: at, Feature: "codeSearch", Action: "executed"},
		{
			Id: "full", Timestamp: at, Feature: "codeSearch.results", Action: "clicked-once",
			Source: &pb.EventSource{
				Server: &pb.EventSource_Server{Version: "6.1.0"},
				Client: &pb.EventSource_Client{Name: "web", Version: proto.String("1.2")},
			},
			Parameters: &pb.EventParameters{
				Version: 2, PrivateMetadata: private,
				LegacyMetadata:  map[string]int64{"old": 7, "both": 1},
				Metadata:        map[string]float64{"both": 2, "ratio": 0.125, "large": 1e21, "recordsPrivateMetadataTranscript": 1},
				BillingMetadata: &pb.EventBillingMetadata{Product: "search", Category: "billable"},
			},
			User:              &pb.EventUser{UserId: proto.Int64(1 << 60), AnonymousUserId: proto.String(""), SamsExternalId: proto.String("s")},
			FeatureFlags:      &pb.EventFeatureFlags{Flags: map[string]string{"new-ui": "true"}},
			MarketingTracking: &pb.EventMarketingTracking{Url: proto.String("https://example.com/?a=1&b=2"), CohortId: proto.String("2026-09")},
			Interaction: &pb.EventInteraction{
				TraceId:     proto.String("0af7651916cd43dd8448eb211c80319c"),
				Geolocation: &pb.EventInteraction_Geolocation{CountryCode: "DE"},
			},
		},
		{Id: "empty messages", Timestamp: at, Feature: "codeSearch", Action: "executed", Parameters: &pb.EventParameters{PrivateMetadata: &structpb.Struct{}}, User: &pb.EventUser{}},
		{Id: "legacy only", Timestamp: at, Feature: "codeSearch", Action: "executed", Parameters: &pb.EventParameters{LegacyMetadata: map[string]int64{"n": -3}}},
		{Id: "ünïcode/%2F", Timestamp: at, Feature: "codeSearch", Action: "executed"},
	}
}

// parse returns JSON as what encoding/json makes of it.
func parse(t testing.TB, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// intersect returns the entries of a whose keys are in b.
func intersect(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for key := range b {
		if v, ok := a[key]; ok {
			out[key] = v
		}
	}
	return out
}

// puller subscribes to topics with Google's client.
type puller struct {
	client *pubsub.SubscriptionAdminClient
}

func newPuller(t *testing.T, host string, topics ...string) *puller {
	t.Helper()
	conn, err := grpc.NewClient(host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	admin, err := pubsub.NewTopicAdminClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	client, err := pubsub.NewSubscriptionAdminClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		if _, err := admin.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscriptionOf(topic), Topic: topic}); err != nil {
			t.Fatal(err)
		}
	}
	return &puller{client}
}

func subscriptionOf(topic string) string {
	return "projects/journey/subscriptions/" + topic[len("projects/journey/topics/"):]
}

// pull returns n messages of a topic, by event ID.
func (p *puller) pull(t *testing.T, topic string, n int) map[string]*pubsubpb.PubsubMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := map[string]*pubsubpb.PubsubMessage{}
	for len(got) < n {
		r, err := p.client.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscriptionOf(topic), MaxMessages: 1000})
		if err != nil {
			t.Fatalf("pulled %d messages of %d: %v", len(got), n, err)
		}
		for _, m := range r.ReceivedMessages {
			got[m.Message.Attributes["event.id"]] = m.Message
		}
	}
	return got
}
