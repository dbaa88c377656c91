// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/internal/payload"
	"github.com/telemetrygateway/telemetry/internal/topic"
)

// Letter is a dead letter as it is in a topic. A message there that is none is
// shown as one of the pipeline's, as the pipeline lands it.
type Letter struct {
	topic.Message // its own, not the one that could not land
	*payload.DeadLetter
}

func decode(m topic.Message) *Letter {
	d, err := payload.DecodeDeadLetter(m.Data)
	if err != nil {
		d = &payload.DeadLetter{
			ID: payload.DeadLetterID(m.Data), Key: m.Key, Data: append([]byte{}, m.Data...),
			Violation: limits.Violation{Reason: limits.ReasonPayloadInvalid, Message: "is not a dead letter"},
		}
	}
	return &Letter{m, d}
}

// field is something that dead letters can be told apart by.
type field struct {
	name  string
	value func(*Letter) string
}

var fields = []field{
	{"id", func(l *Letter) string { return hex.EncodeToString(l.ID[:]) }},
	{"stage", (*Letter).stage},
	{"reason", func(l *Letter) string { return l.Violation.Reason }},
	{"field", func(l *Letter) string { return l.Violation.Field }},
	{"source", (*Letter).source},
	{"source_id", func(l *Letter) string { return l.Labels["publisher.id"] }},
	{"license_id", func(l *Letter) string { return l.Labels["license.id"] }},
	{"identity", (*Letter).identity},
	{"event_id", func(l *Letter) string { return l.Labels["event.id"] }},
	{"feature", (*Letter).feature},
	{"action", (*Letter).action},
}

// Field returns what is called name, one of those that ParseCondition lists; ""
// if the dead letter does not say.
func (l *Letter) Field(name string) string {
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	if i < 0 {
		panic("no field " + name)
	}
	return fields[i].value(l)
}

// stage is who made the dead letter.
func (l *Letter) stage() string {
	if l.DeadLetter.Data == nil {
		return "gateway"
	}
	return "pipeline"
}

// source is the kind of sender, as in the warehouse.
func (l *Letter) source() string {
	if l.Labels["publisher.trust"] == "service" {
		return "managed_service"
	}
	return l.Labels["publisher.source"]
}

func (l *Letter) identity() string {
	key := l.Message.Key
	if l.DeadLetter.Data != nil {
		key = l.DeadLetter.Key
	}
	return key[:max(strings.LastIndexByte(key, '/'), 0)]
}

func (l *Letter) feature() string {
	event, _ := l.DecodeEvent() // what could be read of it
	return event.GetFeature()
}

func (l *Letter) action() string {
	event, _ := l.DecodeEvent()
	return event.GetAction()
}

// Condition is what a field has to be.
type Condition struct {
	field
	pattern string
}

// ParseCondition parses FIELD=PATTERN, in which each * stands for any text.
func ParseCondition(s string) (Condition, error) {
	name, pattern, ok := strings.Cut(s, "=")
	if !ok {
		return Condition{}, fmt.Errorf("%q: want FIELD=PATTERN", s)
	}
	var names []string
	for _, f := range fields {
		if f.name == name {
			return Condition{f, pattern}, nil
		}
		names = append(names, f.name)
	}
	return Condition{}, fmt.Errorf("there is no field %q; there are %s", name, strings.Join(names, ", "))
}

// One reports whether c can hold for one dead letter only.
func (c Condition) One() bool { return c.name == "id" && !strings.Contains(c.pattern, "*") }

func (c Condition) holds(l *Letter) bool {
	parts := strings.Split(c.pattern, "*")
	rest, ok := strings.CutPrefix(c.value(l), parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[last])
}
