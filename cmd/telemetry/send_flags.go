// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/tls"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/internal/command"
)

const sendHelp = `(-license KEY | -site-id ID | -service ID) (-file FILE | -count N) [flags]

Sends events to a gateway as an instance or a managed service would, and prints
one line of JSON that says what became of them:

  {"sent":3,"accepted":2,"dead_lettered":1,"failed":0,"reasons":{"feature_invalid":1},"request_id":"…","seconds":0.02}

It exits with 0 if the gateway accepted every event, with 1 if not. Events that
were not accepted are named on stderr, the first few of them. A dead-lettered
event is durable at the gateway and never sent again; a failed one is not known
to be durable anywhere.

  telemetry send -site-id my-site -count 3
  telemetry send -license @license.txt -site-id my-site -file events.jsonl
  telemetry export | telemetry send -site-id my-site -file -
  telemetry send -service pings -environment prod -count 3 \
      -token-url https://accounts.example.com/token \
      -client-id pings -client-secret-file secret

A managed service gets an access token from its OAuth provider with its client
credentials. Over http, secret and token are sent to this machine only.

A file has one event a line, as protobuf's JSON for telemetrygateway.v1.Event:

  {"id":"1","timestamp":"2026-01-02T15:04:05Z","feature":"search","action":"run"}
`

// sendConfig is what the flags of telemetry send say.
type sendConfig struct {
	gateway, license           string
	siteID, instanceID         string
	credentials                credentialFlags
	externalURL                string
	file, ca, protocol, ledger string
	oldName, retry             bool
	count, batch               int
	seed                       uint64
	timeout                    time.Duration
}

func parseSend(args []string, stdout, stderr io.Writer) (*sendConfig, error) {
	c := new(sendConfig)
	f := command.NewFlags("telemetry send", sendHelp)
	f.StringVar(&c.gateway, "gateway", "http://127.0.0.1:6080", "`URL` of the gateway")
	license := f.Secret("license", "licence `key`, or @FILE to read it from a file")
	f.StringVar(&c.siteID, "site-id", "", "`ID` of the instance; without a licence it is all that the gateway knows it by")
	f.StringVar(&c.instanceID, "instance-id", "", "another name of -site-id")
	f.StringVar(&c.externalURL, "external-url", "", "`URL` at which the instance's users reach it")
	c.credentials.define(f)
	f.StringVar(&c.file, "file", "", "`file` with one event a line, - for standard input")
	f.IntVar(&c.count, "count", 0, "send `N` made-up events")
	f.Uint64Var(&c.seed, "seed", 0, "`number` that fixes what -count makes up, IDs and times included; 0 for something new each time")
	f.IntVar(&c.batch, "batch", 500, "`events` in one message, at most")
	f.StringVar(&c.ca, "ca", "", "PEM `file` with certificates of authorities to trust besides the system's")
	f.StringVar(&c.protocol, "protocol", "grpc", "`grpc|connect|auto`: connect for paths that only do HTTP/1.1, auto to find out")
	f.BoolVar(&c.oldName, "old-service-name", false, "call the service by the misspelt name that old gateways know")
	f.StringVar(&c.ledger, "ledger", "", "`file` to append a line to for each event, such as \"ID ok\", once it is known what became of it: ok, deadletter or failed")
	f.BoolVar(&c.retry, "retry", false, "send failed events again until none is left, or -timeout")
	f.DurationVar(&c.timeout, "timeout", 0, "how `long` to try at most; 0 for no limit")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	c.license = string(*license)
	return c, c.check()
}

func (c *sendConfig) check() error {
	if path, ok := strings.CutPrefix(c.license, "@"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return command.BadConfig("read licence: %w", err)
		}
		if c.license = string(b); strings.TrimSpace(c.license) == "" {
			return command.BadConfig("licence file %s is empty", path)
		}
	}
	if c.siteID != "" && c.instanceID != "" && c.siteID != c.instanceID {
		return command.BadConfig("-site-id and -instance-id are two names for one thing: set one")
	}
	c.siteID = cmp.Or(c.siteID, c.instanceID)
	if err := c.credentials.check(); err != nil {
		return err
	}
	switch {
	case c.license == "" && c.siteID == "" && c.credentials.service == "":
		return command.BadConfig("who sends? Set -license, -site-id or both, or -service")
	case (c.license != "" || c.siteID != "" || c.externalURL != "") && c.credentials.service != "":
		return command.BadConfig("-service is for managed services, -license, -site-id and -external-url for instances: set one or the other")
	case c.count < 0:
		return command.BadConfig("-count is %d: it must not be negative", c.count)
	case (c.file == "") == (c.count == 0):
		return command.BadConfig("what to send? Set either -file or -count")
	case c.batch < 1 || c.batch > client.MaxMessageEvents:
		return command.BadConfig("-batch is %d: it must be from 1 to %d", c.batch, client.MaxMessageEvents)
	case !slices.Contains([]string{"grpc", "connect", "auto"}, c.protocol):
		return command.BadConfig("-protocol is %q: it must be grpc, connect or auto", c.protocol)
	case c.timeout < 0:
		return command.BadConfig("-timeout is %s: it must not be negative", c.timeout)
	}
	return nil
}

// identity follows the rule that instances follow: whoever has a licence key
// is licensed.
func (c *sendConfig) identity(trusted *tls.Config) (client.Identity, error) {
	switch {
	case c.credentials.service != "":
		return c.credentials.identity(trusted)
	case c.license != "":
		return client.Licensed(c.license, c.siteID, c.externalURL), nil
	}
	return client.Unlicensed(c.siteID, c.externalURL), nil
}

func (c *sendConfig) client(onVerdicts func(int, []client.Verdict)) (*client.Client, error) {
	o := client.Options{MessageEvents: c.batch, OldServiceName: c.oldName, OnVerdicts: onVerdicts}
	switch c.protocol {
	case "connect":
		o.Protocol = client.Connect
	case "auto":
		o.Protocol = client.Auto
	}
	if c.ca != "" {
		var err error
		if o.TLS, err = trusting(c.ca); err != nil {
			return nil, err
		}
	}
	who, err := c.identity(o.TLS)
	if err != nil {
		return nil, err
	}
	cl, err := client.New(c.gateway, who, o)
	if err != nil {
		return nil, command.BadConfig("%w", err)
	}
	return cl, nil
}
