// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/client"
)

// patience is how long a gateway may take to answer a message before the call
// is given up. A message of a megabyte takes a slow line minutes.
const patience = 5 * time.Minute

var (
	errConfig = errors.New("cannot send")
	errSilent = errors.New("the gateway was silent for too long")
)

// sender makes the calls: as a service if there is one; else as a licensed
// instance where the gateway takes the licence, and where not as an unlicensed
// one. It makes one call at a time.
type sender struct {
	url      string
	options  client.Options
	patience time.Duration
	service  client.Identity // zero for an instance

	identity             Identity
	licensed, unlicensed *client.Client
	asService            *client.Client
	// refused is why the licence is not used in this pass.
	refused error
	heard   func(first int, verdicts []client.Verdict)
}

// begin makes ready for a pass. The clients, and with them their connections,
// stay what they were unless the identity has changed.
func (s *sender) begin(identity func() Identity) error {
	if s.url == "" {
		return fmt.Errorf("%w: there is no gateway URL; set one, or the mode local", errConfig)
	}
	s.refused = nil
	if s.service != (client.Identity{}) {
		return s.beginService()
	}
	id := identity()
	if s.unlicensed == nil || id != s.identity {
		if err := s.renew(id); err != nil {
			return fmt.Errorf("%w: %w", errConfig, err)
		}
	}
	if s.licensed == nil && strings.TrimSpace(id.LicenseKey) != "" {
		s.refused = errors.New("the licence key holds text that is not valid UTF-8")
	}
	return nil
}

func (s *sender) beginService() error {
	if s.asService != nil {
		return nil
	}
	var err error
	if s.asService, err = s.client(s.service); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	return nil
}

func (s *sender) client(id client.Identity) (*client.Client, error) {
	o := s.options
	o.OnVerdicts = func(first int, verdicts []client.Verdict) { s.heard(first, verdicts) }
	return client.New(s.url, id, o)
}

func (s *sender) renew(id Identity) error {
	s.close()
	var err error
	if s.unlicensed, err = s.client(client.Unlicensed(id.InstanceID, id.ExternalURL)); err != nil {
		return err
	}
	s.identity = id
	if strings.TrimSpace(id.LicenseKey) != "" {
		// With the rest being right, only the key can be wrong, which is no reason
		// not to export.
		s.licensed, _ = s.client(client.Licensed(id.LicenseKey, id.InstanceID, id.ExternalURL))
	}
	return nil
}

// close closes the connections. The next pass makes new ones.
func (s *sender) close() {
	for _, c := range []*client.Client{s.licensed, s.unlicensed, s.asService} {
		if c != nil {
			c.Close()
		}
	}
	s.licensed, s.unlicensed, s.asService = nil, nil, nil
}

// as is how the next call will be made.
func (s *sender) as() string {
	switch {
	case s.asService != nil:
		return Service
	case s.licensed != nil && s.refused == nil:
		return Licensed
	default:
		return Unlicensed
	}
}

func (s *sender) send(ctx context.Context, events [][]byte) (client.Result, error) {
	switch s.as() {
	case Service:
		// Its events are a service's, whatever becomes of its credentials.
		return s.call(ctx, s.asService, events)
	case Licensed:
		r, err := s.call(ctx, s.licensed, events)
		if !senderRefused(err) {
			return r, err
		}
		s.refused = err
	}
	r, err := s.call(ctx, s.unlicensed, events)
	if s.refused != nil && senderRefused(err) {
		err = fmt.Errorf("as a licensed instance: %w; and as an unlicensed one: %w", s.refused, err)
	}
	return r, err
}

func senderRefused(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.SenderRefused()
}

// call makes one call, and gives it up when the gateway has been silent for too
// long.
func (s *sender) call(ctx context.Context, c *client.Client, events [][]byte) (client.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(s.patience, func() { cancel(errSilent) })
	defer watch.Stop()
	s.heard = func(first int, verdicts []client.Verdict) {
		watch.Reset(s.patience)
		if s.options.OnVerdicts != nil {
			s.options.OnVerdicts(first, verdicts)
		}
	}
	return c.SendEncoded(ctx, events...)
}
