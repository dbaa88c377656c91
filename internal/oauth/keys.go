// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// refreshInterval is how often the provider's keys are fetched, and so how
	// long a key still counts that the provider has withdrawn.
	refreshInterval = 5 * time.Minute
	// keysLifetime is how long keys count that cannot be fetched again.
	keysLifetime = time.Hour
	// refetchInterval lies between fetches that tokens with an unknown key cause,
	// which anyone can make up.
	refetchInterval = 10 * time.Second
	// retryInterval lies between fetches that tokens cause while no keys are known.
	retryInterval = time.Second
	// longestBackOff lies between attempts of run at a provider that is down.
	longestBackOff = time.Minute

	// fetchTimeout bounds a fetch in all, which is up to three requests.
	fetchTimeout = 5 * time.Second
	// maxTried is with how many keys a token is tried that does not name its key.
	maxTried = 8
)

// signatures proves tokens by the keys that their provider publishes. It may
// be used by several goroutines at once.
type signatures struct {
	o    Options
	f    *fetcher
	keys atomic.Pointer[keySet] // nil until first fetched

	mu       sync.Mutex
	fetching *fetch    // under way, else nil
	started  time.Time // when the last fetch started
	demanded time.Time // when a token with an unknown key last caused one
	err      error     // of the last fetch
	logged   bool      // that keys were fetched at all
}

func newSignatures(o Options, f *fetcher) *signatures {
	return &signatures{o: o, f: f}
}

// keySet is what a provider publishes. It does not change.
type keySet struct {
	keys  []key
	asked time.Time
}

// verify returns what a token says if one of the keys signed it. named is
// whether the token names one of them.
func (set *keySet) verify(jws *jose.JSONWebSignature, h header) (payload []byte, named bool) {
	tried := 0
	for _, k := range set.keys {
		if h.KeyID != "" {
			if k.id != h.KeyID {
				continue
			}
			named = true
		}
		if !k.fits(h.Algorithm) || tried == maxTried {
			continue
		}
		tried++
		if payload, err := jws.Verify(k.public); err == nil {
			return payload, named
		}
	}
	return nil, named
}

// current returns the keys in force, or nil if there are none.
func (s *signatures) current() *keySet {
	set := s.keys.Load()
	if set == nil || len(set.keys) == 0 || s.o.Now().Sub(set.asked) >= keysLifetime {
		return nil
	}
	return set
}

// payload returns what a token says if its provider signed it. It fetches the
// keys when they may be out of date.
func (s *signatures) payload(ctx context.Context, jws *jose.JSONWebSignature, h header) ([]byte, error) {
	set := s.current()
	fetched := set == nil
	if fetched {
		if err := s.await(ctx, s.demand()); err != nil {
			return nil, err
		}
		if set = s.current(); set == nil {
			return nil, unavailable()
		}
	} else if s.o.Now().Sub(set.asked) >= refreshInterval {
		s.demand() // nobody runs run, or it fails; there is no need to wait
	}
	payload, named := set.verify(jws, h)
	if payload == nil && !named && !fetched { // the key may be newer than the set
		if err := s.await(ctx, s.demand()); err != nil {
			return nil, err
		}
		switch newer := s.current(); newer {
		case nil:
			return nil, unavailable()
		case set:
		default:
			payload, _ = newer.verify(jws, h)
		}
		if payload == nil && s.failing() {
			return nil, unavailable()
		}
	}
	if payload == nil {
		return nil, errors.New("no key of its provider signed it")
	}
	return payload, nil
}

// fetch is one attempt at getting the keys. err may be read when done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// await waits until a fetch, if there is one, has ended either way.
func (s *signatures) await(ctx context.Context, f *fetch) error {
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return unavailable()
	}
}

// demand fetches the keys because a token needs them. It returns nil if that
// was done so shortly before that it would not help.
func (s *signatures) demand() *fetch {
	now, empty := s.o.Now(), s.current() == nil
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fetching != nil:
	case empty && now.Sub(s.started) < retryInterval, !empty && now.Sub(s.demanded) < refetchInterval:
		return nil
	case !empty:
		s.demanded = now
	}
	return s.start()
}

// start returns the fetch that is under way, or starts one. Whoever waits for
// it may go away, and it still ends. The caller holds s.mu.
func (s *signatures) start() *fetch {
	if s.fetching != nil {
		return s.fetching
	}
	f := &fetch{done: make(chan struct{})}
	s.fetching, s.started = f, s.o.Now()
	go func(asked time.Time) {
		ctx, stop := context.WithTimeout(context.Background(), fetchTimeout)
		defer stop()
		keys, err := s.download(ctx)
		if keys != nil {
			s.keys.Store(&keySet{keys: keys, asked: asked})
		}
		s.mu.Lock()
		s.log(err, len(keys))
		s.fetching, f.err, s.err = nil, err, err
		s.mu.Unlock()
		close(f.done)
	}(s.started)
	return f
}

// log tells the operator when fetching keys begins to fail or to work.
func (s *signatures) log(err error, keys int) {
	switch {
	case err != nil && s.err == nil:
		s.o.Log.Warn("the keys of the OAuth provider cannot be fetched; tokens that need them are refused once those known are too old", "issuer", s.o.Issuer, "too_old_after", keysLifetime, "error", err)
	case err == nil && (s.err != nil || !s.logged):
		s.logged = true
		s.o.Log.Info("the keys of the OAuth provider have been fetched", "issuer", s.o.Issuer, "keys", keys)
	}
}

// failing says whether the keys could not be fetched last time.
func (s *signatures) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// run keeps the keys fresh until ctx ends.
func (s *signatures) run(ctx context.Context) {
	for failures := 0; ; {
		s.mu.Lock()
		f := s.start()
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return
		}
		// Both are spread, for the sake of a provider with many gateways.
		wait := refreshInterval - rand.N(refreshInterval/10)
		if f.err == nil {
			failures = 0
		} else {
			wait = retryInterval + rand.N(min(retryInterval<<min(failures, 10), longestBackOff))
			failures++
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
