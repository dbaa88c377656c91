// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Identity is who sends. It may hold a secret, which its formatted form does
// not show.
type Identity struct {
	proto  *telemetrygatewayv1.Identifier
	tokens *tokens // of a service, and else nil
}

// tokens are the methods of a TokenSource, and not the source itself, because
// the formatted form of what holds an Identity would show what is in that.
type tokens struct {
	get    func(context.Context) (string, error)
	forget func(token string)
}

// Licensed is an instance with a licence key. An instance sends its own ID and
// the URL at which users reach it along; both are taken at its word.
func Licensed(key, instanceID, externalURL string) Identity {
	return Identity{proto: &telemetrygatewayv1.Identifier{
		Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
			LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{
				LicenseKey: key, InstanceId: instanceID, ExternalUrl: externalURL,
			},
		},
	}}
}

// Unlicensed is an instance without a licence key, known by the ID that it gave
// itself.
func Unlicensed(siteID, externalURL string) Identity {
	return Identity{proto: &telemetrygatewayv1.Identifier{
		Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
			UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{
				InstanceId: siteID, ExternalUrl: externalURL,
			},
		},
	}}
}

// Service is a service that proves who it is with access tokens. The gateway
// lets it send as the service that its tokens stand for, and in environments
// such as "prod" that its operator allows; environment may be empty.
func Service(id, environment string, t TokenSource) Identity {
	service := &telemetrygatewayv1.Identifier_ManagedServiceIdentifier{ServiceId: id}
	if environment != "" {
		service.ServiceEnvironment = &environment
	}
	source := &tokens{forget: func(string) {}}
	if t != nil {
		source.get = t.Token
	}
	if f, ok := t.(interface{ Forget(token string) }); ok {
		source.forget = f.Forget
	}
	return Identity{
		proto: &telemetrygatewayv1.Identifier{
			Identifier: &telemetrygatewayv1.Identifier_ManagedService{ManagedService: service},
		},
		tokens: source,
	}
}

// String names the sender without its secret.
func (id Identity) String() string {
	switch {
	case id.proto.GetLicensedInstance() != nil:
		return fmt.Sprintf("licensed instance %q", id.proto.GetLicensedInstance().GetInstanceId())
	case id.proto.GetUnlicensedInstance() != nil:
		return fmt.Sprintf("unlicensed instance %q", id.proto.GetUnlicensedInstance().GetInstanceId())
	case id.proto.GetManagedService() != nil:
		return fmt.Sprintf("service %q", id.proto.GetManagedService().GetServiceId())
	default:
		return "no identity"
	}
}

// GoString is String, for %#v.
func (id Identity) GoString() string { return id.String() }

func (id Identity) check() error {
	switch {
	case id.proto == nil:
		return errors.New("no identity: use Licensed, Unlicensed or Service")
	case id.proto.GetLicensedInstance() != nil && strings.TrimSpace(id.proto.GetLicensedInstance().GetLicenseKey()) == "":
		return errors.New("the licence key is empty: an instance without one is Unlicensed")
	case id.proto.GetUnlicensedInstance() != nil && id.proto.GetUnlicensedInstance().GetInstanceId() == "":
		return errors.New("the site ID is empty")
	case id.proto.GetManagedService() != nil && id.proto.GetManagedService().GetServiceId() == "":
		return errors.New("the service's ID is empty")
	case id.tokens != nil && id.tokens.get == nil:
		return errors.New("the service has no source of tokens: use ClientCredentials")
	}
	if _, err := proto.Marshal(id.proto); err != nil {
		return errors.New("the identity holds text that is not valid UTF-8")
	}
	return nil
}

// redact takes the licence key out of text that came from outside. Gateways
// ignore white space in a key, so one may quote it without.
func (id Identity) redact(s string) string {
	key := id.proto.GetLicensedInstance().GetLicenseKey()
	for _, secret := range []string{key, strings.TrimSpace(key), strings.Join(strings.Fields(key), "")} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[licence key]")
		}
	}
	return s
}
