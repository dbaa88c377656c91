// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

const (
	visitorCookie = "visitor"   // who it is, known by nothing but this ID
	consentCookie = "telemetry" // "off" once the page's switch was turned off
)

type declinedKey struct{}

// visitors puts into each request's context who acts, in which interaction, and
// whether that may be recorded. It holds for all that is recorded in that
// context, whether by the backend or by the page through intake: a page cannot
// say who it is.
func visitors(secure bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := ""
		if c, err := r.Cookie(visitorCookie); err == nil && uuid.Validate(c.Value) == nil {
			id = c.Value
		} else {
			id = uuid.NewString()
			// No script can read it, and no other site can make a browser change
			// something with it.
			http.SetCookie(w, &http.Cookie{
				Name: visitorCookie, Value: id, Path: "/", MaxAge: 365 * 24 * 60 * 60,
				HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure,
			})
		}
		ctx := telemetry.WithActor(r.Context(), telemetry.Actor{AnonymousUserID: id})
		// The page makes up an ID for each visit. It ties what the page records to
		// what the backend does for it.
		if visit := r.Header.Get("X-Visit"); uuid.Validate(visit) == nil {
			ctx = telemetry.WithInteraction(ctx, telemetry.Interaction{ID: visit})
		}
		consent, err := r.Cookie(consentCookie)
		if r.Header.Get("DNT") == "1" || r.Header.Get("Sec-GPC") == "1" || err == nil && consent.Value == "off" {
			ctx = context.WithValue(ctx, declinedKey{}, true)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func visitorOf(r *http.Request) string { return telemetry.ActorFrom(r.Context()).AnonymousUserID }

// consenting is a store that leaves out what a visitor does not want recorded.
// Anything with this one method is a store.
type consenting struct{ telemetry.Store }

func (c consenting) Add(ctx context.Context, events ...*telemetrygatewayv1.Event) error {
	if ctx.Value(declinedKey{}) != nil {
		return nil
	}
	return c.Store.Add(ctx, events...)
}
