// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Redact returns what may leave the instance of an event. It copies, field by
// field, those that may: one that is not written down below stays, and so does
// one that the contract gains or that this version does not know. Of private
// metadata leaves what p.Allow allows, and marketing data never does. When
// p.Vendor is set, everything leaves.
//
// The result shares maps and pointers to texts and numbers with e, or is e
// itself, so that neither may be changed while the other is in use.
func Redact(e *v1.Event, p Policy) *v1.Event {
	if e == nil || p.Vendor {
		return e
	}
	return &v1.Event{
		Id:           e.Id,
		Timestamp:    redactTimestamp(e.Timestamp),
		Feature:      e.Feature,
		Action:       e.Action,
		Source:       redactSource(e.Source),
		Parameters:   redactParameters(e.Parameters, p.Allow.keys(e.Feature, e.Action)),
		User:         redactUser(e.User),
		FeatureFlags: redactFeatureFlags(e.FeatureFlags),
		Interaction:  redactInteraction(e.Interaction),
	}
}

func redactTimestamp(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: t.Seconds, Nanos: t.Nanos}
}

func redactSource(s *v1.EventSource) *v1.EventSource {
	if s == nil {
		return nil
	}
	redacted := new(v1.EventSource)
	if s.Server != nil {
		redacted.Server = &v1.EventSource_Server{Version: s.Server.Version}
	}
	if s.Client != nil {
		redacted.Client = &v1.EventSource_Client{Name: s.Client.Name, Version: s.Client.Version}
	}
	return redacted
}

func redactParameters(p *v1.EventParameters, allowed []string) *v1.EventParameters {
	if p == nil {
		return nil
	}
	redacted := &v1.EventParameters{
		Version:         p.Version,
		LegacyMetadata:  p.LegacyMetadata, // numbers only, as Metadata
		PrivateMetadata: redactPrivateMetadata(p.PrivateMetadata, allowed),
		Metadata:        p.Metadata,
	}
	if b := p.BillingMetadata; b != nil {
		redacted.BillingMetadata = &v1.EventBillingMetadata{Product: b.Product, Category: b.Category}
	}
	return redacted
}

func redactUser(u *v1.EventUser) *v1.EventUser {
	if u == nil {
		return nil
	}
	return &v1.EventUser{UserId: u.UserId, AnonymousUserId: u.AnonymousUserId, SamsExternalId: u.SamsExternalId}
}

func redactFeatureFlags(f *v1.EventFeatureFlags) *v1.EventFeatureFlags {
	if f == nil {
		return nil
	}
	return &v1.EventFeatureFlags{Flags: f.Flags}
}

func redactInteraction(i *v1.EventInteraction) *v1.EventInteraction {
	if i == nil {
		return nil
	}
	redacted := &v1.EventInteraction{TraceId: i.TraceId, InteractionId: i.InteractionId}
	if i.Geolocation != nil {
		redacted.Geolocation = &v1.EventInteraction_Geolocation{CountryCode: i.Geolocation.CountryCode}
	}
	return redacted
}

// redactPrivateMetadata returns what is allowed of private metadata, or nil if
// nothing remains: an empty object would still say that there was some.
func redactPrivateMetadata(private *structpb.Struct, allowed []string) *structpb.Struct {
	var fields map[string]*structpb.Value
	for _, key := range allowed {
		if v, ok := private.GetFields()[key]; ok {
			if fields == nil {
				fields = make(map[string]*structpb.Value)
			}
			fields[key] = redactValue(v)
		}
	}
	if fields == nil {
		return nil
	}
	return &structpb.Struct{Fields: fields}
}

// redactValue returns a copy of a text, a list of texts or null. For anything
// else it returns a text that names the kind. What people can look over when
// they allow a key is a short text; an object, for instance, may gain anything.
func redactValue(v *structpb.Value) *structpb.Value {
	kind := "a value of no kind"
	switch k := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return structpb.NewNullValue()
	case *structpb.Value_StringValue:
		return structpb.NewStringValue(k.StringValue)
	case *structpb.Value_ListValue:
		if texts, ok := copyTexts(k.ListValue.GetValues()); ok {
			return structpb.NewListValue(&structpb.ListValue{Values: texts})
		}
		kind = "a list of more than texts"
	case *structpb.Value_NumberValue:
		kind = "a number"
	case *structpb.Value_BoolValue:
		kind = "a boolean"
	case *structpb.Value_StructValue:
		kind = "an object"
	}
	return structpb.NewStringValue("redacted: " + kind + "; only texts, lists of texts and null are exported")
}

// copyTexts reports false if there is anything but texts.
func copyTexts(values []*structpb.Value) ([]*structpb.Value, bool) {
	texts := make([]*structpb.Value, len(values))
	for i, v := range values {
		text, ok := v.GetKind().(*structpb.Value_StringValue)
		if !ok {
			return nil, false
		}
		texts[i] = structpb.NewStringValue(text.StringValue)
	}
	return texts, true
}
