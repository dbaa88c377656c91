// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// today is the time of the fake clock. Licences of these tests expire a year
// later, or have expired a day before.
var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var somewhere = Peer{Address: netip.MustParseAddr("192.0.2.1")}

func licensedID(key, instanceID, externalURL string) *telemetrygatewayv1.Identifier {
	return &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{
		LicensedInstance: &telemetrygatewayv1.Identifier_LicensedInstanceIdentifier{
			LicenseKey: key, InstanceId: instanceID, ExternalUrl: externalURL,
		},
	}}
}

func unlicensedID(instanceID, externalURL string) *telemetrygatewayv1.Identifier {
	return &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{
		UnlicensedInstance: &telemetrygatewayv1.Identifier_UnlicensedInstanceIdentifier{
			InstanceId: instanceID, ExternalUrl: externalURL,
		},
	}}
}

func serviceID(id string) *telemetrygatewayv1.Identifier {
	return &telemetrygatewayv1.Identifier{Identifier: &telemetrygatewayv1.Identifier_ManagedService{
		ManagedService: &telemetrygatewayv1.Identifier_ManagedServiceIdentifier{ServiceId: id},
	}}
}

func newIdentities(t testing.TB, o Options) *Identities {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return today }
	}
	ids, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func mustIdentify(t testing.TB, ids *Identities, id *telemetrygatewayv1.Identifier, peer Peer) *Sender {
	t.Helper()
	s, err := ids.Identify(context.Background(), id, peer)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return s
}

// wantRefusal returns the refusal that err must be.
func wantRefusal(t testing.TB, err error, reason Reason) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("error is %v, want a refusal for %q", err, reason)
	}
	if r.Reason != reason {
		t.Fatalf("refused for %q (%v), want %q", r.Reason, err, reason)
	}
	return r
}

func TestEveryReasonIsProduced(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	expired := vendor.issue(t, -time.Hour)
	revoked := vendor.issue(t, time.Hour)
	ids := newIdentities(t, Options{
		Licenses: LicenseOptions{
			KeysFile: writeFile(t, "keys", vendor.public), RevokedFile: writeFile(t, "revoked", vendor.idOf(t, revoked)), DenyExpired: true,
		},
		Unlicensed: UnlicensedOptions{Deny: true},
	})
	limited := newIdentities(t, Options{Unlicensed: UnlicensedOptions{Burst: 1}})
	mustIdentify(t, limited, unlicensedID("site", ""), somewhere)
	provider := newIntrospector(t)
	services := provider.identities(t)
	provider.Close()

	produced := map[Reason]bool{}
	for _, c := range []struct {
		ids *Identities
		id  *telemetrygatewayv1.Identifier
	}{
		{ids, licensedID("not a key", "site", "")},
		{ids, licensedID(newIssuer(t, "stranger").issue(t, time.Hour), "site", "")},
		{ids, licensedID(expired, "site", "")},
		{ids, licensedID(revoked, "site", "")},
		{ids, unlicensedID("site", "")},
		{ids, serviceID("service")},
		{limited, unlicensedID("site", "")},
		{services, serviceID("service")},
		{services, serviceID("pings")},
	} {
		peer := somewhere
		if c.id.GetManagedService().GetServiceId() == "pings" {
			peer.Authorization = []string{"Bearer " + goodToken}
		}
		_, err := c.ids.Identify(t.Context(), c.id, peer)
		var r *Refusal
		if !errors.As(err, &r) {
			t.Fatalf("error is %v, want a refusal", err)
		}
		produced[r.Reason] = true
	}
	for _, r := range Reasons() {
		if !produced[r] {
			t.Errorf("reason %q was not produced", r)
		}
		delete(produced, r)
	}
	for r := range produced {
		t.Errorf("reason %q is missing from Reasons", r)
	}
}

func TestEveryKindOfSenderHasACase(t *testing.T) {
	ids := newIdentities(t, Options{})
	_, unknown := ids.Identify(t.Context(), &telemetrygatewayv1.Identifier{}, somewhere)
	arms := (&telemetrygatewayv1.Identifier{}).ProtoReflect().Descriptor().Oneofs().ByName("identifier").Fields()
	for i := range arms.Len() {
		arm := arms.Get(i)
		id := &telemetrygatewayv1.Identifier{}
		m := id.ProtoReflect()
		m.Set(arm, m.NewField(arm))
		if _, err := ids.Identify(t.Context(), id, somewhere); err == nil || err.Error() == unknown.Error() {
			t.Errorf("Identify has no case for %s (error: %v)", arm.Name(), err)
		}
	}
}

func TestNobody(t *testing.T) {
	ids := newIdentities(t, Options{})
	for name, id := range map[string]*telemetrygatewayv1.Identifier{
		"nil": nil, "without an arm": {},
	} {
		_, err := ids.Identify(t.Context(), id, somewhere)
		if r := wantRefusal(t, err, Unsupported); !strings.Contains(r.Message, "licensed_instance") {
			t.Errorf("%s: %q does not say what is known", name, r)
		}
	}
	for name, id := range map[string]*telemetrygatewayv1.Identifier{
		"licensed":   {Identifier: &telemetrygatewayv1.Identifier_LicensedInstance{}},
		"unlicensed": {Identifier: &telemetrygatewayv1.Identifier_UnlicensedInstance{}},
		"service":    {Identifier: &telemetrygatewayv1.Identifier_ManagedService{}},
	} {
		if _, err := ids.Identify(t.Context(), id, somewhere); err == nil {
			t.Errorf("a nil %s was let in", name)
		}
	}
}

func TestManagedService(t *testing.T) {
	ids := newIdentities(t, Options{})
	for _, c := range []struct {
		id     string
		reason Reason
		text   string
	}{
		{"", Malformed, "service_id is empty"},
		{"bad\nname", Malformed, "control character"},
		{strings.Repeat("x", limits.SenderIDBytes+1), Malformed, "at most 128"},
		{"telemetry-prod", Unsupported, "without -oauth-issuer and -oauth-introspection-url"},
	} {
		_, err := ids.Identify(t.Context(), serviceID(c.id), somewhere)
		if r := wantRefusal(t, err, c.reason); !strings.Contains(r.Message, c.text) {
			t.Errorf("%q: %q does not contain %q", c.id, r, c.text)
		}
	}
}

func TestWhatInstancesSayOfThemselves(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	key := vendor.issue(t, time.Hour)
	ids := newIdentities(t, Options{Licenses: LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public)}})
	kinds := map[string]func(instanceID, externalURL string) *telemetrygatewayv1.Identifier{
		"licensed_instance":   func(id, url string) *telemetrygatewayv1.Identifier { return licensedID(key, id, url) },
		"unlicensed_instance": unlicensedID,
	}
	for _, c := range []struct {
		name, id, url string
		text          string // of the refusal; empty if there is none
	}{
		{"plain", "site", "https://site.example", ""},
		{"without a URL", "site", "", ""},
		{"URL as it was typed", "site", "https://site.example \n", ""},
		{"any script", "köln-東京", "https://köln.example", ""},
		{"longest", strings.Repeat("x", limits.SenderIDBytes), strings.Repeat("x", limits.ExternalURLBytes), ""},
		{"long ID", strings.Repeat("x", limits.SenderIDBytes+1), "", ".instance_id has 129 bytes; at most 128"},
		{"long URL", "site", strings.Repeat("x", limits.ExternalURLBytes+1), ".external_url has 1025 bytes; at most 1024"},
		{"line break in the ID", "si\nte", "", ".instance_id contains a control character"},
		{"zero byte in the ID", "site\x00", "", ".instance_id contains a control character"},
		{"delete in the ID", "site\x7f", "", ".instance_id contains a control character"},
		{"C1 control in the ID", "site\u009b31m", "", ".instance_id contains a control character"},
		{"invalid UTF-8 in the ID", "site\xff", "", ".instance_id is not valid UTF-8"},
		{"cut UTF-8 in the URL", "site", "https://k\xc3", ".external_url is not valid UTF-8"},
	} {
		for kind, identifier := range kinds {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				s, err := ids.Identify(t.Context(), identifier(c.id, c.url), somewhere)
				if c.text == "" {
					if err != nil {
						t.Fatalf("refused: %v", err)
					}
					if s.ID != c.id || string(s.Kind) != kind {
						t.Errorf("is %s %q, want %s %q", s.Kind, s.ID, kind, c.id)
					}
					return
				}
				if r := wantRefusal(t, err, Malformed); r.Message == "" || !strings.HasPrefix(r.Message, kind+c.text) {
					t.Errorf("text is %q, want %q first", r, kind+c.text)
				}
			})
		}
	}
}

// Whatever instances call themselves, their scopes differ when their licences
// do, and never look like those of another kind of sender.
func TestScopes(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	ids := newIdentities(t, Options{
		Licenses:   LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public)},
		Unlicensed: UnlicensedOptions{Rate: 1e9, Burst: 1e9, TotalRate: 1e9, TotalBurst: 1e9},
	})
	keys := []string{"", vendor.issue(t, time.Hour), vendor.issue(t, time.Hour), vendor.issueOld(t, time.Hour)}
	type sender struct{ key, id string }
	of := map[string]sender{}
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{
		"/", "%", "%2F", "%25", "..", ".", "license", "unlicensed", "sha256:", "é", " ", "?", "#", "a",
		vendor.idOf(t, keys[1]), vendor.idOf(t, keys[2]), strings.Repeat("é", limits.SenderIDBytes/2),
	}
	for range 3000 {
		var id string
		for range random.IntN(6) {
			if p := pieces[random.IntN(len(pieces))]; len(id)+len(p) <= limits.SenderIDBytes {
				id += p
			}
		}
		key := keys[random.IntN(len(keys))]
		var s *Sender
		switch {
		case key != "":
			s = mustIdentify(t, ids, licensedID(key, id, ""), somewhere)
		case id != "":
			s = mustIdentify(t, ids, unlicensedID(id, ""), somewhere)
		default:
			continue
		}
		if len(s.Scope) > limits.IdentityBytes {
			t.Fatalf("scope %q has %d bytes, more than %d", s.Scope, len(s.Scope), limits.IdentityBytes)
		}
		if other, ok := of[s.Scope]; ok && other != (sender{key, id}) {
			t.Fatalf("instances %q and %q share the scope %q", id, other.id, s.Scope)
		}
		of[s.Scope] = sender{key, id}
	}
}

// Warehouses hold scopes, so their form must not change.
func TestFormOfScopes(t *testing.T) {
	vendor := newIssuer(t, "vendor")
	ids := newIdentities(t, Options{Licenses: LicenseOptions{KeysFile: writeFile(t, "keys", vendor.public)}})
	key, old := vendor.issue(t, time.Hour), vendor.issueOld(t, time.Hour)
	for _, c := range []struct {
		id   *telemetrygatewayv1.Identifier
		want string
	}{
		{licensedID(key, "site", ""), "license/" + vendor.idOf(t, key) + "/site"},
		{licensedID(key, "", ""), "license/" + vendor.idOf(t, key) + "/"},
		{licensedID(old, "a/b %é", ""), "license/" + vendor.verify(t, old).Fingerprint() + "/a%2Fb%20%25%C3%A9"},
		{unlicensedID("https://site.example", ""), "unlicensed/https:%2F%2Fsite.example"},
	} {
		if s := mustIdentify(t, ids, c.id, somewhere); s.Scope != c.want {
			t.Errorf("scope is %q, want %q", s.Scope, c.want)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	vendor := newIssuer(f, "vendor")
	ids := newIdentities(f, Options{
		Licenses:   LicenseOptions{KeysFile: writeFile(f, "keys", vendor.public)},
		Unlicensed: UnlicensedOptions{Rate: 1e9, Burst: 1e9, TotalRate: 1e9, TotalBurst: 1e9},
	})
	for _, id := range []*telemetrygatewayv1.Identifier{
		{},
		licensedID(vendor.issue(f, time.Hour), "site", "https://site.example"),
		licensedID(vendor.issue(f, -time.Hour), "", ""),
		licensedID(vendor.issueOld(f, time.Hour), "site", ""),
		licensedID(newIssuer(f, "stranger").issue(f, time.Hour), "site", ""),
		licensedID("e30", "site", ""),                            // {}
		licensedID("eyJzaWciOm51bGwsImluZm8iOiIifQ", "site", ""), // {"sig":null,"info":""}
		unlicensedID("site", "https://site.example"),
		unlicensedID("", ""),
		unlicensedID("site\x1b[31m", ""),
		serviceID("service"),
		serviceID(""),
	} {
		wire, err := proto.Marshal(id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, somewhere.Address.AsSlice())
		f.Add(append(wire, wire...), []byte{})
	}
	f.Add([]byte("\x0a\x03\x12\x01\xff"), []byte("sixteen bytes ok")) // invalid UTF-8
	known := map[Reason]bool{}
	for _, r := range Reasons() {
		known[r] = true
	}
	f.Fuzz(func(t *testing.T, wire, address []byte) {
		id := new(telemetrygatewayv1.Identifier)
		if proto.Unmarshal(wire, id) != nil {
			return
		}
		peer := Peer{}
		peer.Address, _ = netip.AddrFromSlice(address)
		s, err := ids.Identify(t.Context(), id, peer)
		if err == nil {
			if err = s.Recheck(t.Context()); err == nil {
				err = s.Admit(1)
			}
			if len(s.Scope) > limits.IdentityBytes || len(s.ID) > limits.SenderIDBytes || !utf8.ValidString(s.Scope+s.ID) {
				t.Errorf("let in %q with the scope %q", s.ID, s.Scope)
			}
		}
		if err == nil {
			return
		}
		var r *Refusal
		if !errors.As(err, &r) || !known[r.Reason] || r.Message == "" {
			t.Errorf("error is %#v, want a refusal with a known reason", err)
		}
	})
}
