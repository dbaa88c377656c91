// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package door lets other processes of the same user read a warehouse that this
// one has open, because DuckDB gives a file that is being written to one
// process only. It is HTTP on loopback. How to get in is in a file beside the
// warehouse, which only the warehouse's owner can read:
//
//   - who asks proves with a token that they can read that file, and so could
//     have read the warehouse itself;
//   - who answers proves with another one that it is the process that wrote
//     the file, and not a stranger who got its port after it ended;
//   - web pages get nothing, however they are made to ask: the token is in a
//     header, Host is exactly our address, and whatever has an origin is refused.
//
// What a statement may do is the warehouse's business: the door only passes it on.
package door

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
)

// answerHeader carries the proof of who answers.
const answerHeader = "Telemetry-Door"

// key is the content of the door's file.
type key struct {
	Address string `json:"address"` // IP address and port, on loopback
	Token   string `json:"token"`   // for who asks
	Answer  string `json:"answer"`  // for who answers
	PID     int    `json:"pid"`     // for people
}

func newKey(address string) key {
	return key{address, rand.Text(), rand.Text(), os.Getpid()}
}

// write puts the file in place as a whole: nobody ever reads half of it, nor
// the whole of it without being its owner.
func (k key) write(path string) error {
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".door-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// remove removes the file, unless it is another process's by now.
func (k key) remove(path string) error {
	if present, err := readKey(path); err != nil || present != k {
		return err
	}
	return os.Remove(path)
}

// maxKeyBytes is far more than a key has.
const maxKeyBytes = 4096

func readKey(path string) (key, error) {
	f, err := os.Open(path)
	if err != nil {
		return key{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return key{}, err
	}
	var k key
	if err := json.Unmarshal(data, &k); err != nil {
		return key{}, fmt.Errorf("%s is no door's file: %w", path, err)
	}
	// Whatever the file says, neither token nor statement leaves this machine.
	if a, err := netip.ParseAddrPort(k.Address); err != nil || !a.Addr().IsLoopback() || k.Token == "" || k.Answer == "" {
		return key{}, fmt.Errorf("%s is no door's file", path)
	}
	return k, nil
}
