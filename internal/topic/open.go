// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Open opens the topic that a URL names, for publishing:
//
//	discard:                         takes everything and keeps nothing
//	log:                             a JSON line a message on standard output, see [AppendLine]
//	memory:?max_messages=N           kept in this process until it ends
//	sqlite://PATH                    kept in a file, which is made if there is none
//	gcppubsub://projects/P/topics/T  Google Cloud Pub/Sub
//
// The path of sqlite: is relative, as in sqlite://data/topic.db, unless a third
// slash begins it, as in sqlite:///var/lib/topic.db; a % or ? in it is written
// %25 or %3F. Several processes on one machine may use the file at once. Its
// parameters say what is removed from it, the oldest first:
//
//	retention=168h  messages that every subscription has acknowledged, when
//	                they are older than this (default 168h; forever: never)
//	max_age=2160h   messages older than this, even if unread (default: never)
//	max_bytes=N     messages beyond this size of all keys, attributes and data,
//	                even if unread (default: never)
//
// A topic without a subscription holds all its messages as unread. Removed
// unread messages are logged and counted, see [Stats].
//
// An error says what to change. Nothing is written to a file or a service that
// is not a topic of ours.
func Open(ctx context.Context, rawURL string, log *slog.Logger) (Topic, error) {
	t, err := open(ctx, rawURL, log)
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", rawURL, err)
	}
	return t, nil
}

func open(ctx context.Context, rawURL string, log *slog.Logger) (Topic, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "discard":
		if err := bare(u); err != nil {
			return nil, err
		}
		return new(Discard), nil
	case "log":
		if err := bare(u); err != nil {
			return nil, err
		}
		return NewLog(os.Stdout), nil
	case "memory":
		return openMemory(u)
	case "sqlite":
		return openSQLite(ctx, u, log)
	case "gcppubsub":
		return openPubSub(ctx, u)
	}
	return nil, unknownScheme(u)
}

// Subscribe opens a subscription by URL, for receiving:
//
//	sqlite://PATH?subscription=NAME         NAME: 1 to 100 letters, digits, dots,
//	                                        hyphens, underscores; default "default"
//	sqlite://PATH?peek=start|now            looks on, from the oldest message or from
//	                                        now; with until=now, Receive returns
//	                                        after what was there when it was opened
//	sqlite://PATH?peek=unread&subscription=NAME
//	                                        looks at what a subscription has not
//	                                        acknowledged; also with until=now
//	gcppubsub://projects/P/subscriptions/S  Google Cloud Pub/Sub
//
// A new subscription of sqlite: begins with the oldest message there is, or with
// from=now after the newest; one that exists goes on where it was. A topic keeps
// messages until all its subscriptions have them, so that one that is no longer
// used has to be removed, see [DropSubscription]. To peek leaves no trace in the
// file, and needs one that exists.
func Subscribe(ctx context.Context, rawURL string, b BatchOptions, log *slog.Logger) (Subscription, error) {
	s, err := subscribe(ctx, rawURL, b.withDefaults(), log)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", rawURL, err)
	}
	return s, nil
}

func subscribe(ctx context.Context, rawURL string, b BatchOptions, log *slog.Logger) (Subscription, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "discard", "log":
		return nil, fmt.Errorf("%s: keeps no messages, so that there is nothing to receive; publish to sqlite: or gcppubsub: instead", u.Scheme)
	case "memory":
		return nil, errors.New("memory: exists only inside the process that publishes to it; publish to sqlite: or gcppubsub: instead")
	case "sqlite":
		return subscribeSQLite(ctx, u, b, log)
	case "gcppubsub":
		return subscribePubSub(ctx, u, b, log)
	}
	return nil, unknownScheme(u)
}

func parse(rawURL string) (*url.URL, error) {
	if rest, ok := strings.CutPrefix(rawURL, "sqlite://"); ok {
		// All of it is a path, as net/url would not have it.
		escaped, params, _ := strings.Cut(rest, "?")
		path, err := url.PathUnescape(escaped)
		return &url.URL{Scheme: "sqlite", Path: path, RawQuery: params}, err
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.User != nil || u.Fragment != "" {
		return nil, errors.New("a topic's URL has neither a user nor a fragment (write # in a path as %23)")
	}
	return u, nil
}

func unknownScheme(u *url.URL) error {
	return fmt.Errorf("unknown kind of topic %q; known are discard, log, memory, sqlite and gcppubsub", u.Scheme)
}

// bare returns an error if u is more than its scheme.
func bare(u *url.URL, params ...string) error {
	if u.Host != "" || u.Path != "" || u.Opaque != "" {
		return fmt.Errorf("write %s: with nothing after the colon but parameters", u.Scheme)
	}
	_, err := query(u, params...)
	return err
}

// query returns the parameters of u. One that is not known is an error, so that
// a misspelt limit is not taken for no limit, and so is one that is given twice.
func query(u *url.URL, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			if len(known) == 0 {
				return nil, fmt.Errorf("unknown parameter %q; %s: takes none here", name, u.Scheme)
			}
			return nil, fmt.Errorf("unknown parameter %q; known are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
	}
	return q, nil
}

func openMemory(u *url.URL) (Topic, error) {
	if err := bare(u, "max_messages"); err != nil {
		return nil, err
	}
	limit := DefaultMemoryMessages
	if s := u.Query().Get("max_messages"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("max_messages=%s: want a number of messages, 1 or more", s)
		}
		limit = n
	}
	return NewMemory(limit), nil
}
