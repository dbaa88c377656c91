// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pacedWindow is how many messages a paced stream leaves unanswered: so many
// that it is never the sender who waits.
const pacedWindow = 1000

// A pacer hands out messages at the times at which they are due: one each interval,
// the streams in turn. One that is sent late counts from when it was due, so that
// waiting in line is waiting.
type pacer struct {
	messages []message
	interval time.Duration
	began    time.Time
	lasts    time.Duration
	sent     []int // on each stream
	alarms   []alarm
}

func newPacer(messages []message, streams int, interval time.Duration, began time.Time, lasts time.Duration) (*pacer, error) {
	p := &pacer{messages, interval, began, lasts, make([]int, streams), nil}
	for range streams {
		a, err := newAlarm()
		if err != nil {
			p.close()
			return nil, err
		}
		p.alarms = append(p.alarms, a)
	}
	return p, nil
}

// next returns a stream's next message when it is due, which is when.
func (p *pacer) next(stream int) (m message, due time.Time, ok bool) {
	k := p.sent[stream]*len(p.sent) + stream
	p.sent[stream]++
	after := time.Duration(k) * p.interval
	due = p.began.Add(after)
	if after >= p.lasts {
		return message{}, due, false
	}
	p.alarms[stream].await(due)
	return p.messages[k%len(p.messages)], due, true
}

func (p *pacer) close() {
	for _, a := range p.alarms {
		a.file.Close()
	}
}

// An alarm is a timer of the kernel's. The runtime's own wake an idle process up to
// a millisecond late, which would count as latency; and a goroutine that sleeps in
// a system call keeps others from running.
type alarm struct{ file *os.File }

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return alarm{}, fmt.Errorf("make a timer: %w", err)
	}
	return alarm{os.NewFile(uintptr(fd), "timer")}, nil
}

// await returns at a time, or at once if it has passed.
func (a alarm) await(at time.Time) {
	left := time.Until(at)
	if left <= 0 {
		return
	}
	conn, err := a.file.SyscallConn()
	if err == nil {
		var failed error
		err = conn.Control(func(fd uintptr) {
			failed = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(left.Nanoseconds())}, nil)
		})
		err = errors.Join(err, failed)
	}
	if err == nil {
		_, err = a.file.Read(make([]byte, 8)) // how often it has expired
	}
	if err != nil {
		time.Sleep(time.Until(at))
	}
}
