// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

// childArg makes this program run one server, in place of the benchmark. What
// the server takes can be told apart from what the sender takes only if they
// are processes of their own.
const childArg = "child"

// childConfig is the argument after childArg.
type childConfig struct {
	Role     string            // of roles
	Topic    string            // URL; for the obvious way, empty for none
	KeysFile string            // of the gateway
	Target   string            // of whoever sends: the gateway's address
	Database string            // of an exporter: its instance's; of what lands: the warehouse's file
	License  string            // of an exporter
	Events   int               // that land
	Program  string            // the command that is shipped
	Profile  string            // file for a CPU profile
	Env      map[string]string // set before anything else
	Procs    int               // processors to use, zero for all
	Nice     int
}

// usage is what a child has taken since it started.
type usage struct {
	CPU            time.Duration
	Mallocs, Bytes uint64        // allocated on the heap
	Offered        int64         // by the flood: events sent,
	Admitted       int64         // those accepted, and
	RefusedStreams int64         // streams refused as a whole
	Resident, Peak int64         // bytes resident now, and at most of all the time
	Exported       int64         // by an exporter: events acknowledged; by what lands or fills a bare table: new rows,
	Took           time.Duration // in this time
	P50, P99       float64       // ms until the events were there
}

func (u usage) minus(v usage) usage {
	return usage{
		CPU: u.CPU - v.CPU, Mallocs: u.Mallocs - v.Mallocs, Bytes: u.Bytes - v.Bytes,
		Offered: u.Offered - v.Offered, Admitted: u.Admitted - v.Admitted, RefusedStreams: u.RefusedStreams - v.RefusedStreams,
		Exported: u.Exported - v.Exported,
	}
}

// ownUsage is what this process has taken.
func ownUsage() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("read CPU time: %w", err)
	}
	resident, peak, err := residentMemory("self")
	if err != nil {
		return usage{}, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Mallocs: m.Mallocs, Bytes: m.TotalAlloc,
		Resident: resident, Peak: peak,
	}, nil
}

// residentMemory is how many bytes a process, given by its ID, has resident now, and
// has had at most. What getrusage says counts the parent's memory as well.
func residentMemory(process string) (resident, peak int64, err error) {
	status, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		var kib int64
		if n, _ := fmt.Sscanf(value, "%d kB", &kib); n == 1 {
			switch name {
			case "VmRSS":
				resident = kib << 10
			case "VmHWM":
				peak = kib << 10
			}
		}
	}
	if resident == 0 || peak == 0 {
		return 0, 0, errors.New("read memory: the status of process " + process + " does not have it")
	}
	return resident, peak, nil
}

// child is a running child as its parent sees it.
type child struct {
	Address string
	role    string
	log     string
	command *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
}

// startChild starts a child and waits until it serves.
func startChild(dir string, c childConfig) (*child, error) {
	log, err := os.CreateTemp(dir, c.Role+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Role, err)
	}
	defer log.Close()
	argument, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	k := &child{role: c.Role, log: log.Name(), command: exec.Command(self, childArg, string(argument))}
	k.command.Stderr = log
	k.command.Dir = dir
	if k.in, err = k.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := k.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	k.out = json.NewDecoder(out)
	if err := k.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Role, err)
	}
	if err := k.out.Decode(&k.Address); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %s", c.Role, k.lastWords()), k.stop())
	}
	return k, nil
}

func (k *child) usage() (usage, error) {
	var u usage
	if _, err := io.WriteString(k.in, "usage\n"); err != nil {
		return u, fmt.Errorf("ask %s for its usage: %w", k.role, err)
	}
	if err := k.out.Decode(&u); err != nil {
		return u, fmt.Errorf("%s ended: %s", k.role, k.lastWords())
	}
	return u, nil
}

// stop ends the child and waits for it.
func (k *child) stop() error {
	k.in.Close()
	timer := time.AfterFunc(10*time.Second, func() { k.command.Process.Kill() })
	defer timer.Stop()
	if err := k.command.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", k.role, err, k.lastWords())
	}
	return nil
}

// lastWords is the end of what the child wrote to standard error.
func (k *child) lastWords() string {
	data, err := os.ReadFile(k.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-500):]))
}

// beChild is main of a child. It serves until its parent closes standard input,
// which it does even when it dies.
func beChild(argument string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(argument), &c); err != nil {
		return fmt.Errorf("the argument %s is for this program's own use: %w", childArg, err)
	}
	for k, v := range c.Env {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	if c.Procs > 0 {
		runtime.GOMAXPROCS(c.Procs)
	}
	if c.Nice > 0 {
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, c.Nice); err != nil {
			return fmt.Errorf("set priority: %w", err)
		}
	}
	if c.Profile != "" {
		f, err := os.Create(filepath.Clean(c.Profile))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	serve, ok := roles()[c.Role]
	if !ok {
		return fmt.Errorf("no role %q", c.Role)
	}
	s, err := serve(c)
	if err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	if err := answers.Encode(s.address); err != nil {
		return err
	}
	for requests := bufio.NewScanner(os.Stdin); requests.Scan(); {
		var counted usage
		if s.count != nil {
			if err := s.count(&counted); err != nil {
				return err
			}
		}
		u, err := ownUsage()
		if err != nil {
			return err
		}
		u.Offered, u.Admitted, u.RefusedStreams = counted.Offered, counted.Admitted, counted.RefusedStreams
		u.Exported, u.Took, u.P50, u.P99 = counted.Exported, counted.Took, counted.P50, counted.P99
		if counted.Resident > 0 {
			u.Resident, u.Peak = counted.Resident, counted.Peak
		}
		if err := answers.Encode(u); err != nil {
			return err
		}
	}
	return s.stop()
}
