// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"crypto/sha256"
	"encoding/json"
	"math"
	"strconv"
	"time"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// content is what an event says, in a form that what was recorded, the columns
// of a row and a payload can all be brought into. Numbers are the bits of a
// double, so that 0 and -0 differ.
type content struct {
	Feature, Action, RecordedAt              string
	ServerVersion, ClientName, ClientVersion string
	UserID, AnonymousUserID, SAMSExternalID  string
	Version                                  int
	Metadata                                 map[string]string
	Private                                  any
	Flags                                    map[string]string
	BillingProduct, BillingCategory          string
	TraceID, InteractionID, CountryCode      string
	Marketing                                [8]string
}

// hash is equal for equal content: encoding/json sorts the keys of maps.
func (c content) hash() [32]byte {
	if len(c.Metadata) == 0 {
		c.Metadata = nil
	}
	if len(c.Flags) == 0 {
		c.Flags = nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // what it is made of came from JSON
	}
	return sha256.Sum256(text)
}

func bits(v float64) string { return strconv.FormatUint(math.Float64bits(v), 16) }

// microseconds is as much of a time as a column keeps.
func microseconds(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
}

// contentOf is the content of an event that was recorded.
func contentOf(e *pb.Event) content {
	c := content{
		Feature: e.GetFeature(), Action: e.GetAction(), RecordedAt: microseconds(e.GetTimestamp().AsTime()),
		ServerVersion: e.GetSource().GetServer().GetVersion(),
		ClientName:    e.GetSource().GetClient().GetName(), ClientVersion: e.GetSource().GetClient().GetVersion(),
		AnonymousUserID: e.GetUser().GetAnonymousUserId(), SAMSExternalID: e.GetUser().GetSamsExternalId(),
		Version: int(e.GetParameters().GetVersion()), Metadata: map[string]string{},
		Flags:          e.GetFeatureFlags().GetFlags(),
		BillingProduct: e.GetParameters().GetBillingMetadata().GetProduct(), BillingCategory: e.GetParameters().GetBillingMetadata().GetCategory(),
		TraceID: e.GetInteraction().GetTraceId(), InteractionID: e.GetInteraction().GetInteractionId(),
		CountryCode: e.GetInteraction().GetGeolocation().GetCountryCode(),
	}
	if e.GetUser() != nil && e.User.UserId != nil {
		c.UserID = strconv.FormatInt(e.User.GetUserId(), 10)
	}
	for key, v := range e.GetParameters().GetMetadata() {
		c.Metadata[key] = bits(v)
	}
	if p := e.GetParameters().GetPrivateMetadata(); p != nil {
		c.Private = p.AsMap()
	}
	if m := e.GetMarketingTracking(); m != nil {
		c.Marketing = [8]string{
			m.GetUrl(), m.GetFirstSourceUrl(), m.GetCohortId(), m.GetReferrer(),
			m.GetLastSourceUrl(), m.GetDeviceSessionId(), m.GetSessionReferrer(), m.GetSessionFirstUrl(),
		}
	}
	return c
}

// payload is what is compared of a payload, as docs/payload.md describes it.
type payload struct {
	Event struct {
		ID, Feature, Action string
		Timestamp           time.Time
		Source              struct {
			Server struct{ Version string }
			Client struct{ Name, Version string }
		}
		Parameters struct {
			Version         int
			Metadata        map[string]float64
			PrivateMetadata map[string]any
			BillingMetadata struct{ Product, Category string }
		}
		User              struct{ UserID, AnonymousUserID, SAMSExternalID string }
		FeatureFlags      struct{ Flags map[string]string }
		MarketingTracking struct {
			URL, FirstSourceURL, CohortID, Referrer, LastSourceURL, DeviceSessionID, SessionReferrer, SessionFirstURL string
		}
		Interaction struct {
			TraceID, InteractionID string
			Geolocation            struct{ CountryCode string }
		}
	}
	Labels map[string]string
}

// content returns the content of the event in a payload.
func (p *payload) content() content {
	e := &p.Event
	c := content{
		Feature: e.Feature, Action: e.Action, RecordedAt: microseconds(e.Timestamp),
		ServerVersion: e.Source.Server.Version, ClientName: e.Source.Client.Name, ClientVersion: e.Source.Client.Version,
		UserID: e.User.UserID, AnonymousUserID: e.User.AnonymousUserID, SAMSExternalID: e.User.SAMSExternalID,
		Version: e.Parameters.Version, Metadata: map[string]string{}, Flags: e.FeatureFlags.Flags,
		BillingProduct: e.Parameters.BillingMetadata.Product, BillingCategory: e.Parameters.BillingMetadata.Category,
		TraceID: e.Interaction.TraceID, InteractionID: e.Interaction.InteractionID, CountryCode: e.Interaction.Geolocation.CountryCode,
	}
	for key, v := range e.Parameters.Metadata {
		c.Metadata[key] = bits(v)
	}
	if e.Parameters.PrivateMetadata != nil {
		c.Private = e.Parameters.PrivateMetadata
	}
	m := &e.MarketingTracking
	c.Marketing = [8]string{m.URL, m.FirstSourceURL, m.CohortID, m.Referrer, m.LastSourceURL, m.DeviceSessionID, m.SessionReferrer, m.SessionFirstURL}
	return c
}
