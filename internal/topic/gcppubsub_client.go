// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// pubsubOpenTimeout bounds finding credentials and asking whether the
	// topic or subscription exists.
	pubsubOpenTimeout = 10 * time.Second
	// pubsubAttemptTimeout bounds one attempt at a request, for a connection
	// that is dead without knowing it. It lets 10 MB through at 1.4 Mbit/s.
	pubsubAttemptTimeout = time.Minute
)

// pubsubResource names a topic or a subscription.
type pubsubResource struct{ project, kind, id string }

func (r pubsubResource) String() string {
	return "projects/" + r.project + "/" + r.kind + "/" + r.id
}

func parsePubSubURL(u *url.URL, kind string) (pubsubResource, error) {
	want := "gcppubsub://projects/PROJECT/" + kind + "/NAME"
	part := strings.Split(u.Host+u.Path, "/")
	if len(part) != 4 || part[0] != "projects" || part[1] == "" || part[3] == "" {
		return pubsubResource{}, fmt.Errorf("want %s", want)
	}
	if part[2] != kind {
		return pubsubResource{}, fmt.Errorf("publishing takes a topic, receiving a subscription: want %s", want)
	}
	if _, err := query(u); err != nil {
		return pubsubResource{}, err
	}
	return pubsubResource{part[1], kind, part[3]}, nil
}

// explain says what an operator can do about an error.
func (r pubsubResource) explain(err error) error {
	if err == nil {
		return nil
	}
	create, role := fmt.Sprintf("gcloud pubsub topics create %s --project %s", r.id, r.project), "roles/pubsub.publisher"
	if r.kind == "subscriptions" {
		create, role = fmt.Sprintf("gcloud pubsub subscriptions create %s --project %s --topic TOPIC", r.id, r.project), "roles/pubsub.subscriber"
	}
	switch status.Code(err) {
	case codes.NotFound:
		return fmt.Errorf("%s does not exist: create it with “%s” (%w)", r, create, err)
	case codes.Unavailable:
		return fmt.Errorf("cannot reach Pub/Sub for %s: check the network, and PUBSUB_EMULATOR_HOST if it is set (%w)", r, err)
	case codes.PermissionDenied:
		return fmt.Errorf("not allowed to use %s: grant %s and roles/pubsub.viewer (%w)", r, role, err)
	}
	return err
}

// dialPubSub opens a client. PUBSUB_EMULATOR_HOST is honoured by the client
// itself. Looking for credentials asks the network whether this is a machine of
// Google's, and takes no context: it is left behind when ctx ends.
func dialPubSub[C io.Closer](ctx context.Context, open func(context.Context, ...option.ClientOption) (C, error)) (C, error) {
	type result struct {
		client C
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// The context is that of opening only: a client outlives it.
		client, err := open(context.WithoutCancel(ctx),
			option.WithGRPCConnectionPool(2), // one carries 100 requests at once
			option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute})))
		done <- result{client, err}
	}()
	var zero C
	const hint = "run “gcloud auth application-default login”, or set GOOGLE_APPLICATION_CREDENTIALS or PUBSUB_EMULATOR_HOST"
	select {
	case r := <-done:
		if r.err != nil {
			return zero, fmt.Errorf("%w: %s", r.err, hint)
		}
		return r.client, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.client.Close()
			}
		}()
		return zero, fmt.Errorf("find credentials: %w: %s", ctx.Err(), hint)
	}
}

// withoutRetry turns off the client's own retries, which stop after a minute
// and forget why they were needed.
var withoutRetry = gax.WithRetry(func() gax.Retryer { return nil })

func pubsubRetry() backoff { return backoff{first: 100 * time.Millisecond, most: 30 * time.Second} }

// persist repeats an attempt until it succeeds, fails in a way that will not
// pass, or ctx ends.
func persist(ctx context.Context, attempt func(context.Context) error) error {
	retry := pubsubRetry()
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, pubsubAttemptTimeout)
			defer cancel()
			return attempt(ctx)
		}()
		if err == nil || !passing(err) {
			return err
		}
		if retry.wait(ctx); ctx.Err() != nil {
			return fmt.Errorf("%w; last answer: %w", context.Cause(ctx), err)
		}
	}
}

// passing reports whether an error may pass by itself.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Aborted, codes.Canceled, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.Unknown:
		return true
	case codes.ResourceExhausted: // a quota, unless it is a size
		return !neverTaken(err)
	}
	return false
}

// neverTaken reports whether the same request will be refused for ever.
func neverTaken(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument:
		return true
	case codes.ResourceExhausted: // how gRPC says that a request is too large
		return strings.Contains(err.Error(), "larger than max")
	}
	return false
}
