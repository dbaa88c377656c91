// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/identity"
	"github.com/telemetrygateway/telemetry/internal/payload"
)

// TestPublishedSender shows that what is published says who sent it, and how
// far that is to be believed.
func TestPublishedSender(t *testing.T) {
	for _, row := range []struct {
		name     string
		licensed bool
		later    time.Duration // than the licence was issued
		form     payload.KeyForm
		source   string
		trust    string
		status   string // of the licence
	}{
		{name: "licensed", licensed: true, source: "licensed_instance", trust: "licensed", status: "valid"},
		{name: "expired", licensed: true, later: 2 * time.Hour, source: "licensed_instance", trust: "licensed", status: "expired"},
		{name: "with its key", licensed: true, form: payload.KeyFull, source: "licensed_instance", trust: "licensed", status: "valid"},
		{name: "unlicensed", source: "unlicensed_instance", trust: "unlicensed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := start(t, func(o *Options, i *identity.Options, _ *ServeOptions) {
				o.KeyForm = row.form
				i.Now = func() time.Time { return time.Now().Add(row.later) }
			})
			md, key := unlicensedMetadata("site"), ""
			if row.licensed {
				md = s.licensedMetadata()
			}
			if row.form == payload.KeyFull {
				key = s.license
			}
			if _, err := exchange(t, s, metadataMessage(md), eventsMessage(event("a"), &pb.Event{Id: "bad"})); err != nil {
				t.Fatal(err)
			}
			m, err := payload.Decode(messages(t, s.topic, 1)[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			letter, err := payload.DecodeDeadLetter(messages(t, s.dead, 1)[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			for what, o := range map[string]payload.Origin{"payload": m.Origin, "dead letter": letter.Origin} {
				if o.Labels["publisher.source"] != row.source || o.Labels["publisher.id"] != "site" ||
					o.Labels["publisher.trust"] != row.trust || o.Labels["license.status"] != row.status {
					t.Errorf("%s: labels are %v", what, o.Labels)
				}
				if got := o.Metadata.GetIdentifier().GetLicensedInstance().GetLicenseKey(); got != key {
					t.Errorf("%s: licence key is %q, want %q", what, got, key)
				}
				if l := o.License; (l != nil) != row.licensed || l != nil &&
					(l.ID == "" || l.KeyID != "vendor-2026" || l.Status != row.status || l.Version != 4 || l.Users != 10 ||
						strings.Join(l.Tags, " ") != "plan:test" || l.ExpiresAt.Sub(l.CreatedAt).Round(time.Second) != time.Hour ||
						!strings.HasPrefix(l.Fingerprint, "sha256:")) {
					t.Errorf("%s: licence is %+v", what, l)
				}
			}
		})
	}
}

// TestRefusals has the code for each reason not to let a sender in.
func TestRefusals(t *testing.T) {
	want := map[identity.Reason]connect.Code{
		identity.Malformed:       connect.CodeInvalidArgument,
		identity.BadSignature:    connect.CodeInvalidArgument,
		identity.Expired:         connect.CodePermissionDenied,
		identity.Revoked:         connect.CodePermissionDenied,
		identity.NotAllowed:      connect.CodePermissionDenied,
		identity.RateLimited:     connect.CodeResourceExhausted,
		identity.Unsupported:     connect.CodeUnimplemented,
		identity.Unauthenticated: connect.CodeUnauthenticated,
		identity.Unavailable:     connect.CodeUnavailable,
	}
	for _, reason := range identity.Reasons() {
		err := refused(&identity.Refusal{Reason: reason, Message: "why"})
		if code := connect.CodeOf(err); code != want[reason] || !strings.Contains(err.Error(), "why") {
			t.Errorf("%s: %v, want %v", reason, err, want[reason])
		}
	}
	if err := refused(errors.New("SECRET")); connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("an error that is no refusal: %v", err)
	}
}
