// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// InvalidEvents are the events of one call that break a rule and were not
// recorded, in the order of the call. All others were, unless the call's error
// holds another one as well.
type InvalidEvents []InvalidEvent

// InvalidEvent says which rule an event breaks. It never quotes the event.
type InvalidEvent struct {
	// Index is the event's place in the call, from 0.
	Index int
	// Reason is a code such as "feature_invalid". docs/payload.md has them all.
	Reason string
	// Field is the path of the field, such as "parameters.private_metadata". It
	// is empty when the event as a whole is meant.
	Field string
	// Message explains the reason to a person.
	Message string
}

// Error names the first event and says how many there are.
func (v InvalidEvents) Error() string {
	switch len(v) {
	case 0:
		return "no invalid events"
	case 1:
		return v[0].String()
	}
	return fmt.Sprintf("%d invalid events, the first is %v", len(v), v[0])
}

// String is the whole of v in one line.
func (v InvalidEvent) String() string {
	return fmt.Sprintf("event %d: %v", v.Index, &limits.Violation{Reason: v.Reason, Field: v.Field, Message: v.Message})
}

func invalidEvent(index int, v *limits.Violation) InvalidEvent {
	return InvalidEvent{Index: index, Reason: v.Reason, Field: v.Field, Message: v.Message}
}

// check returns the first rule that e breaks, or nil: those that hold all along
// the way, and that it can be encoded and is not too large.
func check(e *telemetrygatewayv1.Event) *limits.Violation {
	if fault := limits.CheckEvent(e); fault != nil {
		return fault
	}
	var seen texts
	seen.event(e)
	switch {
	case seen.invalid != "":
		return &limits.Violation{Reason: limits.ReasonInvalidUTF8, Field: seen.invalid, Message: "is not valid UTF-8"}
	case seen.bytes > limits.RecordedEventBytes && proto.Size(e) > limits.RecordedEventBytes:
		return tooLarge("")
	}
	return nil
}

// checkReceived is check for an event that may hold fields which this version
// does not know, and which count as well.
func checkReceived(e *telemetrygatewayv1.Event) *limits.Violation {
	if fault := check(e); fault != nil {
		return fault
	}
	if proto.Size(e) > limits.RecordedEventBytes {
		return tooLarge("")
	}
	return nil
}

func tooLarge(field string) *limits.Violation {
	return &limits.Violation{Reason: limits.ReasonTooLarge, Field: field, Message: fmt.Sprintf("takes more than %d bytes", limits.RecordedEventBytes)}
}

// texts looks at every text of an event. Encoding the event would find the same,
// but takes most of the time that Record takes.
type texts struct {
	bytes   int    // at least what everything seen takes in the wire format
	invalid string // path of the first field that is not UTF-8, as in limits.Violation
}

func (t *texts) see(field, s string) {
	const overhead = 32 // tags and lengths, of messages around it too, and a number beside it
	t.bytes += len(s) + overhead
	if t.invalid == "" && !utf8.ValidString(s) {
		t.invalid = field
	}
}

// event sees all texts that the contract has: a test compares it with the
// contract. Feature and action are known to be ASCII.
func (t *texts) event(e *telemetrygatewayv1.Event) {
	t.see("id", e.GetId())
	if s := e.GetSource(); s != nil {
		t.see("source.server.version", s.GetServer().GetVersion())
		t.see("source.client.name", s.GetClient().GetName())
		t.see("source.client.version", s.GetClient().GetVersion())
	}
	if p := e.GetParameters(); p != nil {
		for key := range p.GetLegacyMetadata() {
			t.see("parameters.legacy_metadata", key)
		}
		for key := range p.GetMetadata() {
			t.see("parameters.metadata", key)
		}
		t.object("parameters.private_metadata", p.GetPrivateMetadata())
		t.see("parameters.billing_metadata.product", p.GetBillingMetadata().GetProduct())
		t.see("parameters.billing_metadata.category", p.GetBillingMetadata().GetCategory())
	}
	if u := e.GetUser(); u != nil {
		t.see("user.anonymous_user_id", u.GetAnonymousUserId())
		t.see("user.sams_external_id", u.GetSamsExternalId())
	}
	for name, value := range e.GetFeatureFlags().GetFlags() {
		t.see("feature_flags.flags", name)
		t.see("feature_flags.flags", value)
	}
	if m := e.GetMarketingTracking(); m != nil {
		t.see("marketing_tracking.url", m.GetUrl())
		t.see("marketing_tracking.first_source_url", m.GetFirstSourceUrl())
		t.see("marketing_tracking.cohort_id", m.GetCohortId())
		t.see("marketing_tracking.referrer", m.GetReferrer())
		t.see("marketing_tracking.last_source_url", m.GetLastSourceUrl())
		t.see("marketing_tracking.device_session_id", m.GetDeviceSessionId())
		t.see("marketing_tracking.session_referrer", m.GetSessionReferrer())
		t.see("marketing_tracking.session_first_url", m.GetSessionFirstUrl())
	}
	if i := e.GetInteraction(); i != nil {
		t.see("interaction.trace_id", i.GetTraceId())
		t.see("interaction.interaction_id", i.GetInteractionId())
		t.see("interaction.geolocation.country_code", i.GetGeolocation().GetCountryCode())
	}
}

func (t *texts) object(field string, s *structpb.Struct) {
	for key, v := range s.GetFields() {
		t.see(field, key)
		t.value(field, v)
	}
}

func (t *texts) value(field string, v *structpb.Value) {
	t.see(field, v.GetStringValue())
	t.object(field, v.GetStructValue())
	for _, v := range v.GetListValue().GetValues() {
		t.value(field, v)
	}
}
