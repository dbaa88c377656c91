// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// TopicOf returns the URL that publishes to the topic of a subscription's URL:
// for sqlite: the same file, from which who opens it removes nothing; for
// gcppubsub: the topic that the service says the subscription has.
func TopicOf(ctx context.Context, subscriptionURL string) (string, error) {
	at, err := topicOf(ctx, subscriptionURL)
	if err != nil {
		return "", fmt.Errorf("find the topic of %s: %w", subscriptionURL, err)
	}
	return at, nil
}

func topicOf(ctx context.Context, subscriptionURL string) (string, error) {
	u, err := parse(subscriptionURL)
	if err != nil {
		return "", err
	}
	switch u.Scheme {
	case "sqlite":
		file, _, _ := strings.Cut(subscriptionURL, "?")
		return file + "?retention=forever", nil
	case "gcppubsub":
		r, err := parsePubSubURL(u, "subscriptions")
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(ctx, pubsubOpenTimeout)
		defer cancel()
		client, err := dialPubSub(ctx, pubsub.NewSubscriptionAdminClient)
		if err != nil {
			return "", err
		}
		defer client.Close()
		s, err := client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: r.String()}, withoutRetry)
		if err != nil {
			return "", r.explain(err)
		}
		if s.Topic == "_deleted-topic_" {
			return "", fmt.Errorf("the topic of %s has been deleted", r)
		}
		return "gcppubsub://" + s.Topic, nil
	}
	if !slices.Contains([]string{"memory", "log", "discard"}, u.Scheme) {
		return "", unknownScheme(u)
	}
	return "", fmt.Errorf("%s: has no subscriptions by URL, as sqlite: and gcppubsub: have", u.Scheme)
}

// SubscriptionInfo is how far a subscription has come.
type SubscriptionInfo struct {
	Name     string
	Position int64 // sequence number of the last message acknowledged
	Unread   int64 // messages after it
	// Bytes is how large the unread messages are, by the average of all messages
	// that the topic holds.
	Bytes     int64
	Oldest    time.Time // when the oldest unread message was published; zero without one
	HeldUntil time.Time // when the lease of its receiver ends; zero without one
}

// Subscriptions returns the subscriptions of an sqlite: topic, by name. It takes
// the URL of the topic or of a subscription, and is cheap however much is unread.
func Subscriptions(ctx context.Context, rawURL string) ([]SubscriptionInfo, error) {
	var infos []SubscriptionInfo
	err := withSubscriptions(ctx, rawURL, func(f *sqliteFile) (err error) {
		infos, err = subscriptions(f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the subscriptions of %s: %w", rawURL, err)
	}
	return infos, nil
}

func subscriptions(f *sqliteFile) (infos []SubscriptionInfo, err error) {
	// Sequence numbers have no gaps: what fails is rolled back with its number,
	// and only the oldest messages are ever removed.
	rows, err := f.QueryContext(context.Background(), `
		SELECT name, position, lease_until, unread, ifnull(CAST(1.0 * bytes * unread / messages AS INTEGER), 0),
			ifnull((SELECT published_at FROM messages WHERE seq > position ORDER BY seq LIMIT 1), 0)
		FROM (SELECT *, max(0, `+sqliteEnd+` - max(position, `+sqliteEnd+` - messages)) AS unread FROM subscriptions, totals)
		ORDER BY name`)
	if err != nil {
		return nil, hint(f.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var i SubscriptionInfo
		var heldUntil, oldest int64
		if err := rows.Scan(&i.Name, &i.Position, &heldUntil, &i.Unread, &i.Bytes, &oldest); err != nil {
			return nil, hint(f.path, err)
		}
		if leased(heldUntil) {
			i.HeldUntil = time.UnixMilli(heldUntil)
		}
		if oldest != 0 {
			i.Oldest = time.UnixMilli(oldest)
		}
		infos = append(infos, i)
	}
	return infos, hint(f.path, rows.Err())
}

// DropSubscription removes a subscription of an sqlite: topic for good: what it
// has not acknowledged it never will. It refuses while a receiver holds it.
func DropSubscription(ctx context.Context, rawURL, name string) error {
	err := withSubscriptions(ctx, rawURL, func(f *sqliteFile) error {
		if err := f.begin(ctx, lockPatience); err != nil {
			return err
		}
		err := drop(f, name)
		if err == nil {
			err = f.exec("COMMIT")
		}
		return err // closing the file rolls back
	})
	if err != nil {
		return fmt.Errorf("drop subscription %s of %s: %w", name, rawURL, err)
	}
	return nil
}

func drop(f *sqliteFile, name string) error {
	infos, err := subscriptions(f)
	if err != nil {
		return err
	}
	var names []string
	for _, i := range infos {
		names = append(names, i.Name)
		if i.Name != name {
			continue
		}
		if !i.HeldUntil.IsZero() {
			return fmt.Errorf("a receiver holds it: stop that first, or wait until %s", i.HeldUntil.UTC().Format(time.TimeOnly))
		}
		return f.exec("DELETE FROM subscriptions WHERE name = ?", name)
	}
	if names == nil {
		return errors.New("the topic has no subscriptions")
	}
	return fmt.Errorf("there is none of this name; there are: %s", strings.Join(names, ", "))
}

// withSubscriptions calls f with the file of an sqlite: topic, which must exist.
func withSubscriptions(ctx context.Context, rawURL string, f func(*sqliteFile) error) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "sqlite":
	case "gcppubsub":
		return errors.New("Pub/Sub keeps them itself: use “gcloud pubsub subscriptions list”, “describe” and “delete”")
	default:
		return fmt.Errorf("%s: keeps none; give an sqlite: topic", u.Scheme)
	}
	if _, err := query(u, "retention", "max_age", "max_bytes", "subscription", "from", "peek", "until"); err != nil {
		return err
	}
	if u.Path == "" {
		return errNoPath
	}
	file, err := openSQLiteFile(ctx, u.Path, "")
	if err != nil {
		return err
	}
	defer file.Close()
	return f(file)
}
