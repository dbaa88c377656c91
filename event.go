// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// about is what a context says about all events that are recorded in it. They
// share its messages, which nobody may change.
type about struct {
	now         time.Time
	source      *telemetrygatewayv1.EventSource
	user        *telemetrygatewayv1.EventUser
	flags       *telemetrygatewayv1.EventFeatureFlags
	interaction *telemetrygatewayv1.EventInteraction
}

func (r *Recorder) describe(ctx context.Context) about {
	now := r.options.Now
	if now == nil {
		now = time.Now
	}
	return about{
		now:         now(),
		source:      r.source(ctx),
		user:        user(ctx),
		flags:       r.flags(ctx),
		interaction: r.interaction(ctx),
	}
}

func (r *Recorder) source(ctx context.Context) *telemetrygatewayv1.EventSource {
	s := &telemetrygatewayv1.EventSource{
		Server: &telemetrygatewayv1.EventSource_Server{Version: r.options.ServerVersion},
	}
	if c := ClientFrom(ctx); c.Name != "" {
		s.Client = &telemetrygatewayv1.EventSource_Client{Name: c.Name, Version: present(&c.Version)}
	}
	return s
}

// user returns nil when nobody is known.
func user(ctx context.Context) *telemetrygatewayv1.EventUser {
	a := ActorFrom(ctx)
	if a == (Actor{}) {
		return nil
	}
	return &telemetrygatewayv1.EventUser{
		UserId:          present(&a.UserID),
		AnonymousUserId: present(&a.AnonymousUserID),
		SamsExternalId:  present(&a.ExternalID),
	}
}

// flags returns nil when there are none.
func (r *Recorder) flags(ctx context.Context) *telemetrygatewayv1.EventFeatureFlags {
	if r.options.FeatureFlags == nil {
		return nil
	}
	evaluated := r.options.FeatureFlags(ctx)
	if len(evaluated) == 0 {
		return nil
	}
	flags := make(map[string]string, len(evaluated))
	for name, on := range evaluated {
		flags[name] = strconv.FormatBool(on)
	}
	return &telemetrygatewayv1.EventFeatureFlags{Flags: flags}
}

// interaction returns nil when nothing is known.
func (r *Recorder) interaction(ctx context.Context) *telemetrygatewayv1.EventInteraction {
	i := InteractionFrom(ctx)
	if i.TraceID == "" && r.options.TraceID != nil {
		i.TraceID = r.options.TraceID(ctx)
	}
	if strings.Trim(i.TraceID, "0") == "" {
		i.TraceID = "" // how OpenTelemetry writes that there is no trace
	}
	if i == (Interaction{}) {
		return nil
	}
	e := &telemetrygatewayv1.EventInteraction{TraceId: present(&i.TraceID), InteractionId: present(&i.ID)}
	if i.CountryCode != "" {
		e.Geolocation = &telemetrygatewayv1.EventInteraction_Geolocation{CountryCode: i.CountryCode}
	}
	return e
}

// interactionWith returns the interaction with another ID, unless id is empty.
func (a *about) interactionWith(id string) *telemetrygatewayv1.EventInteraction {
	if id == "" {
		return a.interaction
	}
	i := &telemetrygatewayv1.EventInteraction{InteractionId: &id}
	if a.interaction != nil {
		i.TraceId, i.Geolocation = a.interaction.TraceId, a.interaction.Geolocation
	}
	return i
}

// recorded makes an event of an entry. It returns a violation for what an event
// has no room for; check finds all others.
func (a *about) recorded(entry *Entry) (*telemetrygatewayv1.Event, *limits.Violation, error) {
	id, err := newID()
	if err != nil {
		return nil, nil, err
	}
	p := &entry.Params
	if p.Version < math.MinInt32 || p.Version > math.MaxInt32 {
		return nil, &limits.Violation{Reason: limits.ReasonUndecodable, Field: "parameters.version", Message: "does not fit in 32 bits"}, nil
	}
	private, fault := privateMetadata(p.PrivateMetadata)
	if fault != nil {
		return nil, fault, nil
	}
	parameters := &telemetrygatewayv1.EventParameters{
		Version:         int32(p.Version),
		PrivateMetadata: private,
	}
	if len(p.Metadata) > 0 {
		parameters.Metadata = make(map[string]float64, len(p.Metadata))
		for key, n := range p.Metadata {
			parameters.Metadata[string(key)] = n
		}
	}
	if p.Billing != (Billing{}) {
		parameters.BillingMetadata = &telemetrygatewayv1.EventBillingMetadata{
			Product:  string(p.Billing.Product),
			Category: string(p.Billing.Category),
		}
	}
	happened := p.Timestamp
	if happened.IsZero() {
		happened = a.now
	}
	return &telemetrygatewayv1.Event{
		Id:           id,
		Timestamp:    timestamppb.New(happened),
		Feature:      string(entry.Feature),
		Action:       string(entry.Action),
		Source:       a.source,
		Parameters:   parameters,
		User:         a.user,
		FeatureFlags: a.flags,
		Interaction:  a.interactionWith(p.InteractionID),
	}, nil, nil
}

// received makes an event of one that came from a client. It takes over the
// fields that a client may choose, one by one, so that a field that is added to
// the contract is not a client's until someone decides so.
func (a *about) received(e *telemetrygatewayv1.Event) (*telemetrygatewayv1.Event, error) {
	id, timestamp, source := e.GetId(), e.GetTimestamp(), a.source
	if id == "" {
		var err error
		if id, err = newID(); err != nil {
			return nil, err
		}
	}
	if timestamp == nil {
		timestamp = timestamppb.New(a.now)
	}
	if c := e.GetSource().GetClient(); c != nil {
		source = &telemetrygatewayv1.EventSource{Server: source.Server, Client: c}
	}
	return &telemetrygatewayv1.Event{
		Id:                id,
		Timestamp:         timestamp,
		Feature:           e.GetFeature(),
		Action:            e.GetAction(),
		Source:            source,
		Parameters:        e.GetParameters(),
		User:              a.user,
		FeatureFlags:      a.flags,
		MarketingTracking: e.GetMarketingTracking(),
		Interaction:       a.interactionWith(e.GetInteraction().GetInteractionId()),
	}, nil
}

// newID returns a UUIDv7, which sorts by time and so keeps indexes compact.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("telemetry: make an event ID: %w", err)
	}
	return id.String(), nil
}

// present returns v, or nil for a zero value: the field is absent then, as with
// senders of the field.
func present[T comparable](v *T) *T {
	if *v == *new(T) {
		return nil
	}
	return v
}
