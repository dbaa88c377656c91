// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/telemetrygateway/telemetry/intake"
	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/limits"
	"github.com/telemetrygateway/telemetry/queue"
)

const instanceHelp = `[flags]

Records the events of one product instance, keeps them in the instance's own
database and exports them to a gateway. It runs beside the product: web pages,
extensions and scripts send their events to /.api/graphql. A Go program can do
the same in its own process with the packages telemetry, queue and exporter.

An event that was recorded is on the disk. What may leave the instance is
decided before it is queued: no private metadata but what -allow-private names,
and no marketing data. The full event stays in the instance's own log, for its
administrators. Without -gateway nothing is exported, and the queue grows until
there is one.

  telemetry instance
  telemetry instance -gateway https://telemetry.example.com -license @license.txt
  telemetry instance -gateway http://127.0.0.1:6080 -demo-page
  telemetry instance -db postgres://app@db.internal/app -mode limited
  telemetry instance -listen :443 -tls-cert cert.pem -tls-key key.pem
  DO_NOT_TRACK=1 telemetry instance

-mode says which events leave: all of them; limited, those of a few features;
local, none, but they are kept in the log; or off, none, and nothing is kept. A
licence can have tags that ask for less, and the strictest wins. With
DO_NOT_TRACK=1 the mode is off, whatever the flags say. What is queued already
and may no longer leave is taken out of the queue.

The file of -allow-private says which private metadata may leave, and why:

  allow:
    - {feature: search, action: executed, keys: [language], reason: which languages people search}
    - {feature: search.filters, action: "*", keys: [kind], reason: which filters to keep}

Administrators look into queue and log with a query that carries the token of
-admin-token-file, which openssl rand -hex 32 makes. What can be asked for is
eventsQueuedForExport, exportedEvents, deadLetteredEvents and loggedEvents:

  curl http://127.0.0.1:6090/.api/graphql -H "Authorization: Bearer $(cat token.txt)" \
      -d '{"query": "{ telemetry { eventsQueuedForExport(first: 9) { totalCount nodes { payload } } } }"}'

It serves /livez, /readyz and /version beside /.api/graphql, and metrics and
profiles on the admin address. SIGTERM ends it once requests, and the batch that
is being exported, are finished. telemetry help queue says how to look into the
queue without a token.
`

// instanceConfig is what the flags of telemetry instance say.
type instanceConfig struct {
	listen, admin        string
	db, eventLog         string
	gateway, ca          string
	license              *command.Secret
	siteID, externalURL  string
	serverVersion        string
	exportInterval       time.Duration
	exportBatch          int
	mode                 string
	features             string
	exportAll, usageData bool
	operatedBy           string
	allowPrivate         string
	allowPrivateEvents   string
	allowOrigin          string
	adminTokenFile       string
	proxies              string
	tlsCert, tlsKey      string
	userHeader           string
	countryHeader        string
	maxAge, retention    time.Duration
	logRetention         time.Duration
	maxBytes             int64
	cleanupInterval      time.Duration
	demoPage             bool
	stopTimeout          time.Duration
	logFormat, logLevel  string

	trustedProxies []netip.Prefix
	adminMode      queue.Mode // -mode and DO_NOT_TRACK
	doNotTrack     bool
	origins        []string
}

func parseInstance(args []string, stdout, stderr io.Writer) (*instanceConfig, error) {
	c := new(instanceConfig)
	f := command.NewFlags("telemetry instance", instanceHelp)
	f.StringVar(&c.listen, "listen", "127.0.0.1:6090", "`ADDRESS` for pages, extensions and scripts")
	f.StringVar(&c.admin, "admin", "127.0.0.1:6091", "`ADDRESS` for metrics and profiles, or off")
	f.StringVar(&c.db, "db", "sqlite://data/instance.db", "`URL` of the queue's database: sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE")
	f.StringVar(&c.eventLog, "event-log", "", "`URL` of the database for the instance's own log of full events, or off; without one it is events.db beside an SQLite queue, and the same database as a PostgreSQL queue")
	f.StringVar(&c.gateway, "gateway", "", "`URL` of the gateway; without one, events are kept")
	f.Env("gateway", "TELEMETRY_GATEWAY_EXPORTER_EXPORT_ADDR", nil)
	f.StringVar(&c.ca, "ca", "", "PEM `FILE` with certificates of authorities to trust besides the system's")
	c.license = f.Secret("license", "licence `key`, or @FILE, which is read again when it changes")
	f.StringVar(&c.siteID, "site-id", "", "`ID` of this instance; without one it is a random one that the queue keeps")
	f.StringVar(&c.externalURL, "external-url", "", "`URL` at which users reach the product")
	f.StringVar(&c.serverVersion, "server-version", "", "`VERSION` of the product, which its events have; without one it is this binary's")
	f.DurationVar(&c.exportInterval, "export-interval", 5*time.Minute, "how long to wait between exports, more or less; at most 1h")
	f.Env("export-interval", "TELEMETRY_GATEWAY_EXPORTER_EXPORT_INTERVAL", nil)
	f.IntVar(&c.exportBatch, "export-batch", 10_000, "`EVENTS` in one call to the gateway, at most; an export makes as many calls as it takes")
	f.Env("export-batch", "TELEMETRY_GATEWAY_EXPORTER_EXPORT_BATCH_SIZE", nil)
	f.StringVar(&c.mode, "mode", "all", "`all|limited|local|off`: which events leave, unless the licence asks for less")
	f.StringVar(&c.features, "limited-features", "cody", "`FEATURES` that leave when the mode is limited, with commas between them; each with those below it, such as cody.chat")
	f.BoolVar(&c.exportAll, "ignore-license-mode", false, "do not look at what the licence says about export")
	f.Env("ignore-license-mode", "SRC_TELEMETRY_EVENTS_EXPORT_ALL", nil)
	f.BoolVar(&c.usageData, "usage-data", false, "export all events although the licence is from before 4 October 2023")
	f.Env("usage-data", "EXPORT_USAGE_DATA_ENABLED", nil)
	f.StringVar(&c.operatedBy, "operated-by", "customer", "`customer|vendor`: vendor lets private metadata and marketing data leave, which only the vendor's own instance may")
	f.StringVar(&c.allowPrivate, "allow-private", "", "YAML `FILE` of private metadata that may leave; read again when it changes")
	f.StringVar(&c.allowPrivateEvents, "allow-private-events", "", "`LIST` of more of it, as feature::action::key::key,feature::*::key")
	f.Env("allow-private-events", "SRC_TELEMETRY_SENSITIVEMETADATA_ADDITIONAL_ALLOWED_EVENT_TYPES", nil)
	f.StringVar(&c.allowOrigin, "allow-origin", "", "`ORIGINS` of other sites whose pages may send events, such as https://app.example.com, with commas between them")
	f.StringVar(&c.adminTokenFile, "admin-token-file", "", "`FILE` with the token that administrators' queries need; read again when it changes. Without one there are no such queries")
	f.StringVar(&c.proxies, "trusted-proxies", "", "`NETWORKS` (such as 10.0.0.0/8,fd00::/8) whose -user-header and -country-header are believed")
	f.StringVar(&c.tlsCert, "tls-cert", "", "PEM `FILE` of the certificate chain; read again when it changes. Without one, clients use cleartext")
	f.StringVar(&c.tlsKey, "tls-key", "", "PEM `FILE` of the certificate's private key")
	f.StringVar(&c.userHeader, "user-header", "", "`HEADER` in which a trusted proxy puts the number of the user")
	f.StringVar(&c.countryHeader, "country-header", "", "`HEADER` in which a trusted proxy puts the user's country, such as CF-IPCountry; without it no country is recorded")
	f.DurationVar(&c.maxAge, "max-age", 0, "how old an event may become that is not exported; older ones are deleted and counted; 0 for no limit")
	f.Int64Var(&c.maxBytes, "max-bytes", 0, "`BYTES` of events that are not exported, at most; beyond that the oldest are deleted and counted; 0 for no limit")
	f.DurationVar(&c.retention, "retention", 24*time.Hour, "how long exported events stay for administrators to look at")
	f.Env("retention", "TELEMETRY_GATEWAY_EXPORTER_EXPORTED_EVENTS_RETENTION", nil)
	f.DurationVar(&c.logRetention, "event-log-retention", 90*24*time.Hour, "how long events stay in the instance's own log")
	f.DurationVar(&c.cleanupInterval, "cleanup-interval", time.Minute, "how often what is too old is deleted")
	f.Env("cleanup-interval", "TELEMETRY_GATEWAY_EXPORTER_QUEUE_CLEANUP_INTERVAL", nil)
	f.BoolVar(&c.demoPage, "demo-page", false, "serve a page at / with a button that records an event")
	f.DurationVar(&c.stopTimeout, "stop-timeout", limits.StopTimeout, "how long requests and the export may take to finish once the instance has been told to stop")
	f.StringVar(&c.logFormat, "log-format", "text", "`text|json`")
	f.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check finds what is wrong with the flags alone.
func (c *instanceConfig) check() error {
	var err error
	if c.adminMode, err = queue.ParseMode(c.mode); err != nil {
		return command.BadConfig("-mode: %w", err)
	}
	if c.doNotTrack = doNotTrack(os.Getenv("DO_NOT_TRACK")); c.doNotTrack {
		c.adminMode = queue.Off
	}
	for _, f := range list(c.features) {
		if !limits.ValidName(f) {
			return command.BadConfig("-limited-features: %q is not %s", f, limits.NameRule)
		}
	}
	if c.operatedBy != "customer" && c.operatedBy != "vendor" {
		return command.BadConfig("-operated-by is %q: it must be customer or vendor", c.operatedBy)
	}
	for _, n := range []struct {
		flag             string
		value, low, high float64
	}{
		{"export-batch", float64(c.exportBatch), 100, 1_000_000},
		{"max-bytes", float64(c.maxBytes), 0, 1 << 50},
	} {
		if n.value < n.low || n.value > n.high {
			return command.BadConfig("-%s is out of range: it must be from %s to %s", n.flag, plain(n.low), plain(n.high))
		}
	}
	for _, d := range []struct {
		flag             string
		value, low, high time.Duration
	}{
		{"export-interval", c.exportInterval, 100 * time.Millisecond, time.Hour},
		{"cleanup-interval", c.cleanupInterval, time.Second, 24 * time.Hour},
		{"stop-timeout", c.stopTimeout, time.Millisecond, time.Hour},
		{"retention", c.retention, 0, 100 * 365 * 24 * time.Hour},
		{"event-log-retention", c.logRetention, time.Minute, 100 * 365 * 24 * time.Hour},
		{"max-age", c.maxAge, 0, 100 * 365 * 24 * time.Hour},
	} {
		if d.value < d.low || d.value > d.high {
			return command.BadConfig("-%s is out of range: it must be from %s to %s", d.flag, d.low, d.high)
		}
	}
	if err := c.checkDatabases(); err != nil {
		return err
	}
	if c.siteID != "" && len(c.siteID) > limits.SenderIDBytes {
		return command.BadConfig("-site-id is longer than %d bytes", limits.SenderIDBytes)
	}
	if len(c.externalURL) > limits.ExternalURLBytes {
		return command.BadConfig("-external-url is longer than %d bytes", limits.ExternalURLBytes)
	}
	if c.externalURL != "" {
		if u, err := url.Parse(c.externalURL); err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
			return command.BadConfig("-external-url must be a URL such as https://code.example.com")
		}
	}
	c.origins = list(c.allowOrigin)
	for _, o := range c.origins {
		if err := intake.CheckOrigin(o); err != nil {
			return command.BadConfig("-allow-origin: %w", err)
		}
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return command.BadConfig("-tls-cert and -tls-key go together: set both or neither")
	}
	if c.trustedProxies, err = parseNetworks(c.proxies); err != nil {
		return command.BadConfig("-trusted-proxies: %w", err)
	}
	for flag, header := range map[string]string{"user-header": c.userHeader, "country-header": c.countryHeader} {
		if header != "" && !httpguts.ValidHeaderFieldName(header) {
			return command.BadConfig("-%s is %q: that is not the name of a header", flag, header)
		}
	}
	if (c.userHeader != "" || c.countryHeader != "") && len(c.trustedProxies) == 0 {
		return command.BadConfig("-user-header and -country-header need -trusted-proxies: from anybody else they could be made up")
	}
	return nil
}

func (c *instanceConfig) checkDatabases() error {
	if err := checkDatabase(c.db); err != nil {
		return command.BadConfig("-db: %w", err)
	}
	if c.eventLog == "" {
		c.eventLog = defaultEventLog(c.db)
	}
	if c.eventLog == "off" {
		return nil
	}
	if err := checkDatabase(c.eventLog); err != nil {
		return command.BadConfig("-event-log: %w", err)
	}
	if path, ok := sqlitePath(c.eventLog); ok {
		if queue, ok := sqlitePath(c.db); ok && sameFile(path, queue) {
			return command.BadConfig("-event-log and -db are one file: the log needs one of its own, because what it keeps must never be exported")
		}
	}
	return nil
}

// defaultEventLog is where the log is when nobody says: beside an SQLite queue,
// so that what is private never gets into the queue's file, or in the database
// of the product.
func defaultEventLog(db string) string {
	if _, ok := sqlitePath(db); !ok {
		return db
	}
	return db[:strings.LastIndex(db, "/")+1] + "events.db"
}

func sameFile(a, b string) bool {
	absolute := func(path string) string {
		if p, err := filepath.Abs(path); err == nil {
			return p
		}
		return path
	}
	return absolute(a) == absolute(b)
}

// doNotTrack reads the variable of that name. Whatever is not a no is a yes.
func doNotTrack(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "", "0", "f", "false", "n", "no", "off":
		return false
	}
	return true
}

// parseNetworks reads networks with commas between them.
func parseNetworks(s string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, s := range list(s) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%w; write networks such as 10.0.0.0/8, with commas between them", err)
		}
		networks = append(networks, p.Masked())
	}
	return networks, nil
}

// list splits text at commas.
func list(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
