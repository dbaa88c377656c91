// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// identifyService refuses managed services: this version cannot prove their
// access tokens, and letting them in unproven would let anyone in.
func identifyService(id *telemetrygatewayv1.Identifier_ManagedServiceIdentifier) error {
	if id.GetServiceId() == "" {
		return refuse(Malformed, "managed_service.service_id is empty")
	}
	if err := checkText("managed_service.service_id", id.GetServiceId(), limits.SenderIDBytes); err != nil {
		return err
	}
	return refuse(Unsupported, "this version of the gateway does not take events of managed services yet: it cannot verify access tokens")
}
