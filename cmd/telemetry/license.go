// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/telemetrygateway/telemetry/internal/command"
	"github.com/telemetrygateway/telemetry/internal/license"
	"github.com/telemetrygateway/telemetry/internal/limits"
)

func runLicense(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return command.Group{
		Name: "telemetry license",
		Intro: `Licence keys prove to a gateway which customer an instance belongs to. They are
signed with a private key that only the issuer has, and verified with a public
key that every gateway may have. From nothing to a licensed event:

  telemetry license keygen -out keys
  telemetry license issue -key keys/license.key -users 25 -expires 365d > acme.txt
  telemetry license inspect -keys keys/license.pub @acme.txt
  telemetry gateway -license-keys keys/license.pub
  telemetry send -license @acme.txt -site-id acme-1 -count 3
`,
		Commands: []command.Command{
			{Name: "keygen", Summary: "make a pair of keys: to issue licences, and to verify them", Run: runLicenseKeygen},
			{Name: "issue", Summary: "issue a licence key", Run: runLicenseIssue},
			{Name: "inspect", Summary: "verify a licence key and print what it says", Run: runLicenseInspect},
		},
	}.Run(ctx, args, stdout, stderr)
}

const licenseKeygenHelp = `-out DIR [-id NAME]

Makes an Ed25519 key pair: DIR/license.key, with which licences are issued, and
DIR/license.pub, with which gateways verify them. Whoever has license.key can
issue licences, so keep it secret, backed up, and away from gateways. Files that
exist are never overwritten.

Every licence names the key that signed it by its key ID, so that keys can be
replaced: put the lines of the old and the new license.pub into one file for the
gateway's -license-keys, issue with the new key, and take the old line out once
no licence needs it. Use a key for nothing but licences.

  telemetry license keygen -out keys
  telemetry license keygen -out keys-2027 -id acme-2027
`

func runLicenseKeygen(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := command.NewFlags("telemetry license keygen", licenseKeygenHelp)
	out := f.String("out", "", "`folder` to write license.key and license.pub to; it is made if need be")
	id := f.String("id", "", "key ID: a `name` of letters, digits, dots and dashes (default: made from the key)")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *out == "" {
		return command.BadConfig("where to? Set -out; see %s", f.HelpCommand())
	}
	private, err := license.GenerateKey(*id)
	if err != nil {
		return command.BadConfig("-id is %q: %w", *id, err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o700); err != nil {
		return command.BadConfig("make folder: %w", err)
	}
	keyFile, pubFile := filepath.Join(*out, "license.key"), filepath.Join(*out, "license.pub")
	if err := writeNew(keyFile, private, 0o600); err != nil {
		return err
	}
	if err := writeNew(pubFile, signer.PublicKey(), 0o644); err != nil {
		os.Remove(keyFile) // nothing was signed with it yet
		return err
	}
	_, err = fmt.Fprintf(stdout, `Wrote the key pair %[1]s:
  %[2]s  to issue licences with; keep it secret
  %[3]s  to verify them with; for telemetry gateway -license-keys

Issue a licence with:
  telemetry license issue -key %[2]s -tags plan:enterprise -users 25 -expires 365d
`, signer.KeyID(), keyFile, pubFile)
	return err
}

// writeNew writes a file that must not exist yet, durably.
func writeNew(name string, data []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return command.BadConfig("%s exists and is never overwritten; choose another -out", name)
	} else if err != nil {
		return command.BadConfig("write key: %w", err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

const licenseIssueHelp = `-key FILE -users N -expires WHEN [flags]

Issues a licence key and prints it, and nothing else, on stdout. Nothing is kept
of it: store the key, and with it the licence ID that inspect shows, which is
what revokes it later.

WHEN is a time from now, such as 365d, 8760h or 90m, or a date: 2027-12-31 (when
that day begins, in UTC) or 2027-12-31T18:00:00+01:00.

  telemetry license issue -key keys/license.key -users 25 -expires 365d
  telemetry license issue -key keys/license.key -users 500 -expires 2027-12-31 \
      -tags plan:enterprise,true-up -salesforce-subscription a1a000000000001
`

func runLicenseIssue(_ context.Context, args []string, stdout, stderr io.Writer) error {
	var i license.Info
	f := command.NewFlags("telemetry license issue", licenseIssueHelp)
	keyFile := f.String("key", "", "`file` with the private key: license.key of telemetry license keygen, or any Ed25519 key of ssh-keygen without a passphrase")
	tags := f.String("tags", "", "`tags` of the licence, with commas between them")
	f.Uint64Var(&i.Users, "users", 0, "`number` of users that are licensed")
	expires := f.String("expires", "", "`when` the licence expires: 365d, 8760h, 2027-12-31")
	f.StringVar(&i.SalesforceSubscriptionID, "salesforce-subscription", "", "`ID` of the subscription in Salesforce")
	f.StringVar(&i.SalesforceOpportunityID, "salesforce-opportunity", "", "`ID` of the opportunity in Salesforce")
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	switch {
	case *keyFile == "":
		return command.BadConfig("signed with what? Set -key; telemetry license keygen makes one")
	case i.Users == 0:
		return command.BadConfig("for how many users? Set -users")
	case *expires == "":
		return command.BadConfig("until when? Set -expires, such as -expires 365d")
	}
	i.CreatedAt = time.Now().UTC().Truncate(time.Second)
	var err error
	if i.ExpiresAt, err = parseExpiry(*expires, i.CreatedAt); err != nil {
		return command.BadConfig("-expires is %q: %w", *expires, err)
	}
	for tag := range strings.SplitSeq(*tags, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			i.Tags = append(i.Tags, tag)
		}
	}
	private, err := os.ReadFile(*keyFile)
	if err != nil {
		return command.BadConfig("read private key: %w", err)
	}
	signer, err := license.ParseSigner(private)
	if err != nil {
		return command.BadConfig("private key %s: %w", *keyFile, err)
	}
	key, err := license.Issue(signer, i)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, key)
	return err
}

// parseExpiry reads a duration from now, which may be in days, or a date.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	const maxDays = 100 * 365 // beyond is a slip
	var t time.Time
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > maxDays {
			return t, fmt.Errorf("days must be a whole number from 1 to %d", maxDays)
		}
		t = now.AddDate(0, 0, n)
	} else if d, err := time.ParseDuration(s); err == nil {
		t = now.Add(d)
	} else if t, err = time.Parse(time.DateOnly, s); err != nil {
		if t, err = time.Parse(time.RFC3339, s); err != nil {
			return t, errors.New("it must be a time from now, such as 365d or 8760h, or a date, such as 2027-12-31")
		}
	}
	if !t.After(now) {
		return t, errors.New("that is not in the future")
	}
	return t, nil
}

const licenseInspectHelp = `-keys FILE [-revoked FILE] [-allow-sha1] KEY|@FILE|-

Verifies a licence key as a gateway would, and prints what it says as JSON. KEY
is the key itself, @FILE reads it from a file, - from standard input; the last
two keep it out of the shell's history. Nothing that a key says is shown unless
its signature verifies.

"signature" is "ok" or says why not. "status" is "valid", "expired", "revoked",
or "unverified". A line with the "id" or the "fingerprint" in the gateway's
-license-revoked file revokes the licence. It exits with 0 if the signature
verifies, whatever the status, and with 1 if not.

  telemetry license inspect -keys keys/license.pub @acme.txt
  telemetry license issue … | telemetry license inspect -keys keys/license.pub -
`

// inspection is what telemetry license inspect prints.
type inspection struct {
	Signature string `json:"signature"`
	Status    string `json:"status"`
	*inspected
}

// inspected is there if the signature verifies.
type inspected struct {
	Version                  int       `json:"version"`
	ID                       string    `json:"id,omitempty"`
	Fingerprint              string    `json:"fingerprint"`
	KeyID                    string    `json:"key_id"`
	Algorithm                string    `json:"algorithm"`
	Tags                     []string  `json:"tags"`
	Users                    uint64    `json:"users"`
	CreatedAt                time.Time `json:"created_at,omitzero"`
	ExpiresAt                time.Time `json:"expires_at"`
	SalesforceSubscriptionID string    `json:"salesforce_subscription_id,omitempty"`
	SalesforceOpportunityID  string    `json:"salesforce_opportunity_id,omitempty"`
}

func runLicenseInspect(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := command.NewFlags("telemetry license inspect", licenseInspectHelp)
	f.Takes = "KEY"
	keysFile := f.String("keys", "", "`file` of public keys, one a line, as for the gateway")
	f.Env("keys", command.EnvName("license-keys"), nil)
	revokedFile := f.String("revoked", "", "`file` of revoked licences: IDs or fingerprints, one a line, as for the gateway")
	f.Env("revoked", command.EnvName("license-revoked"), nil)
	allowSHA1 := f.Bool("allow-sha1", false, "accept keys signed with RSA and SHA-1, as the gateway does with -license-allow-sha1")
	f.Env("allow-sha1", command.EnvName("license-allow-sha1"), nil)
	if err := f.Parse(args, stdout, stderr); err != nil {
		return err
	}
	if *keysFile == "" {
		return command.BadConfig("verified with what? Set -keys, such as -keys license.pub")
	}
	keys, err := readParsed(*keysFile, license.ParseKeys)
	if err != nil {
		return command.BadConfig("public keys: %w", err)
	}
	revoked := new(license.Revoked)
	if *revokedFile != "" {
		if revoked, err = readParsed(*revokedFile, license.ParseRevoked); err != nil {
			return command.BadConfig("revoked licences: %w", err)
		}
	}
	if len(f.Args()) != 1 {
		return command.BadConfig("which licence? Give one key, @FILE or -; see %s", f.HelpCommand())
	}
	key, err := readLicenseKey(f.Args()[0])
	if err != nil {
		return command.BadConfig("licence key: %w", err)
	}

	l, verifyErr := license.Verify(key, keys, license.Options{AllowSHA1: *allowSHA1})
	if errors.Is(verifyErr, license.ErrSHA1) {
		verifyErr = fmt.Errorf("%w (here: -allow-sha1)", verifyErr)
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if verifyErr != nil {
		return errors.Join(verifyErr, enc.Encode(inspection{Signature: verifyErr.Error(), Status: "unverified"}))
	}
	i := inspection{Signature: "ok", Status: "valid", inspected: &inspected{
		Version: l.Version, ID: l.ID, Fingerprint: l.Fingerprint(), KeyID: l.KeyID, Algorithm: l.Algorithm,
		Tags: append([]string{}, l.Tags...), Users: l.Users, CreatedAt: l.CreatedAt, ExpiresAt: l.ExpiresAt,
		SalesforceSubscriptionID: l.SalesforceSubscriptionID, SalesforceOpportunityID: l.SalesforceOpportunityID,
	}}
	switch {
	case revoked.Has(l):
		i.Status = "revoked"
	case l.Expired(time.Now()):
		i.Status = "expired"
	}
	return enc.Encode(i)
}

// readParsed reads a file with parse. Errors name the file.
func readParsed[T any](name string, parse func([]byte) (T, error)) (T, error) {
	var v T
	data, err := os.ReadFile(name)
	if err != nil {
		return v, err
	}
	if v, err = parse(data); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// readLicenseKey returns the key that an argument gives or names.
func readLicenseKey(arg string) (string, error) {
	in := os.Stdin
	if name, ok := strings.CutPrefix(arg, "@"); ok {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	} else if arg != "-" {
		return arg, nil
	}
	// One byte more than allowed is enough for Verify to see that it is too
	// long.
	key, err := io.ReadAll(io.LimitReader(in, limits.LicenseKeyBytes+1))
	return string(key), err
}
