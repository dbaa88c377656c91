// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/telemetrygateway/telemetry/client"
	telemetrygatewayv1 "github.com/telemetrygateway/telemetry/gen/telemetrygateway/v1"
)

func Example() {
	// Any gateway will do, such as one that "telemetry gateway" has started at
	// http://127.0.0.1:6080. This one takes whatever comes.
	gateway := httptest.NewServer(new(server).handler())
	defer gateway.Close()

	c, err := client.New(gateway.URL, client.Unlicensed("my-site", "https://my-site.example.com"), client.Options{
		Protocol: client.Auto, // this one speaks HTTP/1.1 only, which is found out
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events := []*telemetrygatewayv1.Event{
		{Id: "1", Timestamp: timestamppb.Now(), Feature: "search", Action: "executed"},
		{Id: "2", Timestamp: timestamppb.Now(), Feature: "search", Action: "clicked"},
	}
	result, err := c.Send(ctx, events...)

	// The call as a whole may fail. What was acknowledged before counts all the
	// same, so the verdicts are looked at in any case.
	if refused := (*client.Error)(nil); errors.As(err, &refused) && refused.Kind == client.Refused {
		fmt.Println("a person must look at this:", refused)
	}
	var again []*telemetrygatewayv1.Event
	for i, v := range result.Verdicts {
		switch v.Outcome {
		case client.Failed:
			again = append(again, events[i]) // after result.RetryAfter
		default:
			fmt.Println("event", events[i].GetId(), "is", v.Outcome)
		}
	}
	fmt.Println(len(again), "to send again")
	// Output:
	// event 1 is accepted
	// event 2 is accepted
	// 0 to send again
}

// fileToken is a token in a file that a platform renews.
type fileToken string

func (f fileToken) Token(context.Context) (string, error) {
	b, err := os.ReadFile(string(f))
	return strings.TrimSpace(string(b)), err
}

// Tokens may come from anywhere.
func ExampleTokenSource() {
	c, err := client.New("https://telemetry.example.com", client.Service("pings", "prod", fileToken("/run/secrets/token")), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
}
