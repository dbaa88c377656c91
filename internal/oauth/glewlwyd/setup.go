// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package glewlwyd

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
	_ "modernc.org/sqlite" // makes the database that the program finds
)

const (
	// schema makes the tables and the defaults that the program expects. It is
	// not the copy below /usr/share/doc, which images often leave out.
	schema  = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"
	modules = "/usr/lib/glewlwyd"

	apiPrefix  = "api"
	pluginName = "oidc"
)

// config is the program's configuration. Logging in is switched off, since the
// schema comes with an administrator whose password everybody knows.
func (p *Provider) config() []byte {
	return fmt.Appendf(nil, `port = %d
bind_address = %q
external_url = "http://%s"
api_prefix = %q
log_mode = "console"
log_level = "WARNING"
login_api_enabled = false
admin_session_authentication = "api_key"
user_module_path = "%[5]s/user"
client_module_path = "%[5]s/client"
user_auth_scheme_module_path = "%[5]s/scheme"
plugin_module_path = "%[5]s/plugin"
hash_algorithm = "SHA512"
database = { type = "sqlite3", path = %[6]q };
`, p.address.Port(), p.address.Addr(), p.address, apiPrefix, modules, p.database())
}

func (p *Provider) database() string { return p.file("glewlwyd.db") }

// makeDatabase makes a database with the plugin that serves OAuth, and with a
// key for the program's administration.
func (p *Provider) makeDatabase() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make its database: %w", err)
		}
	}()
	tables, err := os.ReadFile(schema)
	if err != nil {
		return fmt.Errorf("%w: %s", err, install)
	}
	parameters, err := p.parameters()
	if err != nil {
		return err
	}
	for _, f := range []string{p.database(), p.database() + "-journal"} {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	// The driver would make a file that everybody may read.
	f, err := os.OpenFile(p.database(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", p.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing once committed
	if _, err := tx.Exec(string(tables)); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO g_plugin_module_instance (gpmi_module, gpmi_name, gpmi_parameters) VALUES ('oidc', ?, ?)`, pluginName, parameters); err != nil {
		return err
	}
	hash := sha512.Sum512([]byte(p.apiKey))
	if _, err := tx.Exec(`INSERT INTO g_api_key (gak_token_hash, gak_username) VALUES (?, 'admin')`, "{SHA512}"+base64.URLEncoding.EncodeToString(hash[:])); err != nil {
		return err
	}
	return tx.Commit()
}

// parameters are those of the plugin. It signs with the first key and shows all.
func (p *Provider) parameters() ([]byte, error) {
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: p.keys})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"iss":          p.Issuer(),
		"jwks-private": string(keys),
		"jwks-show":    true,

		"allow-non-oidc":           true, // that is, plain OAuth
		"auth-type-client-enabled": true, // the only grant
		"auth-type-code-enabled":   false, "auth-type-token-enabled": false, "auth-type-password-enabled": false,
		"auth-type-device-enabled": false, "auth-type-refresh-enabled": false,
		"access-token-duration": int64(p.lifetime.Seconds()), "refresh-token-duration": 1, "code-duration": 1,

		// Any client may ask about any token and revoke it. Without a scope that
		// would let tokens do so as well, clients may ask only about their own.
		"introspection-revocation-allowed": true, "introspection-revocation-allow-target-client": true,
		"introspection-revocation-auth-scope": []string{"introspection"},

		// A token's audience is the resource that the client asks for, which
		// must be one of the client's own (RFC 8707).
		"resource-allowed": true, "resource-client-property": "resource", "resource-scope": map[string]any{}, "resource-scope-and-client-property": false,
	})
}

func newKey() (jose.JSONWebKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("make a key: %w", err)
	}
	return jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: string(jose.RS256), Use: "sig"}, nil
}

// newAPIKey returns a key for the program's administration, which must have this
// length.
func newAPIKey() string { return (rand.Text() + rand.Text())[:32] }
