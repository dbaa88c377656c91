// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"
)

const (
	// cleanEvery is how often old messages are looked for.
	cleanEvery = 10 * time.Second
	// One transaction removes at most twice what the last commit added, so
	// that it keeps up, or this many messages if that is more; and about this
	// many bytes.
	cleanMessages = 1000
	cleanBytes    = 64 << 20
)

// sqliteOptions are a topic's URL parameters; zero means no limit.
type sqliteOptions struct {
	retention time.Duration
	maxAge    time.Duration
	maxBytes  int64
	logBytes  int64  // the write-ahead log is emptied when it is larger
	pragmas   string // for tests, as in a DSN
}

func parseSQLite(u *url.URL) (o sqliteOptions, err error) {
	q, err := query(u, "retention", "max_age", "max_bytes")
	if err != nil {
		return o, err
	}
	o = sqliteOptions{retention: 168 * time.Hour, logBytes: 128 << 20}
	for name, d := range map[string]*time.Duration{"retention": &o.retention, "max_age": &o.maxAge} {
		if s := q.Get(name); s == "forever" {
			*d = math.MaxInt64
		} else if s != "" {
			if *d, err = time.ParseDuration(s); err != nil || *d < 0 {
				return o, fmt.Errorf("%s=%s: want a duration such as 168h, or forever", name, s)
			}
		}
	}
	if s := q.Get("max_bytes"); s != "" {
		if o.maxBytes, err = strconv.ParseInt(s, 10, 64); err != nil || o.maxBytes < 0 {
			return o, fmt.Errorf("max_bytes=%s: want a number of bytes such as 10000000000", s)
		}
	}
	if u.Path == "" {
		return o, errNoPath
	}
	return o, nil
}

// cleaner says when and how much the writer removes. Space that becomes free
// inside the file is used again; the file does not shrink.
type cleaner struct {
	o     sqliteOptions
	bytes int64 // held by the topic, as far as known
	limit int   // messages to remove at once
	more  bool  // the last time left some
	next  time.Time
}

func (c *cleaner) wrote(messages int) { c.limit = max(cleanMessages, 2*messages) }

func (c *cleaner) due() bool {
	return c.more || c.o.maxBytes > 0 && c.bytes > c.o.maxBytes || !time.Now().Before(c.next)
}

func (c *cleaner) pause() time.Duration {
	if c.due() {
		return 0
	}
	return time.Until(c.next)
}

// clean removes the oldest messages: those that every subscription has
// acknowledged, once they are older than the retention, and any that are beyond
// the operator's limits. It counts, in the same transaction, those that had not
// been acknowledged.
func (t *sqliteTopic) clean() {
	t.cleaner.more, t.cleaner.next = false, time.Now().Add(cleanEvery)
	// The next commit or the next turn tries again.
	t.cleaner.bytes = 0
	// On a full disk this is what makes room, so that it must not wait for a
	// commit to succeed.
	err := t.open(context.Background())
	if err == nil {
		err = t.file.begin(context.Background(), time.Second)
	}
	if errors.Is(err, errBusy) {
		return
	}
	var r removal
	if err == nil {
		r, err = t.removeOldest()
	}
	if err == nil {
		err = t.end()
	}
	if err != nil {
		t.fail(err)
		return
	}
	if r.unread > 0 {
		t.log.Warn("messages expired before every subscription had read them", "topic", t.path, "messages", r.unread)
	}
}

type removal struct {
	last             int64 // seq
	messages, unread int
	bytes            int64
}

func (t *sqliteTopic) removeOldest() (removal, error) {
	r, more, err := t.expired(time.Now())
	if err == nil && r.messages > 0 {
		err = t.file.exec("DELETE FROM messages WHERE seq <= ?", r.last)
	}
	if err == nil && r.messages > 0 {
		err = t.file.scan("UPDATE totals SET messages = messages - ?, bytes = bytes - ?, expired_unread = expired_unread + ? RETURNING bytes",
			[]any{r.messages, r.bytes, r.unread}, &t.cleaner.bytes)
	}
	t.cleaner.more = more
	return r, err
}

// expired returns which messages to remove now and whether there may be more.
func (t *sqliteTopic) expired(now time.Time) (r removal, more bool, err error) {
	held, read := int64(0), sql.NullInt64{}
	if err := t.file.scan("SELECT bytes FROM totals", nil, &held); err != nil {
		return r, false, err
	}
	if err := t.file.scan("SELECT min(position) FROM subscriptions", nil, &read); err != nil {
		return r, false, err
	}
	limit := max(cleanMessages, t.cleaner.limit)
	rows, err := t.file.QueryContext(context.Background(), `SELECT seq, published_at,
		ifnull(octet_length(key), 0) + ifnull(octet_length(attributes), 0) + ifnull(octet_length(data), 0)
		FROM messages ORDER BY seq LIMIT ?`, limit)
	if err != nil {
		return r, false, hint(t.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq, publishedAt, size int64
		if err := rows.Scan(&seq, &publishedAt, &size); err != nil {
			return r, false, err
		}
		age := now.Sub(time.UnixMilli(publishedAt))
		unread := !read.Valid || seq > read.Int64
		beyond := t.o.maxAge > 0 && age > t.o.maxAge || t.o.maxBytes > 0 && held-r.bytes > t.o.maxBytes
		if !beyond && (unread || age <= t.o.retention) {
			return r, false, nil
		}
		r.last = seq
		r.messages++
		r.bytes += size
		if unread {
			r.unread++
		}
		if r.bytes >= cleanBytes {
			return r, true, nil
		}
	}
	return r, r.messages == limit, hint(t.path, rows.Err())
}

// Stats reads the totals over a connection of its own, so that it never waits
// for the writer.
func (t *sqliteTopic) Stats(ctx context.Context) (Stats, error) { return sqliteStats(ctx, t.path) }

// Stats is the same as the topic's.
func (s *sqliteSubscription) Stats(ctx context.Context) (Stats, error) {
	return sqliteStats(ctx, s.path)
}

func sqliteStats(ctx context.Context, path string) (s Stats, err error) {
	f, err := openSQLiteFile(ctx, path, "")
	if err != nil {
		return s, err
	}
	defer f.Close()
	var oldest sql.NullInt64
	err = f.scan(`SELECT messages, bytes, expired_unread, (SELECT published_at FROM messages ORDER BY seq LIMIT 1) FROM totals`,
		nil, &s.Messages, &s.Bytes, &s.ExpiredUnread, &oldest)
	if oldest.Valid {
		s.Oldest = time.UnixMilli(oldest.Int64)
	}
	return s, err
}
