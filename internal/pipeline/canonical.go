// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
)

// decodeCanonical makes the row of a payload in the canonical form: the one that
// gateways write, with nothing in it that this version does not know. It reports
// false for any other, of which the row then holds parts, and takes no
// responsibility for what is wrong with it.
//
// It reads the text once, from left to right, and allocates only maps, lists, and
// texts with escapes in them. What is said about a sender is read once, as long as
// it is what last holds.
func decodeCanonical(data []byte, row *warehouse.Row, last *origin) bool {
	*row = warehouse.Row{}
	if len(data) == 0 || !utf8.Valid(data) {
		return false
	}
	r := reader{text: unsafe.String(&data[0], len(data))}
	var metadata, event, labels bool
	for key := range r.fields {
		switch key {
		case "metadata":
			metadata = true
			start := r.at
			if last.text != "" && strings.HasPrefix(r.text[start:], last.text) {
				copyOrigin(row, &last.row)
				r.at += len(last.text)
				break
			}
			r.metadata(row)
			if !r.failed {
				last.text = r.text[start:r.at]
				copyOrigin(&last.row, row)
			}
		case "event":
			event = true
			start := r.at
			r.event(row)
			row.ContentHash = contentHash(data[start:r.at], nil)
		case "labels":
			labels = true
			r.labels(row)
		default:
			r.fail()
		}
	}
	return !r.failed && r.at == len(r.text) && metadata && event && labels
}

// origin is what a payload says about its sender, which the next one mostly says
// as well. It points into a message.
type origin struct {
	text string // a JSON object
	row  warehouse.Row
}

func copyOrigin(to, from *warehouse.Row) {
	to.Source, to.SourceID, to.Environment, to.ExternalURL = from.Source, from.SourceID, from.Environment, from.ExternalURL
	to.LicenseID, to.LicenseStatus, to.LicenseFingerprint = from.LicenseID, from.LicenseStatus, from.LicenseFingerprint
	to.LicenseTags = from.LicenseTags
}

func (r *reader) metadata(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "requestId":
			r.string()
		case "identifier":
			r.identifier(row)
		default:
			r.fail()
		}
	}
	if row.Source == "" {
		r.fail()
	}
}

func (r *reader) identifier(row *warehouse.Row) {
	for key := range r.fields {
		if row.Source != "" {
			r.fail()
		}
		switch key {
		case "licensedInstance":
			row.Source = licensedInstance
		case "unlicensedInstance":
			row.Source = unlicensedInstance
		case "managedService":
			row.Source = managedService
		default:
			r.fail()
		}
		r.sender(row)
	}
}

func (r *reader) sender(row *warehouse.Row) {
	instance, licensed := row.Source != managedService, false
	for key := range r.fields {
		switch {
		case instance && key == "instanceId", !instance && key == "serviceId":
			row.SourceID = r.string()
		case instance && key == "externalUrl":
			row.ExternalURL = r.string()
		case !instance && key == "serviceEnvironment":
			row.Environment = r.string()
		case row.Source == licensedInstance && key == "licenseKey":
			r.string()
		case row.Source == licensedInstance && key == "licenseKeyFingerprint":
			row.LicenseFingerprint = r.string()
		case row.Source == licensedInstance && key == "license":
			licensed = true
			r.license(row)
		default:
			r.fail()
		}
	}
	if row.LicenseFingerprint != "" && !licensed {
		r.fail()
	}
}

func (r *reader) license(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "id":
			row.LicenseID = r.string()
		case "status":
			row.LicenseStatus = r.string()
		case "tags":
			var buffer [8]string
			tags := buffer[:0]
			for range r.elements {
				tags = append(tags, r.string())
			}
			row.LicenseTags = slices.Clone(tags)
		case "keyId", "salesforceSubscriptionId", "salesforceOpportunityId":
			r.string()
		case "createdAt", "expiresAt":
			r.time()
		case "version", "users":
			if r.integer(32) < 0 {
				r.fail()
			}
		default:
			r.fail()
		}
	}
}

func (r *reader) labels(row *warehouse.Row) {
	received := false
	for key := range r.members {
		switch {
		case key == "receivedAt" && !received:
			received = true
			row.ReceivedAt = r.time()
		case key == replayOf && row.ReplayOf == "":
			row.ReplayOf = r.string()
		case key == "receivedAt", key == replayOf:
			r.fail()
		default:
			r.string()
		}
	}
	if !received {
		r.fail()
	}
}

func (r *reader) event(row *warehouse.Row) {
	recorded := false
	for key := range r.fields {
		switch key {
		case "id":
			row.EventID = r.string()
		case "timestamp":
			recorded = true
			row.RecordedAt = r.time()
		case "feature":
			row.Feature = r.string()
		case "action":
			row.Action = r.string()
		case "source":
			r.source(row)
		case "parameters":
			r.parameters(row)
		case "user":
			r.user(row)
		case "featureFlags":
			for key := range r.fields {
				if key != "flags" {
					r.fail()
				}
				var buffer [16]warehouse.Flag
				flags := buffer[:0]
				for name := range r.entries {
					flags = append(flags, warehouse.Flag{Name: name, Value: r.string()})
				}
				row.FeatureFlags = append([]warehouse.Flag(nil), flags...) // as nil as an empty map is
			}
		case "marketingTracking":
			r.marketing(row)
		case "interaction":
			r.interaction(row)
		default:
			r.fail()
		}
	}
	if !recorded || row.EventID == "" || row.Feature == "" || row.Action == "" {
		r.fail()
	}
}

func (r *reader) source(row *warehouse.Row) {
	for part := range r.fields {
		for key := range r.fields {
			switch {
			case part == "server" && key == "version":
				row.ServerVersion = r.string()
			case part == "client" && key == "name":
				row.ClientName = r.string()
			case part == "client" && key == "version":
				row.ClientVersion = r.string()
			default:
				r.fail()
			}
		}
		if part != "server" && part != "client" {
			r.fail()
		}
	}
}

func (r *reader) parameters(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "version":
			row.ParametersVersion = int32(r.integer(32))
		case "metadata":
			var buffer [16]warehouse.Metadatum
			metadata := buffer[:0]
			for key := range r.entries {
				metadata = append(metadata, warehouse.Metadatum{Key: key, Value: r.number()})
			}
			row.Metadata = append([]warehouse.Metadatum(nil), metadata...)
		case "privateMetadata":
			start := r.at
			r.object(1)
			row.PrivateMetadata = []byte(r.text[start:r.at])
		case "billingMetadata":
			for key := range r.fields {
				switch key {
				case "product":
					row.BillingProduct = r.string()
				case "category":
					row.BillingCategory = r.string()
				default:
					r.fail()
				}
			}
		default:
			r.fail()
		}
	}
}

func (r *reader) user(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "userId":
			text := r.string()
			n, err := strconv.ParseInt(text, 10, 64)
			var buffer [20]byte
			if err != nil || string(strconv.AppendInt(buffer[:0], n, 10)) != text {
				r.fail()
			}
			row.UserID = &n
		case "anonymousUserId":
			row.AnonymousUserID = r.string()
		case "samsExternalId":
			row.SAMSExternalID = r.string()
		default:
			r.fail()
		}
	}
}

func (r *reader) marketing(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "url":
			row.MarketingURL = r.string()
		case "firstSourceUrl":
			row.MarketingFirstSourceURL = r.string()
		case "cohortId":
			row.MarketingCohortID = r.string()
		case "referrer":
			row.MarketingReferrer = r.string()
		case "lastSourceUrl":
			row.MarketingLastSourceURL = r.string()
		case "deviceSessionId":
			row.MarketingDeviceSessionID = r.string()
		case "sessionReferrer":
			row.MarketingSessionReferrer = r.string()
		case "sessionFirstUrl":
			row.MarketingSessionFirstURL = r.string()
		default:
			r.fail()
		}
	}
}

func (r *reader) interaction(row *warehouse.Row) {
	for key := range r.fields {
		switch key {
		case "traceId":
			row.TraceID = r.string()
		case "interactionId":
			row.InteractionID = r.string()
		case "geolocation":
			for key := range r.fields {
				if key != "countryCode" {
					r.fail()
				}
				row.CountryCode = r.string()
			}
		default:
			r.fail()
		}
	}
}
