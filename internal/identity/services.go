// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"gopkg.in/yaml.v3"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/strictyaml"
	"github.com/telemetrygateway/telemetry/internal/watch"
)

// anyEnvironment, in a services file, stands for all of them.
const anyEnvironment = "*"

// serviceFile says which client of the OAuth provider may send as which
// service. It may be used by several goroutines at once.
type serviceFile struct {
	log    *slog.Logger
	listed atomic.Pointer[map[clientService]*listing] // nil without a file

	mu   sync.Mutex // for file
	file *watch.File
}

type clientService struct{ client, service string }

// listing is an entry of a services file.
type listing struct {
	line         int
	environments []string
}

// openServiceFile reads the services file, if there is one. loaded is called
// after every look at it, with how many entries it has, or with what is wrong.
func openServiceFile(path string, log *slog.Logger, loaded func(entries int, err error)) (*serviceFile, error) {
	s := &serviceFile{log: log}
	if path == "" {
		return s, nil
	}
	s.file = &watch.File{
		Path: path,
		Take: func(content []byte) error {
			listed, err := parseServices(content)
			if err == nil {
				s.listed.Store(&listed)
			}
			return err
		},
		Looked: func(err error) {
			if err != nil {
				loaded(0, err)
				return
			}
			loaded(len(*s.listed.Load()), nil)
		},
	}
	if _, err := s.file.Read(); err != nil {
		return nil, fmt.Errorf("read services file: %w", err)
	}
	return s, nil
}

// reload reads the file again. After an error, what it said before stays in
// force.
func (s *serviceFile) reload() error {
	if s.file == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.file.Reload(s.log)
	return err
}

// allow says whether the holder of a client's token may send as a service, from
// an environment if that is not empty. Without a file, a service is named like
// its client. Its error is a *Refusal.
func (s *serviceFile) allow(client, service, environment string) error {
	listed := s.listed.Load()
	if listed == nil {
		if client == "" || client != service {
			return refuse(NotAllowed, "this token's client may not send as service %q: service_id must be the client ID of the token, unless the gateway's operator lists the two in the file -services", service)
		}
		return nil
	}
	l := (*listed)[clientService{client, service}]
	switch {
	case l == nil:
		return refuse(NotAllowed, "this token's client may not send as service %q; ask the gateway's operator to list it, or use that service's own client", service)
	case environment != "" && !slices.Contains(l.environments, environment) && !slices.Contains(l.environments, anyEnvironment):
		return refuse(NotAllowed, "this token's client may not send as service %q from environment %q; ask the gateway's operator to list it", service, environment)
	}
	return nil
}

// parseServices reads a services file; the package comment has its form. What
// it does not know is an error, which names the line: a misspelt file must not
// let in others than it seems to.
func parseServices(text []byte) (map[clientService]*listing, error) {
	entries, err := strictyaml.Only("services", text)
	if err != nil {
		return nil, err
	}
	if entries == nil {
		return nil, errors.New("it is empty; to let no service in, write: services: []")
	}
	listed := map[clientService]*listing{}
	if err := strictyaml.List(entries, func(n *yaml.Node) error { return readListing(n, listed) }); err != nil {
		return nil, err
	}
	return listed, nil
}

func readListing(n *yaml.Node, listed map[clientService]*listing) error {
	var name clientService
	l := &listing{line: n.Line}
	if err := strictyaml.Object(n, []string{"environments"}, map[string]strictyaml.Read{
		"client":  readName(&name.client, clientIDBytes),
		"service": readName(&name.service, limits.SenderIDBytes),
		"environments": func(n *yaml.Node) error {
			return strictyaml.List(n, func(n *yaml.Node) error {
				var environment string
				if err := readName(&environment, limits.SenderIDBytes)(n); err != nil {
					return err
				}
				if slices.Contains(l.environments, environment) {
					return fmt.Errorf("line %d: environment %q is listed twice", n.Line, environment)
				}
				l.environments = append(l.environments, environment)
				return nil
			})
		},
	}); err != nil {
		return err
	}
	if first := listed[name]; first != nil {
		return fmt.Errorf("line %d: client %q with service %q is listed in line %d already; make one entry of the two", l.line, name.client, name.service, first.line)
	}
	if len(l.environments) > 1 && slices.Contains(l.environments, anyEnvironment) {
		return fmt.Errorf(`line %d: "*" stands for every environment; list it alone, or leave it out`, l.line)
	}
	listed[name] = l
	return nil
}

// clientIDBytes bounds a client ID; providers have their own, smaller bounds.
const clientIDBytes = 1024

// readName reads a text that a sender could name as well.
func readName(name *string, longest int) strictyaml.Read {
	return func(n *yaml.Node) error {
		if err := strictyaml.Text(name)(n); err != nil {
			return err
		}
		if n.Value == "" {
			return fmt.Errorf("line %d: this is empty", n.Line)
		}
		if err := checkText("this", n.Value, longest); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		return nil
	}
}
