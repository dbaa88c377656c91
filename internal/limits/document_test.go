// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package limits_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/telemetrygateway/telemetry/internal/golden"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

// row is a limit, what changes it, and what happens beyond it.
type row struct {
	what   string
	limit  any
	flag   string
	beyond string
}

const (
	letter  = "a dead letter"
	invalid = "`INVALID_ARGUMENT`"
	waits   = "waits"
)

// TestDocument keeps docs/limits.md true.
func TestDocument(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`<!-- Made by a test in internal/limits; change that. -->
# Limits

All limits of the gateway and of instances; those of the warehouse are in [warehouse.md](warehouse.md). What one stage
lets through, the next one takes, also after it has grown as much as it can: a control character in a text takes six
bytes in JSON, base64 a third more. A test asserts it for each pair of stages.

`)
	for _, section := range []struct {
		title, text string
		rows        []row
	}{
		{"An event", "What breaks one of these is a dead letter, with a reason; its neighbours are not touched.", []row{
			{"event, where an instance records it", size(limits.RecordedEventBytes), "", "an error where it is recorded, `too_large`"},
			{"event ID", size(limits.EventIDBytes), "", letter + ", `id_too_long`"},
			{"feature, action", fmt.Sprintf("%d to %d bytes", limits.NameMinBytes, limits.NameBytes), "", letter + ", `feature_invalid`, `action_invalid`"},
			{"nesting of private metadata", fmt.Sprintf("%d deep", limits.Depth), "", letter + ", `too_deep`"},
			{"numbers", "finite", "", letter + ", `not_finite`"},
			{"texts", "valid UTF-8", "", letter + ", `invalid_utf8`"},
			{"its message: payload, key and attributes", size(limits.MessageBytes), "", letter + ", `too_large`"},
		}},
		{"A request of a web app", "To an instance, in GraphQL, or to the backend of a service, by Connect. A request that breaks one of these is refused as a whole: nothing of it is recorded, unless the last column says otherwise. Where it has two answers, the second is Connect's, whose requests may be compressed.", []row{
			{"request, decompressed", size(limits.IntakeBodyBytes), "`MaxBody`", "status 413; `RESOURCE_EXHAUSTED`"},
			{"events", number(limits.IntakeEvents), "`MaxEvents`", "an error, `BAD_REQUEST`; `RESOURCE_EXHAUSTED`"},
			{"values in it", number(limits.IntakeValues), "", "status 400; `RESOURCE_EXHAUSTED`"},
			{"idempotency key", size(limits.IdempotencyKeyBytes), "", "status 400; `INVALID_ARGUMENT`"},
			{"interaction ID in a header", size(limits.InteractionIDBytes), "", "not looked at"},
			{"name and version of the client, Connect", size(limits.IntakeClientBytes), "", "`INVALID_ARGUMENT`"},
			{"GraphQL document", size(limits.IntakeQueryBytes), "", "an error, `BAD_REQUEST`"},
			{"nesting of its fields", fmt.Sprintf("%d deep", limits.IntakeDepth), "", "an error, `BAD_REQUEST`"},
			{"its fields, fragments resolved", number(limits.IntakeSelections), "", "an error, `BAD_REQUEST`"},
			{"calls of recordEvents in it", "1", "", "an error, `BAD_REQUEST`, for each further one"},
			{"requests worked on at once", size(limits.IntakeWorkingBytes) + " in all", "", waits},
		}},
		{"A sender", "", []row{
			{"licence key", size(limits.LicenseKeyBytes), "", invalid},
			{"instance ID, service ID", size(limits.SenderIDBytes), "", invalid},
			{"external URL", size(limits.ExternalURLBytes), "", invalid},
			{"request ID", size(limits.RequestIDBytes), "", invalid},
		}},
		{"A call", "", []row{
			{"message received, decompressed", size(limits.ReceiveBytes), "`-max-message-bytes`, " + size(limits.ReceiveMinBytes) + " to " + size(limits.ReceiveMaxBytes) + "; to " + size(limits.ReceivePubSubBytes) + " with dead letters in Pub/Sub", "`RESOURCE_EXHAUSTED`"},
			{"first message of a stream", size(limits.FirstMessageBytes), "", invalid},
			{"events in a message", number(limits.EventsPerMessage), "", invalid},
			{"headers", size(limits.HeaderBytes), "", "the call is refused"},
			{"calls open on one connection", number(limits.StreamsPerConnection), "", waits},
			{"calls open on all of them", number(limits.Calls), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"of which streams of unlicensed senders", fmt.Sprintf("1/%d", limits.UnlicensedShare), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"of which from one address, not yet identified", number(limits.NewcomersPerNetwork), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"connections", number(limits.Connections), "`-max-connections`", waits},
			{"of which from one address", number(limits.ConnectionsPerNetwork), "`-max-connections-per-address`; none for `-trusted-proxies`", "closed"},
			{"on its way on one connection, unread", size(limits.ConnectionBufferBytes), "", waits},
			{"on its way on one call, unread", size(limits.StreamBufferBytes), "", waits},
			{"no metadata", duration(limits.StallTimeout), "", "`DEADLINE_EXCEEDED`"},
			{"nothing under way", duration(limits.IdleTimeout), "", "`DEADLINE_EXCEEDED`"},
			{"no progress in a message", duration(limits.StallTimeout), "", "`DEADLINE_EXCEEDED`"},
			{"slowest message", size(limits.SlowestBytesPerSecond) + "/s, after " + duration(limits.StallTimeout), "", "`DEADLINE_EXCEEDED`"},
			{"slowest message while others wait for memory", size(limits.CrowdedBytesPerSecond) + "/s, after " + duration(limits.CrowdedAge), "", "`RESOURCE_EXHAUSTED`"},
			{"response not read", duration(limits.IdleTimeout), "", "the call is cut off"},
			{"calls under way when stopping", duration(limits.StopTimeout), "`-stop-timeout`", "cut off, exit code 1"},
		}},
		{"Memory", "", []row{
			{"all messages in flight", size(limits.InFlightBytes), "`-max-inflight-bytes`, from " + size(limits.InFlightMinBytes), waits},
			{"of which unlicensed senders", fmt.Sprintf("1/%d", limits.UnlicensedShare), "", waits},
			{"of which unary calls", fmt.Sprintf("1/%d", limits.UnlicensedShare), "", waits},
			{"of which calls that wait for a provider of access tokens", fmt.Sprintf("1/%d", limits.UnlicensedShare*limits.ProvingShare), "", "`UNAVAILABLE`, with a time to come back"},
			{"a message in flight is charged", fmt.Sprintf("%d times its size", limits.InFlightFactor), "", ""},
			{"responses not read, one stream", size(limits.StreamResponseBytes), "", "the gateway reads no further"},
			{"responses not read, all streams", size(limits.PendingResponseBytes), "", "the gateway reads no further"},
			{"of which unlicensed senders", fmt.Sprintf("1/%d", limits.UnlicensedShare), "", "the gateway reads no further"},
			{"soft limit of the Go runtime", size(limits.InFlightBytes + limits.PendingResponseBytes + limits.OtherBytes), "`GOMEMLIMIT`, or follows `-max-inflight-bytes`", "garbage is collected more often"},
			{"resident memory, whatever is sent", size(limits.ResidentBytes), "", "held by a test with 1,000 streams of the largest messages"},
		}},
		{"Unlicensed instances", "A call costs one event more than it carries. An IPv6 address counts by its /64.", []row{
			{"events from one address", fmt.Sprintf("%s/s, %s at once", number(limits.UnlicensedRate), number(limits.UnlicensedBurst)), "`-unlicensed-rate`, `-unlicensed-burst`", "`rate_limited`, with a time to come back"},
			{"events from all together", fmt.Sprintf("%s/s, %s at once", number(limits.UnlicensedTotalRate), number(limits.UnlicensedTotalBurst)), "`-unlicensed-total-rate`, `-unlicensed-total-burst`", "`rate_limited`, with a time to come back"},
			{"addresses told apart", number(limits.UnlicensedAddresses), "", "the one unused for longest starts afresh"},
			{"messages beyond these rates", fmt.Sprintf("%s/s, %s at once", size(limits.LimitedBytesPerSecond), size(limits.LimitedBurstBytes)), "", "the stream is read later, by " + duration(limits.LimitedWait) + " at most"},
		}},
		{"Access tokens of services", "While it is used, each is checked again at most twice a minute, beside the calls. An IPv6 address counts by its /64.", []row{
			{"token", size(limits.TokenBytes), "", "`UNAUTHENTICATED`"},
			{"tokens not known to be good, from one address, that the provider is asked about", fmt.Sprintf("%s/s, %s at once", number(limits.TokenAddressRate), number(limits.TokenAddressBurst)), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"the same from all together", fmt.Sprintf("%s/s, %s at once", number(limits.TokenRate), number(limits.TokenBurst)), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"of which being asked about", number(limits.TokenChecks), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"tokens not known to be good, being checked by whatever means", number(limits.TokensChecked), "", "`RESOURCE_EXHAUSTED`, with a time to come back"},
			{"tokens that were good before, being asked about", number(limits.TokenChecks), "", "waits " + duration(limits.TokenWait) + ", then the same"},
			{"what the provider takes to answer", duration(limits.TokenTimeout), "", "`UNAVAILABLE`, with a time to come back"},
			{"its answer about a token", size(limits.TokenAnswerBytes), "", "`UNAVAILABLE`, with a time to come back"},
			{"tokens remembered, good and bad ones each", number(limits.TokensRemembered), "", "the one unused for longest is checked again"},
		}},
		{"A topic", "These are Google Cloud Pub/Sub's and hold for every topic, so that a deployment can move.", []row{
			{"one publish request", fmt.Sprintf("%s messages, %s", number(limits.RequestMessages), size(limits.RequestBytes)), "", "several requests"},
			{"attributes of a message", fmt.Sprintf("%d, keys to %s, values to %s", limits.Attributes, size(limits.AttributeKeyBytes), size(limits.AttributeValueBytes)), "", "left out; they stay in the payload"},
			{"key of a message", size(limits.KeyBytes), "", "cannot happen"},
			{"payloads gathered before publishing", size(limits.ChunkBytes), "", "published"},
		}},
	} {
		fmt.Fprintf(&b, "## %s\n\n", section.title)
		if section.text != "" {
			fmt.Fprintf(&b, "%s\n\n", section.text)
		}
		b.WriteString("| what | limit | set by | beyond it |\n|---|---|---|---|\n")
		for _, r := range section.rows {
			fmt.Fprintf(&b, "| %s | %v | %s | %s |\n", r.what, r.limit, r.flag, r.beyond)
		}
		b.WriteByte('\n')
	}
	golden.Check(t, bytes.TrimRight(b.Bytes(), "\n"), "../../docs/limits.md")
}

func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return number(n) + " bytes"
}

// number writes thousands apart.
func number(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", number(n/1000), n%1000)
}

func duration(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
