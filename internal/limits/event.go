// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/structpb"

	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

// Why an event is not in the topic. The codes travel to senders, into dead
// letters and into metrics, so they never change their meaning.
const (
	ReasonUndecodable      = "undecodable"
	ReasonInvalidUTF8      = "invalid_utf8"
	ReasonTooDeep          = "too_deep"
	ReasonNotFinite        = "not_finite"
	ReasonIDMissing        = "id_missing"
	ReasonIDTooLong        = "id_too_long"
	ReasonFeatureInvalid   = "feature_invalid"
	ReasonActionInvalid    = "action_invalid"
	ReasonTimestampMissing = "timestamp_missing"
	ReasonTimestampInvalid = "timestamp_invalid"
	ReasonTooLarge         = "too_large"
	ReasonTopicRejected    = "topic_rejected"

	ReasonTopicUnavailable      = "topic_unavailable"
	ReasonDeadLetterUnavailable = "deadletter_unavailable"
	ReasonRateLimited           = "rate_limited"
	ReasonCanceled              = "canceled"
)

// Why an event that is in the topic is not in the warehouse. All of these are
// for good.
const (
	ReasonPayloadInvalid    = "payload_invalid"
	ReasonIDConflict        = "id_conflict"
	ReasonWarehouseRejected = "warehouse_rejected"
)

// Reason describes one reason code.
type Reason struct {
	Code string
	// Permanent says that no retry can ever help: the event becomes a dead
	// letter. Any other event is to be sent again.
	Permanent bool
	Meaning   string
}

// Reasons returns every reason of the gateway's, the permanent ones first.
func Reasons() []Reason {
	return []Reason{
		{ReasonUndecodable, true, "The bytes are not a protobuf message of the event's type, or hold a value that JSON has no form for."},
		{ReasonInvalidUTF8, true, "A text is not valid UTF-8."},
		{ReasonTooDeep, true, fmt.Sprintf("Private metadata is nested more than %d deep.", Depth)},
		{ReasonNotFinite, true, "A number is NaN or infinite."},
		{ReasonIDMissing, true, "The event has no ID."},
		{ReasonIDTooLong, true, fmt.Sprintf("The event's ID is longer than %d bytes.", EventIDBytes)},
		{ReasonFeatureInvalid, true, "The feature is not " + NameRule + "."},
		{ReasonActionInvalid, true, "The action is not " + NameRule + "."},
		{ReasonTimestampMissing, true, "The event has no timestamp."},
		{ReasonTimestampInvalid, true, "The timestamp is not between the years 1 and 9999, or its nanoseconds are not between 0 and 999,999,999."},
		{ReasonTooLarge, true, fmt.Sprintf("The event is larger than a topic takes: its message, with labels and escapes, exceeds %d bytes.", MessageBytes)},
		{ReasonTopicRejected, true, "The topic refused the message for good."},
		{ReasonTopicUnavailable, false, "The topic did not confirm that it has the message."},
		{ReasonDeadLetterUnavailable, false, "The event can never be published, and could not be kept as a dead letter yet."},
		{ReasonRateLimited, false, "The sender sends more than it may at the moment."},
		{ReasonCanceled, false, "The call ended before the outcome was known."},
	}
}

// PipelineReasons returns every reason of the pipeline's.
func PipelineReasons() []Reason {
	return []Reason{
		{ReasonPayloadInvalid, true, "The message is no payload, or its key is not that of the event in it."},
		{ReasonIDConflict, true, "An event of this sender with this ID has landed, and its content is another."},
		{ReasonWarehouseRejected, true, "The warehouse will never take the event."},
	}
}

// NameRule is the rule for features and actions, in words.
const NameRule = "2 to 64 bytes: a small letter first, then letters, dots and dashes"

// Violation says which rule an event breaks. It never quotes the event.
type Violation struct {
	// Reason is one of the codes of Reasons or PipelineReasons.
	Reason string
	// Field is the path of the field by its proto names, such as
	// "parameters.private_metadata". It is empty when the event as a whole is
	// meant, and ends at a map or at a google.protobuf type, because what is
	// inside of those is chosen by the sender.
	Field string
	// Message explains the violation to a person.
	Message string
}

// Error returns the reason, the field and the message in one line.
func (v *Violation) Error() string {
	if v.Field == "" {
		return v.Reason + ": " + v.Message
	}
	return v.Reason + ": " + v.Field + ": " + v.Message
}

// CheckEvent returns the first rule that e breaks, or nil. It looks at the ID,
// the feature, the action, the timestamp and then everything that JSON has no
// form for. Invalid UTF-8 it leaves to proto.Marshal and proto.Unmarshal, both
// of which refuse it.
func CheckEvent(e *telemetrygatewayv1.Event) *Violation {
	switch {
	case e.GetId() == "":
		return &Violation{ReasonIDMissing, "id", "is empty"}
	case len(e.GetId()) > EventIDBytes:
		return &Violation{ReasonIDTooLong, "id", fmt.Sprintf("has %d bytes, more than %d", len(e.GetId()), EventIDBytes)}
	case !ValidName(e.GetFeature()):
		return &Violation{ReasonFeatureInvalid, "feature", "is not " + NameRule}
	case !ValidName(e.GetAction()):
		return &Violation{ReasonActionInvalid, "action", "is not " + NameRule}
	case e.GetTimestamp() == nil:
		return &Violation{ReasonTimestampMissing, "timestamp", "is not set"}
	case !e.GetTimestamp().IsValid():
		return &Violation{ReasonTimestampInvalid, "timestamp", "is not a time between the years 1 and 9999"}
	}
	for _, n := range e.GetParameters().GetMetadata() {
		if !finite(n) {
			return &Violation{ReasonNotFinite, "parameters.metadata", "holds a number that is NaN or infinite"}
		}
	}
	var f findings
	if s := e.GetParameters().GetPrivateMetadata(); s != nil {
		f.object(s, 1)
	}
	const private = "parameters.private_metadata"
	switch {
	case f.deep:
		return &Violation{ReasonTooDeep, private, fmt.Sprintf("is nested more than %d deep", Depth)}
	case f.notFinite:
		return &Violation{ReasonNotFinite, private, "holds a number that is NaN or infinite"}
	case f.empty:
		return &Violation{ReasonUndecodable, private, "holds a value of no kind"}
	}
	return nil
}

// ValidName reports whether s may be a feature or an action: whether it matches
// ^[a-z][a-zA-Z.-]+$ and is not too long. NameRule says so in words.
func ValidName(s string) bool {
	if len(s) < NameMinBytes || len(s) > NameBytes || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

func finite(n float64) bool { return !math.IsNaN(n) && !math.IsInf(n, 0) }

// findings collects what is wrong with private metadata. All of it is looked
// at before one fault is named, so that the answer does not depend on the
// random order of a map.
type findings struct{ deep, notFinite, empty bool }

func (f *findings) object(s *structpb.Struct, depth int) {
	if depth > Depth {
		f.deep = true
		return
	}
	for _, v := range s.GetFields() {
		f.value(v, depth)
	}
}

func (f *findings) list(l *structpb.ListValue, depth int) {
	if depth > Depth {
		f.deep = true
		return
	}
	for _, v := range l.GetValues() {
		f.value(v, depth)
	}
}

func (f *findings) value(v *structpb.Value, depth int) {
	switch k := v.GetKind().(type) {
	case nil:
		f.empty = true
	case *structpb.Value_NumberValue:
		f.notFinite = f.notFinite || !finite(k.NumberValue)
	case *structpb.Value_StructValue:
		f.object(k.StructValue, depth+1)
	case *structpb.Value_ListValue:
		f.list(k.ListValue, depth+1)
	}
}
