// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

func peer(address string) Peer { return Peer{Address: netip.MustParseAddr(address)} }

// A clock that only moves when told.
type clock struct{ now time.Time }

func (c *clock) wait(d time.Duration) { c.now = c.now.Add(d) }

func newLimited(t testing.TB, o UnlicensedOptions) (*Identities, *clock) {
	t.Helper()
	c := &clock{today}
	return newIdentities(t, Options{Unlicensed: o, Now: func() time.Time { return c.now }}), c
}

func TestUnlicensed(t *testing.T) {
	ids, _ := newLimited(t, UnlicensedOptions{})
	s := mustIdentify(t, ids, unlicensedID("site", "https://site.example"), somewhere)
	if s.Kind != UnlicensedInstance || s.ID != "site" || s.License != nil || s.LicenseStatus != "" {
		t.Errorf("is %+v", s)
	}
	if err := s.Recheck(t.Context()); err != nil {
		t.Errorf("refused later: %v", err)
	}
	_, err := ids.Identify(t.Context(), unlicensedID("", ""), somewhere)
	wantRefusal(t, err, Malformed)

	deny, _ := newLimited(t, UnlicensedOptions{Deny: true})
	_, err = deny.Identify(t.Context(), unlicensedID("site", ""), somewhere)
	if r := wantRefusal(t, err, NotAllowed); !strings.Contains(r.Message, "no events from unlicensed instances") {
		t.Errorf("text is %q", r)
	}
}

// With the default limits a sender of the largest messages is never stuck.
func TestLargestMessageFitsTheDefaults(t *testing.T) {
	ids, clock := newLimited(t, UnlicensedOptions{})
	for range 3 {
		s := mustIdentify(t, ids, unlicensedID("site", ""), somewhere)
		if err := s.Admit(limits.EventsPerMessage); err != nil {
			t.Fatalf("refused: %v", err)
		}
		r := wantRefusal(t, s.Admit(limits.EventsPerMessage), RateLimited)
		clock.wait(r.RetryAfter + time.Second) // and for the call itself
	}
}

func TestRateOfAnAddress(t *testing.T) {
	ids, clock := newLimited(t, UnlicensedOptions{Rate: 10, Burst: 101})
	s := mustIdentify(t, ids, unlicensedID("site", ""), somewhere)
	if err := s.Admit(100); err != nil {
		t.Fatalf("less than the burst: %v", err)
	}
	r := wantRefusal(t, s.Admit(1), RateLimited)
	if !strings.Contains(r.Message, "this address") || !strings.Contains(r.Message, "wait 1s") {
		t.Errorf("text is %q", r)
	}
	if _, err := ids.Identify(t.Context(), unlicensedID("another", ""), somewhere); err == nil {
		t.Error("another ID got another allowance")
	}
	if err := mustIdentify(t, ids, unlicensedID("site", ""), peer("192.0.2.2")).Admit(100); err != nil {
		t.Errorf("another address: %v", err)
	}
	clock.wait(5 * time.Second)
	if err := s.Admit(50); err != nil {
		t.Errorf("five seconds later: %v", err)
	}
	wantRefusal(t, s.Admit(1), RateLimited)
	clock.wait(time.Hour)
	wantRefusal(t, s.Admit(102), RateLimited) // more than the burst is never saved up
	if err := s.Admit(101); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestRateOfAllTogether(t *testing.T) {
	ids, clock := newLimited(t, UnlicensedOptions{TotalRate: 10, TotalBurst: 100})
	for i := range 100 {
		mustIdentify(t, ids, unlicensedID("site", ""), peer(fmt.Sprintf("192.0.2.%d", i)))
	}
	_, err := ids.Identify(t.Context(), unlicensedID("site", ""), peer("198.51.100.1"))
	if r := wantRefusal(t, err, RateLimited); !strings.Contains(r.Message, "all unlicensed instances together") {
		t.Errorf("text is %q", r)
	}
	clock.wait(time.Second)
	if err := mustIdentify(t, ids, unlicensedID("site", ""), peer("198.51.100.1")).Admit(9); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestRefusalTakesNothing(t *testing.T) {
	t.Run("of the address's own", func(t *testing.T) {
		// An own allowance that does not come back, and a total that does.
		ids, clock := newLimited(t, UnlicensedOptions{Rate: 1e-9, Burst: 11, TotalRate: 10, TotalBurst: 12})
		s := mustIdentify(t, ids, unlicensedID("site", ""), peer("192.0.2.1"))
		other := mustIdentify(t, ids, unlicensedID("site", ""), peer("192.0.2.2"))
		if err := other.Admit(10); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			wantRefusal(t, s.Admit(10), RateLimited)
		}
		clock.wait(time.Second)
		if err := s.Admit(10); err != nil {
			t.Errorf("what the total refused was taken: %v", err)
		}
	})
	t.Run("of the total", func(t *testing.T) {
		ids, _ := newLimited(t, UnlicensedOptions{Rate: 1e-9, Burst: 11, TotalRate: 1e-9, TotalBurst: 22})
		greedy := mustIdentify(t, ids, unlicensedID("site", ""), peer("192.0.2.1"))
		for range 100 {
			wantRefusal(t, greedy.Admit(11), RateLimited) // one is used up
			wantRefusal(t, greedy.Admit(1000), RateLimited)
		}
		s := mustIdentify(t, ids, unlicensedID("site", ""), peer("192.0.2.2"))
		if err := s.Admit(10); err != nil {
			t.Errorf("what the address was refused was taken: %v", err)
		}
		if err := greedy.Admit(10); err != nil {
			t.Errorf("what the address was refused was taken: %v", err)
		}
	})
}

// After RetryAfter the same call is let in, and it is not much too long.
func TestRetryAfter(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	refused := 0
	for range 300 {
		burst, total := 2+random.IntN(20_000), 2+random.IntN(20_000)
		ids, clock := newLimited(t, UnlicensedOptions{
			Rate: 0.001 + random.ExpFloat64()*100, Burst: burst,
			TotalRate: 0.001 + random.ExpFloat64()*100, TotalBurst: total,
		})
		s := mustIdentify(t, ids, unlicensedID("site", ""), somewhere)
		for range 30 {
			n := 1 + random.IntN(min(burst, total))
			// At most twice: for the one limit and then for the other.
			for tries := 0; ; tries++ {
				err := s.Admit(n)
				if err == nil {
					break
				}
				if tries == 2 {
					t.Fatalf("still refused: %v", err)
				}
				refused++
				r := wantRefusal(t, err, RateLimited)
				early := r.RetryAfter - time.Second - time.Millisecond
				if early > 0 {
					clock.wait(early)
					wantRefusal(t, s.Admit(n), RateLimited)
				}
				clock.wait(r.RetryAfter - max(early, 0))
			}
			clock.wait(time.Duration(random.Int64N(int64(10 * time.Second))))
		}
	}
	if refused < 1000 {
		t.Errorf("only %d refusals were looked at", refused)
	}
}

// No wait makes room for more than the burst, so none is named.
func TestMoreThanTheBurst(t *testing.T) {
	if limits.UnlicensedBurst < limits.EventsPerMessage+1 || limits.UnlicensedTotalBurst < limits.EventsPerMessage+1 {
		t.Error("by default a full message, and the call that carries it, must fit the bursts, or its sender would be stuck")
	}
	for _, c := range []struct {
		o    UnlicensedOptions
		text string
	}{
		{UnlicensedOptions{Burst: 100}, "101 events are more than this gateway ever takes at once from this address (100): send fewer"},
		{UnlicensedOptions{TotalBurst: 100}, "from all unlicensed instances together (100): send fewer"},
	} {
		ids, clock := newLimited(t, c.o)
		s := mustIdentify(t, ids, unlicensedID("site", ""), somewhere)
		clock.wait(time.Hour)
		r := wantRefusal(t, s.Admit(101), RateLimited)
		if !strings.Contains(r.Message, c.text) || r.RetryAfter != 0 {
			t.Errorf("text is %q, and wait %v", r, r.RetryAfter)
		}
		if err := s.Admit(100); err != nil {
			t.Errorf("as many as the burst: %v", err)
		}
	}
}

func TestWhatCountsAsOneAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"fe80::1%eth0", "fe80::2", true},
		{"0.0.0.0", "::", false},
		{"", "", true}, // unknown
		{"", "0.0.0.0", false},
		{"", "::", false},
	} {
		ids, _ := newLimited(t, UnlicensedOptions{Burst: 1})
		var a, b Peer
		if c.a != "" {
			a = peer(c.a)
		}
		if c.b != "" {
			b = peer(c.b)
		}
		mustIdentify(t, ids, unlicensedID("site", ""), a)
		_, err := ids.Identify(t.Context(), unlicensedID("site", ""), b)
		if same := err != nil; same != c.same {
			t.Errorf("%q and %q count as one: %v, want %v", c.a, c.b, same, c.same)
		}
	}
}

func TestLeastRecentlyUsedAddressIsForgotten(t *testing.T) {
	ids, _ := newLimited(t, UnlicensedOptions{Rate: 1e-9, Burst: 2, addresses: 3})
	u := ids.unlicensed
	call := func(address string) error {
		_, err := ids.Identify(t.Context(), unlicensedID("site", ""), peer(address))
		return err
	}
	for _, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"} {
		if err := call(address); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, call("192.0.2.1"), RateLimited) // a refusal is a use, too
	if err := call("192.0.2.4"); err != nil {      // 192.0.2.2 is forgotten
		t.Fatal(err)
	}
	wantRefusal(t, call("192.0.2.1"), RateLimited)
	if err := call("192.0.2.2"); err != nil {
		t.Errorf("a forgotten address does not start afresh: %v", err)
	}
	for i := range 1000 {
		_ = call(fmt.Sprintf("2001:db8:0:%x::1", i))
		if len(u.byNetwork) > 3 || u.visitors.Len() != len(u.byNetwork) {
			t.Fatalf("%d addresses and %d visitors are kept, want at most 3 of each", len(u.byNetwork), u.visitors.Len())
		}
	}
}

// However calls interleave, refused ones neither take from the allowance nor
// stand in the way of those that fit.
func TestAdmitAtOnce(t *testing.T) {
	const burst = 5000
	ids, _ := newLimited(t, UnlicensedOptions{Rate: 1e-9, Burst: 2 * burst, TotalRate: 1e-9, TotalBurst: burst})
	var admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		s := mustIdentify(t, ids, unlicensedID("site", ""), peer(fmt.Sprintf("192.0.2.%d", i%2)))
		admitted.Add(1)
		all.Go(func() {
			for range 100 {
				if s.Admit(burst) == nil || s.Admit(3*burst) == nil {
					t.Error("more than there is was admitted")
				}
				if err := s.Admit(5); err != nil {
					t.Errorf("refused although there is enough: %v", err)
				} else {
					admitted.Add(5)
				}
			}
		})
	}
	all.Wait()
	s := mustIdentify(t, ids, unlicensedID("site", ""), peer("198.51.100.1"))
	for admitted.Add(1); s.Admit(1) == nil; admitted.Add(1) {
	}
	if n := admitted.Load(); n != burst {
		t.Errorf("%d events were admitted, want exactly %d", n, burst)
	}
}
