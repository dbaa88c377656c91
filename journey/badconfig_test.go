// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/telemetrygateway/telemetry/internal/topic/emulator"
)

// TestBadConfiguration configures the gateway wrongly. Each time it ends with
// exit code 2 and one line that says what to do, and has touched nothing.
func TestBadConfiguration(t *testing.T) {
	emulator.Start(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, public := issueLicence(t)

	for _, row := range []struct {
		name string
		args []string
		want string // in the line
	}{
		{"missing key file", []string{"-license-keys", "missing.pub"}, "missing.pub"},
		{"bad line in key file", []string{"-license-keys", "text"}, "line 1"},
		{"empty key file", []string{"-license-keys", "empty"}, "no public keys"},
		{"missing revocation file", []string{"-license-keys", public, "-license-revoked", "missing.txt"}, "missing.txt"},
		{"unknown topic parameter", []string{"-topic", "sqlite://t.db?retain=1h"}, `unknown parameter "retain"`},
		{"bad topic parameter", []string{"-topic", "sqlite://t.db?retention=soon"}, "retention=soon"},
		{"unknown dead letter parameter", []string{"-deadletter", "sqlite://t.db?retain=1h"}, `unknown parameter "retain"`},
		{"unknown kind of topic", []string{"-topic", "kafka://t"}, `unknown kind of topic "kafka"`},
		{"unknown kind of dead letters", []string{"-deadletter", "kafka://t"}, `unknown kind of topic "kafka"`},
		{"topic without a path", []string{"-topic", "sqlite://"}, "sqlite://"},
		{"topic below a file", []string{"-topic", "sqlite://text/t.db"}, "text"},
		{"dead letters below a file", []string{"-deadletter", "sqlite://text/t.db"}, "text"},
		{"topic where nobody may write", []string{"-topic", "sqlite:///proc/telemetry/t.db"}, "/proc"},
		{"topic is another file", []string{"-topic", "sqlite://text"}, "text"},
		{"topic is a folder", []string{"-topic", "sqlite://."}, "not a regular file"},
		{"topic and dead letters are one file", []string{"-topic", "sqlite://t.db", "-deadletter", "sqlite://t.db"}, "-deadletter"},
		{"they are one file in two spellings", []string{"-topic", "sqlite://t.db?retention=1h", "-deadletter", "sqlite://./%74.db"}, "-deadletter"},
		{"Pub/Sub topic that does not exist", []string{"-topic", "gcppubsub://projects/p/topics/none"}, "gcloud pubsub topics create none"},
		{"Pub/Sub dead letters that do not exist", []string{"-deadletter", "gcppubsub://projects/p/topics/none"}, "gcloud pubsub topics create none"},
		{"Pub/Sub subscription as topic", []string{"-topic", "gcppubsub://projects/p/subscriptions/none"}, "topics"},
		{"busy port", []string{"-listen", taken.Addr().String()}, "-listen"},
		{"busy admin port", []string{"-admin", taken.Addr().String()}, "-admin"},
		{"address that is none", []string{"-listen", "nowhere"}, "-listen"},
		{"certificate without key", []string{"-tls-cert", "text"}, "-tls-key"},
		{"key without certificate", []string{"-tls-key", "text"}, "-tls-cert"},
		{"certificate that is none", []string{"-tls-cert", "text", "-tls-key", "text"}, "text"},
		{"unknown flag", []string{"-topics", "memory:"}, "did you mean -topic?"},
		{"number that is none", []string{"-max-message-bytes", "4MB"}, "-max-message-bytes"},
		{"number out of range", []string{"-max-message-bytes", "1"}, "-max-message-bytes is out of range: it must be from 65536 to 100663296"},
		{"duration that is none", []string{"-stop-timeout", "20"}, "-stop-timeout"},
		{"neither allow nor deny", []string{"-unlicensed", "maybe"}, "allow or deny"},
		{"unknown form of the licence key", []string{"-payload-license-key", "half"}, "fingerprint"},
		{"unknown log format", []string{"-log-format", "xml"}, "xml"},
		{"networks that are none", []string{"-trusted-proxies", "10.0.0.1"}, "10.0.0.0/8"},
		{"argument that is none", []string{"start"}, `"start"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string]string{"text": "this is no key\n", "empty": ""} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, dir)
			// What a row does not name is as it should be, so that it would be
			// made if it came before what is wrong.
			args := append([]string{"gateway", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, row.args...)
			stdout, stderr, exit := run(t, dir, nil, args...)
			if exit != 2 {
				t.Errorf("exit code %d, want 2", exit)
			}
			if stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "telemetry gateway: ") || !strings.Contains(stderr, row.want) {
				t.Errorf("it printed %q and on stderr, where one line with %q should be:\n%s", stdout, row.want, stderr)
			}
			if after := listing(t, dir); !slices.Equal(before, after) {
				t.Errorf("it left %q, there was %q", after, before)
			}
		})
	}
}

// listing returns every file and folder, with modes and times.
func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		names = append(names, path+" "+info.Mode().String()+" "+info.ModTime().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}
