// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	outsideResolver = "198.51.100.53"
	outsideGateway  = "198.51.100.7"
	outsideTraces   = "198.51.100.43"
	markerAddress   = "198.51.100.99"
)

// An island is a network namespace whose only way out ends at the test, which
// sees every packet that anything inside sends: to find a name, to connect, to
// say anything.
type island struct {
	name    string
	packets chan string // what each is for, such as "udp 198.51.100.53:53"
}

// newIsland returns nil where there can be none, for want of rights: then it
// says so loudly, and fails the test if this is a run whose result counts
// (CI=true).
func newIsland(t *testing.T) *island {
	t.Helper()
	for tool, in := range map[string]string{"ip": "iproute2", "bash": "bash", "curl": "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("no %s: install it with “apt-get install %s”", tool, in)
		}
	}
	// The name is also that of an interface, which has 15 characters at most.
	l := &island{name: fmt.Sprintf("tgtest%d", os.Getpid()), packets: make(chan string, 10_000)}
	if err := l.build(t); err != nil {
		const consequence = "THAT NO PACKET LEAVES IS NOT TESTED HERE"
		fmt.Fprintf(os.Stderr, "\n*** %s: %v\n*** It takes root and network namespaces.\n\n", consequence, err)
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI=true demands it: %v", consequence, err)
		}
		t.Logf("%s: %v", consequence, err)
		return nil
	}
	return l
}

func (l *island) build(t *testing.T) error {
	// Which resolver to ask, for what runs in the namespace.
	etc := filepath.Join("/etc/netns", l.name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	t.Cleanup(func() {
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // if nobody else has anything there
	})
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+outsideResolver+"\n"), 0o644); err != nil {
		return err
	}
	if err := command("ip", "netns", "add", l.name); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := command("ip", "netns", "delete", l.name); err != nil {
			t.Error(err)
		}
	})
	if err := command("ip", "link", "add", l.name, "type", "veth", "peer", "name", "out", "netns", l.name); err != nil {
		return err
	}
	t.Cleanup(func() { _ = command("ip", "link", "delete", l.name) }) // gone with the namespace, in time
	// The kernel must say nothing of its own: no IPv6, and no asking who has the
	// router's address.
	quiet := "echo 1 > /proc/sys/net/ipv6/conf/%s/disable_ipv6 2>/dev/null || ! test -e /proc/sys/net/ipv6"
	for _, args := range [][]string{
		{"bash", "-c", fmt.Sprintf(quiet, l.name)},
		{"ip", "link", "set", l.name, "up"},
		l.inside("bash", "-c", fmt.Sprintf(quiet, "out")),
		l.inside("ip", "link", "set", "lo", "up"),
		l.inside("ip", "address", "add", "192.0.2.1/24", "dev", "out"),
		l.inside("ip", "link", "set", "out", "up"),
		l.inside("ip", "neighbour", "add", "192.0.2.254", "lladdr", "02:00:00:00:00:fe", "dev", "out", "nud", "permanent"),
		l.inside("ip", "route", "add", "default", "via", "192.0.2.254"),
	} {
		if err := command(args[0], args[1:]...); err != nil {
			return err
		}
	}
	return l.listen(t)
}

// inside is how to run a command in the namespace.
func (l *island) inside(args ...string) []string {
	return append([]string{"ip", "netns", "exec", l.name}, args...)
}

// listen takes down every packet that comes out.
func (l *island) listen(t *testing.T) error {
	outside, err := net.InterfaceByName(l.name)
	if err != nil {
		return err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return fmt.Errorf("open a socket for packets: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "packets")
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: outside.Index}); err != nil {
		socket.Close()
		return fmt.Errorf("listen to packets: %w", err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		socket.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for frame := make([]byte, 64<<10); ; {
			n, err := socket.Read(frame)
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				t.Errorf("read packets: %v", err)
				return
			}
			l.packets <- purpose(frame[:n])
		}
	}()
	return nil
}

// purpose says what a frame of Ethernet is for.
func purpose(frame []byte) string {
	const header = 14
	if len(frame) < header+20 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return fmt.Sprintf("%x", frame[:min(len(frame), header+40)])
	}
	ip := frame[header:]
	to := netip.AddrFrom4([4]byte(ip[16:20]))
	protocol := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[ip[9]]
	if size := int(ip[0]&15) * 4; protocol != "" && len(ip) >= size+4 {
		return fmt.Sprintf("%s %s", protocol, netip.AddrPortFrom(to, binary.BigEndian.Uint16(ip[size+2:])))
	}
	return fmt.Sprintf("protocol %d to %s", ip[9], to)
}

// sent returns what has come out so far. It sends a packet itself and waits for
// that, which also shows that what is sent is seen.
func (l *island) sent(t *testing.T) (packets []string) {
	t.Helper()
	args := l.inside("bash", "-c", "echo > /dev/udp/"+markerAddress+"/9")
	if err := command(args[0], args[1:]...); err != nil {
		t.Fatal(err)
	}
	late := time.After(patience)
	for {
		select {
		case p := <-l.packets:
			if p == "udp "+markerAddress+":9" {
				return packets
			}
			packets = append(packets, p)
		case <-late:
			t.Fatalf("the packet that was sent to be seen was not; before it came %q", packets)
		}
	}
}

// instance starts an instance in the namespace.
func (l *island) instance(t *testing.T, dir string, env []string, flags ...string) *process {
	t.Helper()
	args := l.inside(append([]string{
		telemetry, "instance", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0",
		"-export-interval", "100ms", "-cleanup-interval", "1s", "-log-level", "debug",
	}, flags...)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(withoutProxy(cleanEnv()), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+outsideTraces+":4318", "OTEL_BSP_SCHEDULE_DELAY=50")
	cmd.Env = append(cmd.Env, env...)
	return launch(t, cmd, "instance")
}

// record records an event through the instance's door, from inside.
func (l *island) record(t *testing.T, i *process) {
	t.Helper()
	args := l.inside("curl", "-sS", "--max-time", "20", "--noproxy", "*", "-H", "Content-Type: application/json", "-d", mutation, "http://"+i.address+"/.api/graphql")
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != recorded {
		t.Fatalf("record an event: %v: %s", err, out)
	}
}

// awaitMore waits for n more lines of the log that match.
func (p *process) awaitMore(t *testing.T, pattern string, n int) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	at := len(p.log)
	p.mu.Unlock()
	late := time.After(patience)
	for {
		p.mu.Lock()
		fresh, changed := p.log[at:], p.lines
		at = len(p.log)
		p.mu.Unlock()
		for _, line := range fresh {
			if re.MatchString(line) {
				n--
			}
		}
		if n <= 0 {
			return
		}
		select {
		case <-changed:
		case <-p.ended:
			t.Fatalf("the process ended before %d more lines like %q:\n%s", n, pattern, p.tail(20))
		case <-late:
			t.Fatalf("%d lines like %q have not come:\n%s", n, pattern, p.tail(20))
		}
	}
}

// In the modes off and local, whoever asked for them, no packet leaves an
// instance, not even traces to where its administrator has them: not when it starts, with events in its queue from before, nor when it
// records, exports and stops.
func TestNoPacketLeaves(t *testing.T) {
	l := newIsland(t)
	if l == nil {
		return
	}
	gateways := []string{"https://telemetry.example.com", "http://" + outsideGateway + ":6080"}

	// With the mode all, what must not be seen below is seen.
	for gateway, want := range map[string]string{gateways[0]: "udp " + outsideResolver + ":53", gateways[1]: "tcp " + outsideGateway + ":6080"} {
		i := l.instance(t, t.TempDir(), nil, "-gateway", gateway, "-mode", "all")
		l.record(t, i)
		late := time.After(patience)
		for seen := map[string]bool{}; !seen[want] || !seen["tcp "+outsideTraces+":4318"]; {
			select {
			case packet := <-l.packets:
				seen[packet] = true
			case <-late:
				t.Fatalf("with the mode all and %s, %q or traces were not seen, but %v", gateway, want, seen)
			}
		}
		i.kill()
		l.sent(t) // and forget
	}

	airGapped, _ := issueLicence(t, "allow-air-gapped")
	for _, row := range []struct {
		name, mode string
		env        []string
		flags      []string
	}{
		{"off", "off", nil, []string{"-mode", "off"}},
		{"local", "local", nil, []string{"-mode", "local"}},
		{"do not track", "off", []string{"DO_NOT_TRACK=1"}, []string{"-mode", "all"}},
		{"air-gapped by licence", "off", nil, []string{"-mode", "all", "-license", airGapped}},
	} {
		for _, gateway := range gateways {
			t.Run(row.name+" "+gateway, func(t *testing.T) {
				dir := t.TempDir()
				before := l.instance(t, dir, []string{"OTEL_EXPORTER_OTLP_ENDPOINT="})
				l.record(t, before)
				before.signal(t, syscall.SIGTERM)
				before.wait(t)

				i := l.instance(t, dir, row.env, append(row.flags, "-gateway", gateway)...)
				l.record(t, i)
				i.awaitMore(t, `msg="export pass" mode=`+row.mode, 5)
				i.signal(t, syscall.SIGTERM)
				if s := i.wait(t); s.ExitCode() != 0 {
					t.Errorf("the instance ended with %v", s)
				}
				if packets := l.sent(t); len(packets) > 0 {
					t.Errorf("%d packets left: %q", len(packets), slices.Compact(packets))
				}
			})
		}
	}
}
