// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package strictyaml reads lists that people write by hand and that say who may
// do what. A misspelt one must not allow other things than it seems to, so that
// all that is not known is an error, which names the line.
//
// The YAML tree is read by hand and not into a struct, because only so is a line
// known for every error, and a number never taken for a text: an ID of digits,
// not in quotes, could lose its leading zeros.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// MaxBytes is the largest file that is read. Reading YAML takes many times its
// size.
const MaxBytes = 1 << 20

// Read takes a part of a document, or says what is wrong with it.
type Read = func(*yaml.Node) error

// Only reads a document that is an object with one field, and returns that
// field's value. It is nil if there is nothing but comments.
func Only(field string, text []byte) (*yaml.Node, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), MaxBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(err)
	}
	if err := d.Decode(&next); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins; put all entries under one %s", next.Line, field)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err)
	}
	var value *yaml.Node
	err := Object(doc.Content[0], nil, map[string]Read{
		field: func(n *yaml.Node) error { value = n; return nil },
	})
	return value, err
}

// syntaxError adds what is most often wrong.
func syntaxError(err error) error {
	return fmt.Errorf(`%w (a text that begins with "*" must be in quotes)`, err)
}

// Object reads an object with these fields, of which only those in optional may
// be missing.
func Object(n *yaml.Node, optional []string, fields map[string]Read) error {
	names := slices.Sorted(maps.Keys(fields))
	known := strings.Join(names, ", ")
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: this is not an object; there must be one with: %s", n.Line, known)
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		read, ok := fields[name.Value]
		switch {
		case !ok || name.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: field %.100q is not known; it must be one of: %s", name.Line, name.Value, known)
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

// List reads a list, each of its entries with the same function.
func List(n *yaml.Node, read Read) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: this is not a list", n.Line)
	}
	for _, entry := range n.Content {
		if err := read(entry); err != nil {
			return err
		}
	}
	return nil
}

// Text reads a text, which may be empty.
func Text(text *string) Read {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			return fmt.Errorf("line %d: this is not a text; put it in quotes if it should be one", n.Line)
		}
		*text = n.Value
		return nil
	}
}
