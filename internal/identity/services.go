// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"gopkg.in/yaml.v3"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/watch"
)

// serviceFileBytes is the largest services file. Reading YAML takes many times
// its size.
const serviceFileBytes = 1 << 20

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
	if len(text) > serviceFileBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), serviceFileBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty; to let no service in, write: services: []")
	} else if err != nil {
		return nil, fmt.Errorf(`%w (a text that begins with "*", as the one for every environment does, must be in quotes)`, err)
	}
	if err := d.Decode(&next); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins; put all entries under one services", next.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	listed := map[clientService]*listing{}
	if err := readFields(doc.Content[0], nil, map[string]func(*yaml.Node) error{
		"services": func(n *yaml.Node) error {
			return readList(n, func(n *yaml.Node) error { return readListing(n, listed) })
		},
	}); err != nil {
		return nil, err
	}
	return listed, nil
}

func readListing(n *yaml.Node, listed map[clientService]*listing) error {
	var name clientService
	l := &listing{line: n.Line}
	if err := readFields(n, []string{"environments"}, map[string]func(*yaml.Node) error{
		"client":  readName(&name.client, clientIDBytes),
		"service": readName(&name.service, limits.SenderIDBytes),
		"environments": func(n *yaml.Node) error {
			return readList(n, func(n *yaml.Node) error {
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

// The YAML tree is read by hand and not into a struct, because only so is a
// line known for every error, and a number never taken for a text: a client ID
// of digits, not in quotes, could lose its leading zeros.

// readFields reads an object with these fields, of which only those in optional
// may be missing.
func readFields(n *yaml.Node, optional []string, fields map[string]func(*yaml.Node) error) error {
	names := slices.Sorted(maps.Keys(fields))
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: this is not an object; there must be one with: %s", n.Line, strings.Join(names, ", "))
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		read, ok := fields[name.Value]
		switch {
		case !ok || name.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: field %.100q is not known; it must be one of: %s", name.Line, name.Value, strings.Join(names, ", "))
		case seen[name.Value]:
			return fmt.Errorf("line %d: field %s is there twice", name.Line, name.Value)
		}
		seen[name.Value] = true
		if err := read(value); err != nil {
			return err
		}
	}
	for _, name := range names {
		if !seen[name] && !slices.Contains(optional, name) {
			return fmt.Errorf("line %d: field %s is missing", n.Line, name)
		}
	}
	return nil
}

func readList(n *yaml.Node, read func(*yaml.Node) error) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: this is not a list", n.Line)
	}
	for _, item := range n.Content {
		if err := read(item); err != nil {
			return err
		}
	}
	return nil
}

// readName reads a text that a sender could name as well.
func readName(name *string, longest int) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			return fmt.Errorf("line %d: this is not a text; put it in quotes if it should be one", n.Line)
		}
		if n.Value == "" {
			return fmt.Errorf("line %d: this is empty", n.Line)
		}
		if err := checkText("this", n.Value, longest); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		*name = n.Value
		return nil
	}
}
