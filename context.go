// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import "context"

// Actor is who did what is recorded. The zero value is nobody.
type Actor struct {
	// UserID is the application's own number for the user, or 0.
	UserID int64
	// AnonymousUserID stands for someone who is not signed in.
	AnonymousUserID string
	// ExternalID is the user's ID at a central accounts service.
	ExternalID string
}

// Client is the software in front of the user, such as a web app or an
// extension. The zero value stands for none: the backend recorded by itself.
type Client struct {
	// Name such as "web" or "vscode".
	Name    string
	Version string
}

// Interaction is what the user does, in so far as it ties events together.
type Interaction struct {
	// ID is chosen by whoever begins the interaction. Params.InteractionID goes
	// before it.
	ID string
	// TraceID is the trace, in hexadecimal. It goes before Options.TraceID.
	TraceID string
	// CountryCode is roughly where the user is, as in ISO 3166-1 alpha-2.
	CountryCode string
}

type (
	actorKey       struct{}
	clientKey      struct{}
	interactionKey struct{}
)

// WithActor returns a context in which a acts.
func WithActor(ctx context.Context, a Actor) context.Context { return with(ctx, actorKey{}, a) }

// ActorFrom returns who acts in ctx: the zero Actor if that is not known.
func ActorFrom(ctx context.Context) Actor { return from[Actor](ctx, actorKey{}) }

// WithClient returns a context in which c is what the user sees.
func WithClient(ctx context.Context, c Client) context.Context { return with(ctx, clientKey{}, c) }

// ClientFrom returns what the user sees: the zero Client if that is not known.
func ClientFrom(ctx context.Context) Client { return from[Client](ctx, clientKey{}) }

// WithInteraction returns a context that is part of i.
func WithInteraction(ctx context.Context, i Interaction) context.Context {
	return with(ctx, interactionKey{}, i)
}

// InteractionFrom returns what ctx is part of: the zero Interaction if that is
// not known.
func InteractionFrom(ctx context.Context) Interaction {
	return from[Interaction](ctx, interactionKey{})
}

func with(ctx context.Context, key, value any) context.Context {
	if ctx == nil {
		ctx = context.Background() // context.WithValue would panic
	}
	return context.WithValue(ctx, key, value)
}

func from[T any](ctx context.Context, key any) T {
	if ctx == nil {
		return *new(T)
	}
	value, _ := ctx.Value(key).(T)
	return value
}
