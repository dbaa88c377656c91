// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity proves who sends, before the first event is read. Each kind
// of sender has a file of its own.
//
// Which client of the OAuth provider may send as which managed service is in a
// YAML file (testdata/services.yaml is a longer one):
//
//	services:
//	  - client: 3f6c2a9e            # the client ID in its tokens
//	    service: pings              # may stand more than once, with other services
//	    environments: [prod, dev]   # may name these; ["*"] for any; absent for none
package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// Kind is a kind of sender. Its values are those of the attribute
// publisher.source.
type Kind string

const (
	LicensedInstance   Kind = "licensed_instance"
	UnlicensedInstance Kind = "unlicensed_instance"
	ManagedService     Kind = "managed_service"
)

// Sender is someone whose identity has been established as far as its kind
// allows. It does not change and may be used by several goroutines at once.
type Sender struct {
	Kind Kind
	// ID is the instance or service ID, as the sender gave it.
	ID string
	// Scope is what the sender's event IDs are unique within. Two senders that
	// are told apart by proof never share one.
	Scope string
	// License is nil unless Kind is LicensedInstance.
	License *license.License
	// LicenseStatus is "valid" or "expired"; empty without a licence.
	LicenseStatus string

	admit   func(events int) error
	recheck func(context.Context) error
}

// Admit asks whether the sender may send so many events now. Its error is a
// *Refusal.
func (s *Sender) Admit(events int) error {
	if s.admit == nil {
		return nil
	}
	return s.admit(events)
}

// Recheck says whether what was proven still holds, such as that a licence or
// an access token has not been revoked since. Its error is a *Refusal. It is
// cheap, so call it before each batch; only about a token it may have to ask
// the provider, which takes seconds at worst.
func (s *Sender) Recheck(ctx context.Context) error {
	if s.recheck == nil {
		return nil
	}
	return s.recheck(ctx)
}

// Peer is what is known of a sender's connection.
type Peer struct {
	Address netip.Addr
	// Authorization has the values of the call's authorization header, as they
	// were received.
	Authorization []string
}

// Reason is why a sender was refused. It is also a label of a metric.
type Reason string

const (
	// Malformed: the sender must change what it says about itself.
	Malformed Reason = "malformed"
	// BadSignature: the licence key is not one that this gateway trusts.
	BadSignature Reason = "bad_signature"
	// Expired, Revoked and NotAllowed: the sender is known and unwelcome.
	Expired    Reason = "expired"
	Revoked    Reason = "revoked"
	NotAllowed Reason = "not_allowed"
	// RateLimited: the sender may come back after Refusal.RetryAfter, or must
	// send less at once.
	RateLimited Reason = "rate_limited"
	// Unsupported: this gateway cannot prove this kind of sender.
	Unsupported Reason = "unsupported"
	// Unauthenticated: the call has no access token that counts. A new one may
	// be let in.
	Unauthenticated Reason = "unauthenticated"
	// Unavailable: the access token cannot be checked now. The same call may be
	// let in after Refusal.RetryAfter.
	Unavailable Reason = "unavailable"
)

// Reasons lists every reason there is.
func Reasons() []Reason {
	return []Reason{Malformed, BadSignature, Expired, Revoked, NotAllowed, RateLimited, Unsupported, Unauthenticated, Unavailable}
}

// Refusal is the error of everyone who is not let in. Its text tells the
// sender what to do, and holds no secret.
type Refusal struct {
	Reason  Reason
	Message string
	// RetryAfter is how long to wait until the same call may be let in. It is
	// zero when waiting does not help.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Message }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Identities tells who is who. It may be used by several goroutines at once.
type Identities struct {
	licensed   *licensed
	unlicensed *unlicensed
	services   *services
}

// Options of New.
type Options struct {
	Licenses   LicenseOptions
	Unlicensed UnlicensedOptions
	Services   ServiceOptions
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// New reads what it needs to tell senders apart. An error means that a file
// cannot be read or understood.
func New(o Options) (*Identities, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	l, err := newLicensed(o.Licenses, o.Now)
	if err != nil {
		return nil, err
	}
	s, err := newServices(o.Services, o.Now)
	if err != nil {
		return nil, err
	}
	return &Identities{licensed: l, unlicensed: newUnlicensed(o.Unlicensed, o.Now), services: s}, nil
}

// Run keeps up with files that change, and with the provider of access tokens,
// until ctx ends.
func (i *Identities) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { i.licensed.run(ctx) })
	running.Go(func() { i.services.run(ctx) })
	running.Wait()
}

// Reload reads files now that Run would read soon. After an error what they
// said before stays in force.
func (i *Identities) Reload() error {
	return errors.Join(i.licensed.reload(), i.services.reload())
}

// Identify establishes who sent id. Its error is a *Refusal.
func (i *Identities) Identify(ctx context.Context, id *telemetrygatewayv1.Identifier, peer Peer) (*Sender, error) {
	switch id := id.GetIdentifier().(type) {
	case *telemetrygatewayv1.Identifier_LicensedInstance:
		return i.licensed.identify(id.LicensedInstance)
	case *telemetrygatewayv1.Identifier_UnlicensedInstance:
		return i.unlicensed.identify(id.UnlicensedInstance, peer)
	case *telemetrygatewayv1.Identifier_ManagedService:
		return i.services.identify(ctx, id.ManagedService, peer)
	default:
		return nil, refuse(Unsupported, "this gateway does not know this kind of sender: the identifier has none of licensed_instance, unlicensed_instance and managed_service")
	}
}

// checkText refuses text that is too long or cannot be shown on one line of a
// log or a terminal as it is.
func checkText(field, s string, longest int) error {
	if err := checkEncoding(field, s, longest); err != nil {
		return err
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return refuse(Malformed, "%s contains a control character", field)
	}
	return nil
}

// checkEncoding refuses text that is too long or not text at all.
func checkEncoding(field, s string, longest int) error {
	switch {
	case len(s) > longest:
		return refuse(Malformed, "%s has %d bytes; at most %d are allowed", field, len(s), longest)
	case !utf8.ValidString(s):
		return refuse(Malformed, "%s is not valid UTF-8", field)
	}
	return nil
}

// checkInstance checks what both kinds of instance say about themselves.
func checkInstance(kind, instanceID, externalURL string) error {
	if err := checkText(kind+".instance_id", instanceID, limits.SenderIDBytes); err != nil {
		return err
	}
	// Instances in the field send the URL as their administrator typed it, a
	// line break at its end included, and it tells nobody apart.
	return checkEncoding(kind+".external_url", externalURL, limits.ExternalURLBytes)
}
