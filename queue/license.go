// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/license"
)

// Tags of licences that restrict what leaves an instance.
const (
	tagAirGapped     = "allow-air-gapped"
	tagDisableExport = "disable-telemetry-events-export"
)

// consent is when licences began to include consent to export. It is part of
// the contracts with customers, and so does not move.
var consent = time.Date(2023, time.October, 4, 0, 0, 0, 0, time.UTC)

// LicenseOptions are what an instance's environment says about its licence.
type LicenseOptions struct {
	// ExportAll exports everything whatever the licence says. It is
	// SRC_TELEMETRY_EVENTS_EXPORT_ALL of the original.
	ExportAll bool
	// UsageDataEnabled exports everything although the licence is old. It is
	// EXPORT_USAGE_DATA_ENABLED of the original.
	UsageDataEnabled bool
	// Vendor is for an instance that the vendor itself operates.
	Vendor bool
}

// LicenseMode returns the mode that a licence key asks for, and why, in words
// for administrators, which never quote the key. Administrators may choose a
// stricter one; see Strictest.
//
// The key's signature is not verified, as an instance has nothing to verify it
// with. A forged key could at most have fewer restrictions than a real one,
// and whoever can change the key could as well remove it.
func LicenseMode(key string, o LicenseOptions) (Mode, string) {
	switch {
	case o.ExportAll:
		return All, "the environment says that everything is exported, whatever the licence says"
	case strings.TrimSpace(key) == "":
		return All, "there is no licence key"
	case o.Vendor:
		return All, "the vendor operates this instance"
	}
	claims, err := license.Claims(key)
	switch {
	case err != nil:
		return All, fmt.Sprintf("%v; until then the licence restricts nothing, and only the administrator's own mode does", err)
	case claims.HasTag(tagAirGapped):
		return Off, fmt.Sprintf("the licence has the tag %q", tagAirGapped)
	case claims.HasTag(tagDisableExport):
		return Limited, fmt.Sprintf("the licence has the tag %q", tagDisableExport)
	case o.UsageDataEnabled:
		return All, "the environment says that usage data is exported"
	case claims.CreatedAt.Before(consent):
		return Limited, fmt.Sprintf("the licence was created before %s, or does not say when", consent.Format(time.DateOnly))
	}
	return All, "the licence restricts nothing"
}
