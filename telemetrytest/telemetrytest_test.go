// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetrytest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
	"github.com/telemetrygateway/telemetry/telemetrytest"
)

// checkout is an application: it sells things, and tells.
type checkout struct{ recorder *telemetry.Recorder }

func (c checkout) buy(ctx context.Context, items int) {
	c.recorder.TryRecord(ctx, "cart", "opened", telemetry.Params{})
	c.recorder.TryRecord(ctx, "cart", "paid", telemetry.Params{Metadata: telemetry.Metadata{"items": telemetry.Number(items)}})
}

func TestAnApplication(t *testing.T) {
	recorder, events := telemetrytest.New(t)
	shop := checkout{recorder}
	ctx := telemetry.WithActor(context.Background(), telemetry.Actor{UserID: 7})
	shop.buy(ctx, 3)

	events.Want("cart/opened", "cart/paid")
	paid := events.One("cart", "paid")
	if paid.GetParameters().GetMetadata()["items"] != 3 || paid.GetUser().GetUserId() != 7 {
		t.Errorf("recorded %v", paid)
	}
	if events.Last() != paid || len(events.All()) != 2 || len(events.Of("cart", "opened")) != 1 || len(events.Of("cart", "left")) != 0 {
		t.Errorf("recorded %s", events)
	}

	events.Reset()
	events.Want()
	events.Fail(errors.New("the disk is full"))
	shop.buy(ctx, 1) // must not mind
	events.Want()
	events.Fail(nil)
	shop.buy(ctx, 1)
	events.Want("cart/opened", "cart/paid")
}

// A spy is a test that is expected to fail.
type spy struct {
	testing.TB
	said []string
}

func (s *spy) Helper()                        {}
func (s *spy) Errorf(format string, a ...any) { s.said = append(s.said, fmt.Sprintf(format, a...)) }
func (s *spy) Fatal(a ...any)                 { s.said = append(s.said, fmt.Sprint(a...)); panic(s) }
func (s *spy) Fatalf(format string, a ...any) { s.Errorf(format, a...); panic(s) }

func TestAssertionsFail(t *testing.T) {
	ctx := context.Background()
	for _, row := range []struct {
		name string
		test func(*telemetry.Recorder, *telemetrytest.Events)
		says string
	}{
		{"too little", func(_ *telemetry.Recorder, e *telemetrytest.Events) { e.Want("cart/opened") }, "recorded are: none\nwant:         cart/opened"},
		{"too much", func(r *telemetry.Recorder, e *telemetrytest.Events) {
			r.TryRecord(ctx, "cart", "paid", telemetry.Params{})
			e.Want()
		}, "recorded are: cart/paid\nwant:         none"},
		{"in another order", func(r *telemetry.Recorder, e *telemetrytest.Events) {
			r.TryRecord(ctx, "cart", "paid", telemetry.Params{})
			r.TryRecord(ctx, "cart", "opened", telemetry.Params{})
			e.Want("cart/opened", "cart/paid")
		}, "recorded are: cart/paid, cart/opened"},
		{"none at all", func(_ *telemetry.Recorder, e *telemetrytest.Events) { e.Last() }, "no event was recorded"},
		{"not one", func(r *telemetry.Recorder, e *telemetrytest.Events) {
			r.TryRecord(ctx, "cart", "paid", telemetry.Params{})
			r.TryRecord(ctx, "cart", "paid", telemetry.Params{})
			e.One("cart", "paid")
		}, "cart/paid was recorded 2 times, want once; recorded are: cart/paid, cart/paid"},
		{"another one", func(_ *telemetry.Recorder, e *telemetrytest.Events) { e.One("cart", "paid") }, "cart/paid was recorded 0 times"},
		{"no event", func(r *telemetry.Recorder, _ *telemetrytest.Events) {
			r.TryRecord(ctx, "cart", "2nd", telemetry.Params{})
		}, "action_invalid"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &spy{TB: t}
			func() {
				defer func() {
					if p := recover(); p != nil && p != any(s) {
						panic(p)
					}
				}()
				row.test(telemetrytest.New(s))
			}()
			if len(s.said) != 1 || !strings.Contains(s.said[0], row.says) {
				t.Errorf("the test said %q, want %q", s.said, row.says)
			}
		})
	}
}

// Add takes no event that a recorder would not make.
func TestStoreIsStrict(t *testing.T) {
	event := func(change func(*telemetrygatewayv1.Event)) *telemetrygatewayv1.Event {
		e := &telemetrygatewayv1.Event{Id: "a", Timestamp: timestamppb.Now(), Feature: "cart", Action: "paid"}
		change(e)
		return e
	}
	_, events := telemetrytest.New(t)
	good := event(func(*telemetrygatewayv1.Event) {})
	for name, bad := range map[string]*telemetrygatewayv1.Event{
		"nil":       nil,
		"no ID":     event(func(e *telemetrygatewayv1.Event) { e.Id = "" }),
		"bad name":  event(func(e *telemetrygatewayv1.Event) { e.Feature = "Cart" }),
		"not UTF-8": event(func(e *telemetrygatewayv1.Event) { e.Id = "\xff" }),
		"too large": event(func(e *telemetrygatewayv1.Event) {
			e.Interaction = &telemetrygatewayv1.EventInteraction{InteractionId: new(string)}
			*e.Interaction.InteractionId = strings.Repeat("x", 1<<20)
		}),
	} {
		if err := events.Add(context.Background(), good, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	events.Want()
	for range 2 {
		if err := events.Add(context.Background(), good); err != nil {
			t.Fatal(err)
		}
	}
	events.Want("cart/paid")
}
