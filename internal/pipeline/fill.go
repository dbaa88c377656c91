// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// The kinds of sender, as rows name them.
const (
	licensedInstance   = "licensed_instance"
	unlicensedInstance = "unlicensed_instance"
	managedService     = "managed_service"
)

// replayOf is the label of events that were replayed from a dead letter.
const replayOf = "replay.of"

// fillOrigin fills what a row says about the sender. Source stays empty if o
// names no kind of sender that this version knows.
func fillOrigin(row *warehouse.Row, o *payload.Origin) {
	switch id := o.Metadata.GetIdentifier(); {
	case id.GetLicensedInstance() != nil:
		row.Source = licensedInstance
		row.SourceID = id.GetLicensedInstance().GetInstanceId()
		row.ExternalURL = id.GetLicensedInstance().GetExternalUrl()
	case id.GetUnlicensedInstance() != nil:
		row.Source = unlicensedInstance
		row.SourceID = id.GetUnlicensedInstance().GetInstanceId()
		row.ExternalURL = id.GetUnlicensedInstance().GetExternalUrl()
	case id.GetManagedService() != nil:
		row.Source = managedService
		row.SourceID = id.GetManagedService().GetServiceId()
		row.Environment = id.GetManagedService().GetServiceEnvironment()
	}
	if l := o.License; l != nil {
		row.LicenseID, row.LicenseStatus, row.LicenseFingerprint = l.ID, l.Status, l.Fingerprint
		row.LicenseTags = l.Tags
	}
	row.ReplayOf = o.Labels[replayOf]
}

// fillEvent fills what a row says about the event, as far as it has a form
// there, and reports whether all of it has.
func fillEvent(row *warehouse.Row, e *telemetrygatewayv1.Event) (whole bool) {
	whole = true
	row.EventID, row.Feature, row.Action = e.GetId(), e.GetFeature(), e.GetAction()
	if at := e.GetTimestamp(); at.IsValid() {
		row.RecordedAt = at.AsTime().Truncate(time.Microsecond)
	}
	row.ServerVersion = e.GetSource().GetServer().GetVersion()
	row.ClientName = e.GetSource().GetClient().GetName()
	row.ClientVersion = e.GetSource().GetClient().GetVersion()

	if u := e.GetUser(); u != nil {
		row.UserID = u.UserId
	}
	row.AnonymousUserID = e.GetUser().GetAnonymousUserId()
	row.SAMSExternalID = e.GetUser().GetSamsExternalId()

	p := e.GetParameters()
	row.ParametersVersion = p.GetVersion()
	for _, key := range slices.Sorted(maps.Keys(p.GetMetadata())) {
		n := p.GetMetadata()[key]
		if math.IsNaN(n) || math.IsInf(n, 0) {
			whole = false // JSON has no form for it, in which rows are shown as well
			continue
		}
		row.Metadata = append(row.Metadata, warehouse.Metadatum{Key: key, Value: n})
	}
	if private := p.GetPrivateMetadata(); private != nil {
		var text bytes.Buffer
		data, err := protojson.Marshal(private)
		if err == nil && checkText(data) == nil && json.Compact(&text, data) == nil {
			row.PrivateMetadata = text.Bytes()
		} else {
			whole = false
		}
	}
	row.BillingProduct = p.GetBillingMetadata().GetProduct()
	row.BillingCategory = p.GetBillingMetadata().GetCategory()

	flags := e.GetFeatureFlags().GetFlags()
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		row.FeatureFlags = append(row.FeatureFlags, warehouse.Flag{Name: name, Value: flags[name]})
	}

	m := e.GetMarketingTracking()
	row.MarketingURL = m.GetUrl()
	row.MarketingFirstSourceURL = m.GetFirstSourceUrl()
	row.MarketingCohortID = m.GetCohortId()
	row.MarketingReferrer = m.GetReferrer()
	row.MarketingLastSourceURL = m.GetLastSourceUrl()
	row.MarketingDeviceSessionID = m.GetDeviceSessionId()
	row.MarketingSessionReferrer = m.GetSessionReferrer()
	row.MarketingSessionFirstURL = m.GetSessionFirstUrl()

	row.TraceID = e.GetInteraction().GetTraceId()
	row.InteractionID = e.GetInteraction().GetInteractionId()
	row.CountryCode = e.GetInteraction().GetGeolocation().GetCountryCode()
	return whole
}

// parseTime returns a time in RFC 3339, if it is one of the years 1 to 9999.
func parseTime(text string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, text)
	at = at.UTC().Truncate(time.Microsecond)
	return at, err == nil && 1 <= at.Year() && at.Year() <= 9999
}
