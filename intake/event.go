// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package intake

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// reasonMetadata is the one reason that events have only here: everywhere else
// metadata are numbers by their type.
const reasonMetadata = "metadata_not_number"

// What is wrong with fields that are not even of their type.
const (
	notTime   = "is not a time as in RFC 3339"
	notNumber = "holds a value that is not a number"
)

// The inputs of the schema.
type (
	eventInput struct {
		Timestamp         *dateTime
		Feature           string
		Action            string
		Source            sourceInput
		Parameters        parametersInput
		MarketingTracking *marketingInput
	}
	sourceInput struct {
		Client        string
		ClientVersion *string
	}
	parametersInput struct {
		Version         int32
		Metadata        *[]metadataInput
		PrivateMetadata *jsonValue
		BillingMetadata *billingInput
		InteractionID   *string
	}
	metadataInput struct {
		Key   string
		Value jsonValue
	}
	billingInput struct {
		Product  string
		Category string
	}
	marketingInput struct {
		URL             *string
		FirstSourceURL  *string
		CohortID        *string
		Referrer        *string
		LastSourceURL   *string
		DeviceSessionID *string
		SessionReferrer *string
		SessionFirstURL *string
	}
)

// event returns what a client sent as an event, or the rule it breaks that can
// only be seen here.
func (in *eventInput) event() (*telemetrygatewayv1.Event, *limits.Violation) {
	e := &telemetrygatewayv1.Event{
		Feature: in.Feature,
		Action:  in.Action,
		Source: &telemetrygatewayv1.EventSource{Client: &telemetrygatewayv1.EventSource_Client{
			Name: in.Source.Client, Version: in.Source.ClientVersion,
		}},
		Parameters: &telemetrygatewayv1.EventParameters{Version: in.Parameters.Version},
	}
	if t := in.Timestamp; t != nil {
		if t.invalid {
			return nil, &limits.Violation{Reason: limits.ReasonTimestampInvalid, Field: "timestamp", Message: notTime}
		}
		e.Timestamp = timestamppb.New(t.Time)
	}
	p := &in.Parameters
	if p.Metadata != nil && len(*p.Metadata) > 0 {
		e.Parameters.Metadata = make(map[string]float64, len(*p.Metadata))
		for _, m := range *p.Metadata {
			n, ok := numeric(m.Value.value)
			if !ok {
				return nil, &limits.Violation{Reason: reasonMetadata, Field: "parameters.metadata", Message: notNumber}
			}
			e.Parameters.Metadata[m.Key] = n
		}
	}
	if p.PrivateMetadata != nil {
		object, err := privateMetadata(p.PrivateMetadata.value)
		if err != nil {
			return nil, &limits.Violation{Reason: limits.ReasonUndecodable, Field: "parameters.private_metadata", Message: "holds something that is not JSON"}
		}
		e.Parameters.PrivateMetadata = object
	}
	if b := p.BillingMetadata; b != nil {
		e.Parameters.BillingMetadata = &telemetrygatewayv1.EventBillingMetadata{Product: b.Product, Category: b.Category}
	}
	if id := p.InteractionID; id != nil && *id != "" {
		e.Interaction = &telemetrygatewayv1.EventInteraction{InteractionId: id}
	}
	if m := in.MarketingTracking; m != nil {
		e.MarketingTracking = &telemetrygatewayv1.EventMarketingTracking{
			Url:             m.URL,
			FirstSourceUrl:  m.FirstSourceURL,
			CohortId:        m.CohortID,
			Referrer:        m.Referrer,
			LastSourceUrl:   m.LastSourceURL,
			DeviceSessionId: m.DeviceSessionID,
			SessionReferrer: m.SessionReferrer,
			SessionFirstUrl: m.SessionFirstURL,
		}
	}
	return e, nil
}
